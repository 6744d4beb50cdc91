"""taskq_status --watch on a terminal: the live view, driven by Textual's pilot, against a real server."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from rich.text import Text
from textual.pilot import Pilot
from textual.widgets import DataTable, Sparkline, Static

from django_taskq.broker import Broker, get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.core.outcome import Outcome
from django_taskq.core.progress import Progress
from django_taskq.management.live import rows
from django_taskq.management.live.glimpse import Glimpse, Rate, Rates
from django_taskq.management.live.view import Help, LiveView
from django_taskq.management.status import look
from tests.commands.conftest import Manage, record
from tests.sampleapp.tasks import add
from tests.servers import RedisServer, wait_for
from tests.worker.tasks import reports

if TYPE_CHECKING:
    from tests.conftest import StartWorker

pytestmark = pytest.mark.django_db(transaction=True)


def drive(script: Callable[[LiveView, Pilot[None]], Awaitable[None]], *, every: float = 0.1) -> LiveView:
    view = LiveView(get_broker(), every)

    async def run() -> None:
        async with view.run_test(size=(160, 60)) as pilot:
            await script(view, pilot)

    asyncio.run(run())
    return view


async def until(pilot: Pilot[None], condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await pilot.pause(0.02)


def texts(view: LiveView, table: str) -> list[list[str]]:
    found = view.screen_stack[0].query_one(f"#{table}", DataTable)
    return [[str(cell) for cell in found.get_row(row.key)] for row in found.ordered_rows]


def said(view: LiveView, name: str) -> str:
    return str(view.query_one(f"#{name}", Static).render())


@pytest.fixture
def queues(settings: Any, broker: Broker) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {}, "mail": {}}}


def test_a_queue_is_chosen_paused_and_resumed(queues: None) -> None:
    async def script(view: LiveView, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(texts(view, "queues")) == 2)
        await pilot.press("down", "p")
        await until(pilot, lambda: texts(view, "queues")[1][-1] == "paused")
        assert Inspector(get_broker()).queues(["default", "mail"])[1].paused
        assert view.query_one("#queues", DataTable).cursor_row == 1
        await pilot.press("r")
        await until(pilot, lambda: texts(view, "queues")[1][-1] == "")
        await pilot.press("question_mark")
        assert isinstance(view.screen, Help)
        await asyncio.to_thread(add.delay, 1, 2)  # looks go on behind it
        await until(pilot, lambda: texts(view, "queues")[0][1] == "1")
        await pilot.press("p")  # closes the page, and pauses nothing
        await pilot.pause()
        assert not isinstance(view.screen, Help)
        assert not Inspector(get_broker()).queues(["mail"])[0].paused
        await pilot.press("q")

    assert drive(script).return_code == 0


def test_numbers_rates_and_failures_follow(queues: None) -> None:
    async def script(view: LiveView, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(texts(view, "queues")) == 2)
        await asyncio.to_thread(add.delay_many, [((1, 2), {})] * 40)
        await until(pilot, lambda: texts(view, "queues")[0][1] == "40")
        await until(pilot, lambda: texts(view, "queues")[0][6] == "0.0")
        assert "40 ready" in said(view, "summary")
        assert len(view.query_one(Sparkline).data or ()) == 120
        [failure] = texts(view, "failures")
        assert failure[1:6] == ["shop.tasks.send", "mail", "failed", "BadError: [red]no [2J such[/] address", "0"]

    error = "[red]no\x1b[2J such[/] address"
    outcome = Outcome(b"0123456789abcdef", 1, "failed", True, task="shop.tasks.send", queue="mail", reason="failed")
    record(msgspec.structs.replace(outcome, error_class="x.BadError", error_message=error, finished=time.time()))
    drive(script)


def test_redis_away_is_said_and_keys_still_answer(queues: None, redis_server: RedisServer) -> None:
    async def script(view: LiveView, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(texts(view, "queues")) == 2)
        await asyncio.to_thread(redis_server.stop)
        await until(pilot, lambda: "Redis away since" in said(view, "trouble"))
        assert re.search(r"Redis away since \d\d:\d\d:\d\d; this is what was seen before", said(view, "trouble"))
        assert len(texts(view, "queues")) == 2
        began = time.monotonic()
        await pilot.press("p", "question_mark")
        assert isinstance(view.screen, Help)
        assert time.monotonic() - began < 1
        await pilot.press("escape")
        await until(pilot, lambda: any(n.severity == "error" for n in view._notifications))
        await asyncio.to_thread(redis_server.start)
        await until(pilot, lambda: not view.query_one("#trouble").display)

    drive(script)


def test_a_slow_redis_does_not_hold_up_the_view(queues: None, settings: Any, redis_server: RedisServer) -> None:
    """It does not answer at all while this goes on: what is shown has not waited for it."""
    settings.TASKQ = {**settings.TASKQ, "BROKER_OPTIONS": {"socket_timeout": 600}}

    async def script(view: LiveView, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: len(texts(view, "queues")) == 2)
        redis_server.freeze()
        try:
            await pilot.pause(0.3)  # several looks would be due; one is under way
            await until(pilot, lambda: view._looking)
            await pilot.press("question_mark")
            assert isinstance(view.screen, Help)
            assert view._looking
        finally:
            redis_server.thaw()

    drive(script)


def test_workers_and_running_tasks_with_their_progress(worker: StartWorker, tmp_path: Path) -> None:
    process = worker("--threads", "2", tasks=["tests.worker.tasks"])
    gate = tmp_path / "gate"
    handle = reports.delay(str(tmp_path / "ledger"), str(gate), 40, 100, "half [b]way[/b]")

    async def script(view: LiveView, pilot: Pilot[None]) -> None:
        await until(pilot, lambda: any("40%" in row[4] for row in texts(view, "running")))
        [running] = texts(view, "running")
        assert running[0] == "tests.worker.tasks.reports"
        assert running[4] == "████████░░░░░░░░░░░░  40% half [b]way[/b]"
        assert running[6] == handle.id
        [shown] = texts(view, "workers")
        assert shown[:4] == [process.ids[0], "running", "default", "1 of 2+200"]

    drive(script)
    gate.touch()
    handle.get(timeout=5)


def test_rates_are_of_the_span_between_two_looks(queues: None) -> None:
    seen = look(get_broker())
    rates = Rates()
    rates.add(Glimpse(seen, {"mail:failed": 5}, []))
    assert rates.by_queue == {}
    later = [queue._replace(ready=30) if queue.name == "mail" else queue for queue in seen.queues]
    counts = {"mail:failed": 7, "mail:succeeded": 8}
    rates.add(Glimpse(seen._replace(now=seen.now + 2, queues=later), counts, []))
    assert rates.by_queue["mail"] == Rate(arrived=20.0, ended=5.0, failed=1.0)
    assert rates.by_queue[""] == Rate(arrived=20.0, ended=5.0, failed=1.0)
    rates.add(Glimpse(seen._replace(now=seen.now + 4), {}, []))  # somebody emptied the namespace
    assert rates.by_queue["mail"] == Rate()


@pytest.mark.parametrize(
    ("progress", "drawn"),
    [
        (None, "-"),
        (Progress(7, None, "pages"), "7 pages"),
        (Progress(1, 2, "x"), "██████████░░░░░░░░░░  50% x"),
        (Progress(3, 2), "████████████████████ 100% "),
    ],
)
def test_progress_is_drawn(progress: Progress | None, drawn: str) -> None:
    assert rows.bar(progress).plain == drawn


def test_text_of_a_task_is_no_markup_and_no_control_sequence() -> None:
    assert rows.shown("[bold]\x1b[31m\nx\u202e") == Text("[bold] [31m x ", no_wrap=True, end="")
    assert rows.shown("x" * 200).cell_len == rows.LONGEST


def test_without_a_terminal_it_stays_plain(manage: Manage) -> None:
    watching = manage.start("taskq_status", "--watch", "0.1", stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    assert watching.stdout is not None
    assert watching.stdout.readline().split()[:2] == ["QUEUE", "READY"]
    watching.kill()
    watching.communicate()


def test_on_a_terminal_it_is_live(manage: Manage) -> None:
    ours, theirs = pty.openpty()
    environment = {**manage.env, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
    process = subprocess.Popen(
        [*manage.command, "taskq_status", "--watch"], env=environment, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    shown = b""

    def drawn() -> bool:
        nonlocal shown
        shown += os.read(ours, 65_536)
        return b"Pause queue" in shown

    wait_for(drawn, 60)
    os.write(ours, b"q")
    while True:
        try:
            if not os.read(ours, 65_536):
                break
        except OSError:
            break
    assert process.wait(10) == 0
    os.close(ours)


def test_without_textual_the_plain_view_says_once_how_to_get_the_other(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from django_taskq.management.commands.taskq_status import Command

    monkeypatch.delitem(sys.modules, "django_taskq.management.live.view")
    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setattr("django_taskq.management.commands.taskq_status.ADVICE", 0.0)
    assert Command()._live(broker, 1.0) is False
    assert "pip install 'django-taskq-redis[watch]'" in capsys.readouterr().err
