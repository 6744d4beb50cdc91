"""What the worker makes of tasks of `django.tasks`: results, failures, contexts, signals."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone

from django_taskq import get_task
from django_taskq.backend import TaskqBackend
from django_taskq.backend.results import Origin
from django_taskq.broker import Broker, Submission
from django_taskq.core.ids import id_to_str, new_id
from django_taskq.core.message import Message
from django_taskq.exceptions import InvalidArguments, TaskCancelled, TaskTimeout
from tests.backend import tasks
from tests.backend.api import Status
from tests.backend.conftest import Heard, ended
from tests.servers import wait_for
from tests.worker.inside import Crew


@pytest.mark.parametrize("task", [tasks.add, tasks.add_soon])
def test_a_function_and_a_coroutine_function_return(crew: Crew, task: object) -> None:
    sent = task.enqueue(1, b=2)
    assert (sent.status, sent.attempts, sent.started_at, sent.is_finished) == (Status.READY, 0, None, False)
    result = ended(task.get_result(sent.id))
    assert (result.status, result.return_value, result.attempts, result.errors) == (Status.SUCCESSFUL, 3, 1, [])
    assert result.worker_ids == [crew.worker]
    assert result.enqueued_at == sent.enqueued_at
    assert result.enqueued_at <= result.started_at == result.last_attempted_at <= result.finished_at
    sent.refresh()
    assert sent == result


def test_arguments_arrive_as_plain_json_whatever_the_hints_say(crew: Crew) -> None:
    assert ended(tasks.hinted.enqueue("2026-12-01", "1.5")).return_value == ["str", "str"]
    sent = tasks.echo.enqueue((1, 2), {"a": [None, True, 0.5]}, b"bytes", k="ü")
    assert ended(sent).return_value == {"args": [[1, 2], {"a": [None, True, 0.5]}, "bytes"], "kwargs": {"k": "ü"}}


@pytest.mark.parametrize("task", [tasks.echo, tasks.echo_soon])
def test_arguments_may_have_any_names(crew: Crew, task: object) -> None:
    named = {"task": 1, "context": 2, "args": 3, "kwargs": 4, "func": 5, "not a name": 6}
    assert ended(task.enqueue(**named)).return_value == {"args": [], "kwargs": named}


def test_a_task_of_ours_runs_in_the_same_queue(crew: Crew) -> None:
    handle, sent = tasks.own.delay(5), tasks.add.enqueue(5)
    assert handle.get(timeout=5) == 5
    assert ended(sent).return_value == 6
    assert get_task(sent.id).get(timeout=5) == 6


def test_the_context_tells_the_first_attempt_from_the_others(crew: Crew) -> None:
    sent = tasks.about_itself.enqueue(more="x")
    said = ended(sent).return_value
    assert said == {"id": sent.id, "attempt": 1, "status": Status.RUNNING, "by": [crew.worker], "m": "x"}
    sent = tasks.about_itself_soon.enqueue()
    assert ended(sent).return_value == {"id": sent.id, "attempt": 1, "status": Status.RUNNING}


def test_a_retry_is_ready_again_and_each_failure_stays_known(crew: Crew, heard: Heard) -> None:
    result = ended(tasks.patient.enqueue(failures=2))
    assert result.return_value == 3
    assert result.worker_ids == [crew.worker] * 3
    assert [error.exception_class for error in result.errors] == [ValueError, ValueError]
    assert [f"failure {number}" in error.traceback for number, error in enumerate(result.errors, 1)] == [True, True]
    assert heard.names() == ["enqueued READY", *["started RUNNING"] * 3, "finished SUCCESSFUL"]
    assert result.started_at < result.last_attempted_at


def test_what_a_circuit_breaker_puts_off_has_not_ended(crew: Crew, heard: Heard) -> None:
    result = ended(tasks.meets_an_open_breaker.enqueue("x"))
    assert (result.status, result.attempts, result.errors) == (Status.SUCCESSFUL, 1, [])
    assert heard.names() == ["enqueued READY", *["started RUNNING"] * 2, "finished SUCCESSFUL"]


def test_options_of_the_backend_end_the_retries(crew: Crew, heard: Heard) -> None:
    result = ended(tasks.patient.enqueue(failures=9))
    assert (result.status, result.attempts, len(result.errors)) == (Status.FAILED, 3, 3)
    assert heard.names()[-2:] == ["started RUNNING", "finished FAILED"]
    with pytest.raises(ValueError, match="Task failed"):
        _ = result.return_value


@pytest.mark.parametrize(("task", "text"), [(tasks.fail, "no luck"), (tasks.fail_soon, "no luck, soon")])
def test_a_failure_is_announced_while_its_exception_is_handled(
    crew: Crew, heard: Heard, task: object, text: str
) -> None:
    result = ended(task.enqueue())
    [error] = result.errors
    assert error.exception_class is ValueError
    assert error.traceback.endswith(f"ValueError: {text}\n")
    assert heard.names() == ["enqueued READY", "started RUNNING", "finished FAILED"]
    assert [str(error) for error in heard.errors] == [text]
    assert {sender for _, sender, _, _ in heard} == {TaskqBackend}
    assert heard[-1][3].errors[0].exception_class is ValueError
    assert heard[-1][3].finished_at is not None


@pytest.mark.parametrize("how", [SystemExit, KeyboardInterrupt])
def test_what_would_end_a_process_is_a_failure_and_the_worker_lives_on(crew: Crew, how: type[BaseException]) -> None:
    [error] = ended(tasks.leave.enqueue(how.__name__)).errors
    assert error.exception_class is how
    assert ended(tasks.add.enqueue(1)).return_value == 2


def test_a_result_that_is_not_json_fails_the_task_without_another_attempt(crew: Crew, tmp_path: Path) -> None:
    result = ended(tasks.unserialisable.enqueue(str(tmp_path / "log")))
    assert result.status == Status.FAILED
    [error] = result.errors
    assert error.exception_class is TypeError
    assert "Unsupported type" in error.traceback
    assert (tmp_path / "log").read_text() == "ran\n"


@pytest.mark.parametrize("task", [tasks.too_long, tasks.too_long_soon])
def test_a_time_limit_is_a_failure(crew: Crew, heard: Heard, task: object) -> None:
    from django_taskq.worker.time_limits import TimeLimits

    limits = TimeLimits(crew.threads, crew.loop, crew.threads.executor, crew.settler.put, print)
    sent = task.enqueue()

    def look() -> bool:
        limits.check()
        sent.refresh()
        return sent.is_finished

    wait_for(look, 5)
    assert sent.errors[-1].exception_class is TaskTimeout
    assert heard.names()[-1] == "finished FAILED"


def test_what_runs_is_running_and_what_is_cancelled_has_failed(crew: Crew, heard: Heard) -> None:
    tasks.gate.clear()
    later = tasks.add.using(run_after=timezone.now() + timedelta(days=1))
    sent, waiting = tasks.wait_at_gate.enqueue(), later.enqueue(1)
    wait_for(lambda: (sent.refresh() or sent.status) == Status.RUNNING, 5)
    assert (sent.worker_ids, sent.attempts) == ([crew.worker], 1)
    assert sent.started_at == sent.last_attempted_at >= sent.enqueued_at
    tasks.gate.set()
    assert ended(sent).return_value == "through"
    assert get_task(waiting.id).cancel()
    waiting.refresh()
    assert waiting.status == Status.FAILED
    assert waiting.errors[0].exception_class is TaskCancelled
    assert [result.id for name, _, _, result in heard if name == "finished"] == [sent.id, waiting.id]
    assert heard[-1][1:3] == (TaskqBackend, Status.FAILED)


def test_arguments_that_do_not_fit_fail_at_once(crew: Crew, heard: Heard, broker: Broker) -> None:
    """Nobody sends them through a backend; another producer may, or the function has changed."""
    message = Message(new_id(), tasks.add.module_path, args=b"[1, 2, 3]", origin=Origin("default").encoded())
    broker.enqueue([Submission(message, "default")])
    result = wait_for(lambda: (found := tasks.add.get_result(id_to_str(message.id))).is_finished and found, 5)
    assert (result.status, result.attempts) == (Status.FAILED, 0)
    assert result.errors[0].exception_class is InvalidArguments
    wait_for(lambda: heard, 5)
    assert heard.names() == ["finished FAILED"]


def test_a_decorator_may_fill_in_parameters(crew: Crew) -> None:
    assert ended(tasks.filled_in.enqueue("second")).return_value == "firstsecond"
    with pytest.raises(TypeError, match=r"tests\.backend\.tasks\.add"):
        tasks.add.enqueue(1, 2, 3)
