"""The options of taskq_worker that decide when a worker, or one of its processes, ends."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from django_taskq.broker import get_broker
from django_taskq.broker.submission import Submission
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from tests.conftest import StartWorker
from tests.servers import ROOT, wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger, losses_of, task_processes, traces


def test_a_burst_runs_what_is_ready_and_ends(start: StartWorker, ledger: Ledger) -> None:
    handles = tasks.works.delay_many([((ledger.path, 0), {})] * 50)
    later = tasks.works.using(run_after=60).delay(ledger.path, 0)
    process = start("--burst")
    began = time.monotonic()
    assert process.wait() == 0
    assert time.monotonic() - began < 10  # `later` is due in 60
    assert len(ledger.events("end")) == 50
    assert all(handle.get(timeout=1) == "" for handle in handles)
    later.refresh()
    assert later.status == "scheduled"
    assert traces() == []


def test_a_burst_runs_what_its_tasks_send(start: StartWorker, ledger: Ledger) -> None:
    tasks.spawns.delay(ledger.path, 3, 6)
    retried = tasks.fails.using(max_retries=1, queue_name="mail").delay(f"{ledger.path}-retried", 0)
    assert start("--burst", "--processes", "3", "--threads", "2").wait(15) == 0
    assert len(ledger.read()) == 1 + 6 + 36 + 216
    assert retried.get(timeout=1) == 1


def test_a_burst_does_not_end_before_a_retry_that_is_due(start: StartWorker, ledger: Ledger) -> None:
    tasks.asks_again.delay(ledger.path, 0)
    start("--burst").wait()
    assert len(ledger.read()) == 2


@pytest.mark.slow
def test_a_burst_goes_on_after_the_death_of_its_process(start: StartWorker, ledger: Ledger) -> None:
    dying = tasks.dies_once.delay(ledger.path)
    handles = tasks.works.delay_many([((ledger.path, 0.05), {})] * 20)
    assert start("--burst", "--threads", "2").wait(15) == 0
    assert dying.get(timeout=1) == 1
    for handle in handles:
        handle.get(timeout=1)


def test_a_burst_replaces_a_process_that_has_run_enough(start: StartWorker) -> None:
    handles = tasks.my_pid.delay_many([((), {})] * 60)
    assert start("--burst", "--max-tasks", "20", "--threads", "1").wait(15) == 0
    assert {losses_of(handle) for handle in handles} == {0}
    pids = [handle.get(timeout=1) for handle in handles]
    assert [pids.count(pid) for pid in set(pids)] == [20, 20, 20]


def test_a_process_makes_way_after_so_many_tasks(start: StartWorker) -> None:
    process = start("--max-tasks", "10", "--threads", "2")
    before = task_processes(process)
    for _ in range(10):
        assert tasks.my_pid.delay().get(timeout=5) in before
    wait_for(lambda: len(task_processes(process)) == 1 and task_processes(process) != before, 5)
    assert tasks.my_pid.delay().get(timeout=5) not in before
    assert re.search(r"makes way for a new one: it has been given 10 tasks \(--max-tasks\)", process.output())
    assert process.terminate() == 0
    assert traces() == []


@pytest.mark.slow
def test_what_runs_beside_the_last_task_is_finished_first(start: StartWorker, ledger: Ledger) -> None:
    process = start("--max-tasks", "3", "--threads", "2")
    old = task_processes(process)[0]
    long = tasks.works.delay(ledger.path, 2.5, "long")
    ledger.wait()
    for _ in range(3):
        tasks.my_pid.delay().get(timeout=5)
    wait_for(lambda: "makes way" in process.output())
    assert wait_for(lambda: tasks.my_pid.delay().get(timeout=5) != old)
    assert long.get(timeout=5) == "long"
    assert len(ledger.events()) == 1
    wait_for(lambda: old not in process.children())


def test_a_process_makes_way_when_it_uses_too_much_memory(start: StartWorker) -> None:
    process = start("--max-memory", "200")
    pid = tasks.hoards.delay(250).get(timeout=5)
    wait_for(lambda: tasks.my_pid.delay().get(timeout=5) != pid, 5, interval=0.1)
    assert "it uses more than 200 MB (--max-memory)" in process.output()


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--queues", "default,nail"), "'nail' is not declared"),
        (("--threads", "0"), "argument --threads: '0' must be a whole number, 1 or more"),
        (("--processes", "x"), "argument --processes: 'x' must be a whole number, 1 or more"),
        (("--max-tasks", "-1"), "argument --max-tasks: '-1' must be a whole number, 1 or more"),
        (("--shutdown-timeout", "-1"), "argument --shutdown-timeout: '-1' must be a whole number, 0 or more"),
    ],
)
def test_an_option_that_makes_no_sense_is_an_error(arguments: tuple[str, str], problem: str) -> None:
    with pytest.raises(CommandError, match=re.escape(problem)):
        call_command("taskq_worker", *arguments)


APP = """
from django_taskq import task

@task(name="reloaded")
def reloaded() -> str:
    return {answer!r}
"""


@pytest.mark.slow
def test_reload_restarts_the_worker_when_a_file_of_the_project_changes(start: StartWorker, tmp_path: Path) -> None:
    package = tmp_path / "reloadedapp"
    package.mkdir()
    (package / "__init__.py").touch()
    module = package / "tasks.py"
    module.write_text(APP.format(answer="old"))
    process = start(
        "--reload",
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "TASKQ_TEST_APP": "reloadedapp"},
        wait=False,
    )
    broker = get_broker()
    wait_for(lambda: broker.connections.execute("ZCARD", broker.keys.workers), 30)
    assert run_by_name("reloaded") == b'"old"'
    module.write_text(APP.format(answer="new, after a change"))
    process.wait_for_output("reloadedapp/tasks.py changed: the worker starts again")
    wait_for(lambda: process.output().count("worker starts") + process.output().count(" starts: ") >= 2, 30)
    assert run_by_name("reloaded") == b'"new, after a change"'
    assert process.terminate() == 0
    assert traces() == []


def run_by_name(name: str) -> bytes | None:
    """Sends a task that this process does not know; its result as JSON."""
    broker, message = get_broker(), Message(new_id(), name)
    broker.enqueue([Submission(message, "default")])
    outcome = wait_for(lambda: broker.find([message.id])[0].outcome, 10)
    assert outcome is not None
    assert outcome.status == "succeeded"
    return outcome.result
