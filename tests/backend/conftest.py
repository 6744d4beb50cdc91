"""`crew` runs what is sent, in this process; `heard` is what the signals of `django.tasks` said meanwhile."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import pytest

from django_taskq.broker import Broker
from django_taskq.recorder import Recorder
from tests.backend.api import signals
from tests.servers import wait_for
from tests.worker.inside import Crew


@pytest.fixture
def crew(broker: Broker) -> Iterator[Crew]:
    with Crew(broker, queues=("default",)) as crew:
        yield crew


class Heard(list[tuple[str, Any, str, Any]]):
    """(signal, sender, status at that time, result), in order; and what sys.exc_info() had for `finished`."""

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[BaseException | None] = []

    def enqueued(self, sender: Any, task_result: Any, **_: Any) -> None:
        self.insert(0, ("enqueued", sender, task_result.status, task_result))  # the worker may be faster

    def started(self, sender: Any, task_result: Any, **_: Any) -> None:
        self.append(("started", sender, task_result.status, task_result))

    def finished(self, sender: Any, task_result: Any, **_: Any) -> None:
        self.errors.append(sys.exc_info()[1])
        self.append(("finished", sender, task_result.status, task_result))

    def names(self) -> list[str]:
        return [f"{name} {status}" for name, _, status, _ in self]


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = Heard()
    connected = [
        (signals.task_enqueued, heard.enqueued),
        (signals.task_started, heard.started),
        (signals.task_finished, heard.finished),
    ]
    for signal, receiver in connected:
        signal.connect(receiver)
    yield heard
    for signal, receiver in connected:
        signal.disconnect(receiver)


def ended(result: Any, timeout: float = 10) -> Any:
    """The result, once it has ended."""

    def look() -> bool:
        result.refresh()
        return result.is_finished

    wait_for(look, timeout, lambda: f"{result.status} {result.errors}")
    return result


def recorded(broker: Broker) -> None:
    """Everything that ended is in the database, and Redis has forgotten it."""
    recorder = Recorder(broker, "test-recorder")
    wait_for(lambda: recorder.run_once() or broker.connections.execute("XLEN", broker.keys.outcomes), 5)
    broker.connections.execute("DEL", broker.keys.outcomes, broker.keys.index)
