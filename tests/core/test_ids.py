from __future__ import annotations

import multiprocessing
import threading
import time
import uuid

import pytest

from django_taskq.core.ids import id_from_str, id_to_str, new_id


def test_an_id_is_a_uuid_of_version_7_that_holds_its_time() -> None:
    before = time.time_ns() // 1_000_000
    made = uuid.UUID(bytes=new_id())
    assert (made.version, made.variant) == (7, uuid.RFC_4122)
    assert before <= made.int >> 80 <= time.time_ns() // 1_000_000


def test_ids_made_one_after_the_other_sort_by_creation() -> None:
    made = []
    for _ in range(100):
        made.append(new_id())
        time.sleep(0.000_001)  # the fraction of a millisecond has steps of a quarter of a microsecond
    assert made == sorted(made)


def test_ids_of_many_threads_differ() -> None:
    made: list[bytes] = []
    threads = [threading.Thread(target=lambda: made.extend(new_id() for _ in range(2000))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 16_000


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_no_random_bits_are_shared_with_a_forked_child() -> None:
    new_id()  # so that this process has some in store
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put([new_id()[8:] for _ in range(100)]))
    child.start()
    theirs = set(queue.get())
    child.join()
    assert not theirs & {new_id()[8:] for _ in range(100)}


def test_text_and_bytes_of_an_id() -> None:
    id = new_id()
    assert id_to_str(id) == str(uuid.UUID(bytes=id))
    assert id_from_str(id_to_str(id)) == id_from_str(id.hex().upper()) == id
    for wrong in ("", "abc", "g" * 32, None, 7):
        with pytest.raises(ValueError, match="is not a task id"):
            id_from_str(wrong)  # type: ignore[arg-type]
