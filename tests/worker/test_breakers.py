"""Circuit breakers whose tries die with their worker: none stays half open, others go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_taskq.broker import get_broker
from django_taskq.broker.gates import BreakerState, Gates
from django_taskq.exceptions import TaskFailed
from tests.servers import wait_for
from tests.worker import limited
from tests.worker.conftest import Ledger

if TYPE_CHECKING:
    from tests.conftest import StartWorker

MODULES = ["tests.worker.limited", "tests.worker.impatient"]


def frail() -> BreakerState:
    [state] = Gates(get_broker().connections, get_broker().keys).breakers()
    return state


@pytest.fixture
def half_open(worker: StartWorker) -> None:
    """The next call of the task tries."""
    worker("--threads", "2", tasks=MODULES)
    with pytest.raises(ZeroDivisionError), limited.frail:
        raise ZeroDivisionError
    wait_for(lambda: frail().state == "half open")


@pytest.mark.usefixtures("half_open")
def test_a_try_whose_worker_dies_is_tried_again(ledger: Ledger) -> None:
    first = limited.takes_its_process_along.delay(ledger.path, 0, 1)
    ledger.wait(1)
    others = [limited.takes_its_process_along.delay(ledger.path, number, 0) for number in (1, 2)]
    first.get(timeout=10)
    wait_for(lambda: frail().state == "closed")
    for other in others:
        other.get(timeout=10)
    assert sorted(line["number"] for line in ledger.events()) == [0, 0, 1, 2]


@pytest.mark.long
@pytest.mark.usefixtures("half_open")
def test_a_try_that_is_given_up_makes_way_for_another(ledger: Ledger) -> None:
    first = limited.takes_its_process_along.delay(ledger.path, 0, 99)
    ledger.wait(1)
    other = limited.takes_its_process_along.delay(ledger.path, 1, 0)
    with pytest.raises(TaskFailed, match="died 3 times"):
        first.get(timeout=10)
    assert (frail().state, frail().probing) == ("half open", True)  # nobody told it
    other.get(timeout=10)
    wait_for(lambda: frail().state == "closed")
    assert [line["number"] for line in ledger.events()] == [0, 0, 0, 1]
