"""What a running task says of how far it is, and where it shows."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from django_taskq import Task, TaskqError
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.context import TaskContext
from django_taskq.core.message import Message
from django_taskq.core.progress import Progress, decode_progress, encode_progress
from django_taskq.management.commands.taskq_status import as_json, as_text
from django_taskq.management.status import look
from django_taskq.worker.notes import Notes
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger


@pytest.mark.django_db
@pytest.mark.parametrize("task", [tasks.reports, tasks.reports_async])
def test_progress_shows_while_the_task_runs(running: WorkerProcess, ledger: Ledger, task: Task[..., None]) -> None:
    handle = task.delay(ledger.path, ledger.gate, 30, 100, "resizing")
    ledger.wait()
    assert wait_for(lambda: handle.progress, 3) == Progress(30, 100, "resizing")
    [found] = [each for worker in Inspector(get_broker()).workers() for each in worker.running]
    assert (found.id, found.progress) == (handle.id, Progress(30, 100, "resizing"))
    assert "[###.......]  30% resizing" in as_text(look(get_broker()))
    [worker] = json.loads(as_json(look(get_broker())))["workers"]
    assert worker["running"][0]["progress"] == {"current": 30.0, "total": 100.0, "text": "resizing"}
    ledger.open_gate()
    handle.get(timeout=3)
    assert handle.progress is None


@pytest.mark.django_db
def test_without_a_total_there_is_no_bar(running: WorkerProcess, ledger: Ledger) -> None:
    handle = tasks.reports.delay(ledger.path, ledger.gate, 1234)
    silent = tasks.holds.delay(ledger.path, ledger.gate)
    ledger.wait(2)
    progress = wait_for(lambda: handle.progress, 3)
    assert progress == Progress(1234)
    assert progress.share is None
    assert silent.progress is None
    assert " 1234 " in as_text(look(get_broker()))
    ledger.open_gate()


@pytest.mark.parametrize("numbers", [("3",), (math.nan,), (1, math.inf), (None, 3), (1, "many")])
def test_only_numbers_are_progress(numbers: Any) -> None:
    context = TaskContext(Message(b"i" * 16, "t"), tasks.reports, "default", None, 0)
    with pytest.raises(TaskqError, match=r"progress\(\) takes numbers"):
        context.progress(*numbers)


def test_outside_a_worker_it_goes_nowhere() -> None:
    context = TaskContext(Message(b"i" * 16, "t"), tasks.reports, "default", None, 0)
    context.progress(1, 2, "nobody looks")


# --- notes ------------------------------------------------------------------------------------------------------------


def test_a_slot_reports_until_its_next_task() -> None:
    notes = Notes(2)
    notes.set(0, b"1-1 default:0", 1.0)
    notes.set(1, b"1-2 default:0", 1.0)
    notes.report(0, Progress(1, None, "half"))
    notes.report(0, Progress(2, 3, "whole"))
    assert [note.progress for note in notes.read()] == [Progress(2, 3, "whole"), None]
    notes.clear(0)
    notes.set(0, b"1-3 default:0", 2.0)
    assert [note.progress for note in notes.read()] == [None, None]


@pytest.mark.parametrize("text", ["é" * 500, "a" + "😀" * 100, "\ud800 alone", "line\nbreak\x00"])
def test_any_text_fits(text: str) -> None:
    notes = Notes(1)
    notes.set(0, b"1-1 default:0", 1.0)
    notes.report(0, Progress(1, 2, text))
    [note] = notes.read()
    assert note.progress is not None
    assert len(note.progress.text.encode()) <= 120
    assert note.progress.text.startswith(text.encode("utf-8", "replace").decode()[:4])
    line = encode_progress(note.progress)
    assert "\n" not in line
    assert decode_progress(line) == note.progress


@pytest.mark.parametrize("line", ["", "{}", "[", '["x"]', "[1, 2, 3]"])
def test_what_is_no_progress_is_none(line: str) -> None:
    assert decode_progress(line) is None


@pytest.mark.parametrize(("progress", "share"), [((3, 4), 0.75), ((9, 4), 1.0), ((-1, 4), 0.0), ((1, 0), None)])
def test_a_share_is_between_nothing_and_all(progress: tuple[float, float], share: float | None) -> None:
    assert Progress(*progress).share == share
