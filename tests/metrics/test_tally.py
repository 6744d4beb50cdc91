"""What a process counts, and how it is added up."""

from __future__ import annotations

import pickle
import threading
import time
from multiprocessing import Pipe

import pytest

from django_taskq.broker.delivery import Delivery, Lane, Settlement, bury, complete, release, retry
from django_taskq.worker.reporter import Reporter
from django_taskq.worker.tally import BOUNDS, MOST_TASKS, Increments, Tally

LANE = Lane("{taskq}:queue:mail:0", b"mail:0", "mail", 0)


def ended(task: str | None, wait: float | None = 0.2, ran: float | None = 3.0) -> Delivery:
    delivery = Delivery(LANE, b"1-1", [], 0, False, time.monotonic())
    if task is not None:
        delivery.spent = (task, wait, ran)
    return delivery


def counted(*settlements: Settlement) -> Increments:
    """As the settler tells of them: those of one script at once."""
    tally = Tally()
    for script in {settlement.script.name for settlement in settlements}:
        tally.settled([settlement for settlement in settlements if settlement.script.name == script])
    return tally.take()


def test_every_end_is_counted_by_task_queue_and_state() -> None:
    found = counted(
        complete(ended("a"), b"i", "succeeded", b"", ""),
        complete(ended("a"), b"i", "succeeded", b"", ""),
        complete(ended("a", None, None), b"i", "cancelled", b"", ""),
        retry(ended("a"), b"i", 1.0, [], ""),
        bury(ended("b"), b"i", "timeout", b"", ""),
    )
    assert found.ended["a", "mail"].states == {"succeeded": 2, "cancelled": 1, "retried": 1}
    assert found.ended["b", "mail"].states == {"failed": 1}
    assert found.dead == {"timeout": 1}
    runs, waits = found.ended["a", "mail"].runs, found.ended["a", "mail"].waits
    assert (sum(runs.counts), runs.total) == (3, 9.0)  # what was cancelled before it began has none
    assert runs.counts[BOUNDS.index(5.0)] == 3
    assert waits.counts[BOUNDS.index(0.25)] == 3


@pytest.mark.parametrize("of_each", [1, 3, 40])
def test_a_batch_counts_as_its_tasks_do_one_by_one(of_each: int) -> None:
    spans = (0.0, 0.004, 0.005, 0.3, 0.3, 7.0, 1e9)
    ends = [
        complete(ended(task, wait, ran), b"i", state, b"", "")
        for task in "abc"
        for wait, ran in zip(spans, reversed(spans), strict=True)
        for state in ("succeeded", "discarded")
    ] * of_each
    ends += [complete(ended("c", None, None), b"i", "cancelled", b"", "")] * of_each
    together, one_by_one = Tally(), Tally()
    together.settled(ends)
    for end in ends:
        one_by_one.settled([end])
    found, wanted = together.take().ended, one_by_one.take().ended
    assert set(found) == {("a", "mail"), ("b", "mail"), ("c", "mail")}
    for series, ends_of in found.items():
        assert ends_of.states == wanted[series].states
        for mine, theirs in ((ends_of.waits, wanted[series].waits), (ends_of.runs, wanted[series].runs)):
            assert mine.counts == theirs.counts
            assert mine.total == pytest.approx(theirs.total)


def test_what_is_handed_on_has_not_ended() -> None:
    assert counted(release(ended("a"))).ended == {}


def test_a_name_that_no_task_has_makes_no_series() -> None:
    found = counted(bury(ended(None), b"i", "unknown_task", b"", ""), retry(ended(None), b"i", 5.0, [], ""))
    assert {series: dict(ends.states) for series, ends in found.ended.items()} == {("unknown", "mail"): {"failed": 1}}
    assert found.dead == {"unknown_task": 1}


def test_a_bound_belongs_to_the_bucket_below_it() -> None:
    spans = (0.0, 1.0, 1.0001, 1e9)
    found = counted(*(complete(ended("a", seconds, 0.0), b"i", "succeeded", b"", "") for seconds in spans))
    counts = found.ended["a", "mail"].waits.counts
    assert (sum(counts[: BOUNDS.index(1.0) + 1]), counts[-1]) == (2, 1)


def test_tasks_beyond_the_bound_share_a_series() -> None:
    tally = Tally()
    for number in range(MOST_TASKS + 100):
        tally.settled([complete(ended(f"task{number}"), b"i", "succeeded", b"", "")])
        tally.sent(f"task{number}", "mail")
    one = tally.take()
    both = Increments()
    both.merge(one)
    both.merge(counted(complete(ended("yet another"), b"i", "succeeded", b"", "")))
    for increments, others in ((one, 100), (both, 101)):
        assert len(increments.ended) == MOST_TASKS + 1
        assert increments.ended["other", "mail"].states["succeeded"] == others
    assert one.sent["other", "mail"] == 100


def test_parts_are_small_and_add_up_to_the_whole() -> None:
    tally = Tally()
    for number in range(MOST_TASKS):
        name = f"shop.orders.tasks.a_rather_long_name_{number}"
        tally.settled([bury(ended(name), b"i", "failed", b"", "")])
        tally.sent(name, "mail")
    tally.reclaimed(7)
    whole = tally.take()
    pieces = [pickle.dumps(part) for part in whole.parts()]
    assert max(map(len, pieces)) < 32_768
    total = Increments()
    for piece in pieces:
        total.merge(pickle.loads(piece))
    assert (total.sent, total.dead, total.reclaimed) == (whole.sent, whole.dead, 7)
    assert {s: e.states for s, e in total.ended.items()} == {s: e.states for s, e in whole.ended.items()}


def test_a_supervisor_that_does_not_listen_holds_up_nobody_and_misses_nothing() -> None:
    ours, theirs = Pipe()
    reporter, sent, full = Reporter(ours), 0, 0
    for number in range(200):
        tally = Tally()
        for task in range(100):
            tally.sent(f"{'x' * 100}{task}", f"queue{number}")
        began = time.monotonic()
        reporter.count(tally.take())
        assert time.monotonic() - began < 1
        sent += 100
        full += bool(reporter._unsent.sent)
    assert full > 50
    total = Increments()
    while theirs.poll(0):
        word, part = theirs.recv()
        assert word == "counted"
        total.merge(part)
    reader = threading.Thread(
        target=lambda: [total.merge(theirs.recv()[1]) for _ in iter(lambda: theirs.poll(1), False)]
    )
    reader.start()
    reporter.count(Increments(), last=True)
    reader.join()
    assert sum(total.sent.values()) == sent


def test_what_is_taken_is_not_taken_again() -> None:
    tally = Tally()
    tally.sent("a", "mail")
    assert tally.take().sent == {("a", "mail"): 1}
    assert not list(tally.take().parts())
