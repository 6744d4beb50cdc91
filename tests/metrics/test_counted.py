"""Only what stood is counted, and it is counted once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_taskq import BreakerOpen
from django_taskq.broker import Broker, get_broker
from django_taskq.broker.delivery import Delivery
from django_taskq.worker.tally import Tally
from tests.sampleapp.tasks import add
from tests.servers import wait_for
from tests.worker.inside import Crew, new_executor

SERIES = ("tests.sampleapp.tasks.add", "default")


@pytest.fixture
def crew(broker: Broker) -> Iterator[Crew]:
    crew = Crew(broker)
    crew.settler._tally = Tally()
    crew.register.register(crew.worker, {})
    yield crew
    crew.end(0.5)


def claim(crew: Crew, count: int) -> list[Delivery]:
    connection = crew.broker.connections.open()
    found = crew.claimer._deliveries.claim(connection, count, 0.0, lease_ms=0, awake=True)
    connection.disconnect()
    for delivery in found.deliveries:
        crew.held.add(delivery)
    return list(found.deliveries)


def settle(crew: Crew, deliveries: list[Delivery], error: BaseException | None = None) -> dict[str, int]:
    """Concludes them, and returns how they were counted."""
    executor = new_executor()
    for delivery in deliveries:
        crew.settler.put(executor.concluded(executor.prepare(delivery), 3, error))  # type: ignore[arg-type]
    wait_for(lambda: not crew.held)
    crew.settler.stop(1.0)
    counted = crew.settler._tally.take().ended  # type: ignore[union-attr]
    return dict(counted[SERIES].states) if counted else {}


def test_what_stands_is_counted(crew: Crew) -> None:
    add.delay_many([((1, 2), {})] * 30)
    assert settle(crew, claim(crew, 30)) == {"succeeded": 30}


def test_what_another_worker_has_taken_over_is_not(crew: Crew) -> None:
    add.delay_many([((1, 2), {})] * 30)
    deliveries = claim(crew, 30)
    crew.register.declare_dead(crew.worker, None, [])
    assert crew.register.reclaim(crew.worker) == 30
    assert settle(crew, deliveries) == {}


def test_a_retry_that_became_a_cancellation_is_one(crew: Crew) -> None:
    handles = add.delay_many([((1, 2), {})] * 2)
    deliveries = claim(crew, 2)
    assert get_broker().cancel([handles[0]._id]) == [False]
    assert settle(crew, deliveries, ValueError("no luck")) == {"cancelled": 1, "retried": 1}


def test_what_an_open_breaker_puts_off_is_no_attempt_that_failed(crew: Crew) -> None:
    add.delay_many([((1, 2), {})] * 2)
    assert settle(crew, claim(crew, 2), BreakerOpen(breaker="crm", seconds=60.0)) == {}
