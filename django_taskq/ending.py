"""What a task that has ended gives to who waited for it: its result, or the error that says why there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from django_taskq.core.sealing import is_sealed_json
from django_taskq.core.states import State
from django_taskq.exceptions import ResultError, TaskFailed
from django_taskq.registry import lookup

if TYPE_CHECKING:
    from django_taskq.core.outcome import Outcome
    from django_taskq.models import TaskResult
    from django_taskq.task import Task


def result_of(ending: Outcome | TaskResult, state: State | None, id: str, task: Task[..., Any] | None) -> Any:
    """The result, converted by the return hint of `task`, where that is known. Raises what `TaskHandle.get` raises."""
    task = task or lookup(ending.task)
    encrypts = task is not None and task.encrypt
    if encrypts or is_sealed_json(ending.args):
        from django_taskq.opening import opened_end

        ending = opened_end(ending, succeeded=state is State.SUCCEEDED, encrypts=encrypts)
    what = f"{task.name if task else ending.task} {id}"
    if state is not State.SUCCEEDED:
        raise _failure(what, ending)
    if ending.result_error:
        raise ResultError(f"{what} succeeded, but its result could not be stored: {ending.result_error}")
    if ending.result is None:
        return None
    return task.codec.decode_result(ending.result) if task else msgspec.json.decode(ending.result)


def _failure(what: str, ending: Outcome | TaskResult) -> TaskFailed:
    why = ": ".join(filter(None, (ending.error_class, ending.error_message))) or ending.reason
    failure = TaskFailed(
        f"{what} {ending.status}{f': {why}' if why else ''}",
        status=str(ending.status),
        error_class=ending.error_class,
        error_message=ending.error_message,
        traceback=ending.traceback,
    )
    if ending.traceback:
        failure.add_note(f"In the worker:\n{ending.traceback.rstrip()}")
    return failure
