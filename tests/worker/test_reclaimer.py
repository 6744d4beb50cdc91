"""Who is declared dead: only a worker that did not beat for the limit while this process looked on, without a gap."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from django_taskq.broker import Broker
from django_taskq.broker.workers import Beat, Workers
from django_taskq.exceptions import BrokerUnavailable
from django_taskq.worker import reclaimer as module
from django_taskq.worker.reclaimer import Reclaimer
from tests.servers import RedisServer, wait_for
from tests.worker import tasks
from tests.worker.inside import Crew


@pytest.fixture
def workers(broker: Broker) -> Workers:
    found = Workers(broker.connections, broker.keys)
    for name in ("a", "b"):
        found.register(name, {"pid": 1})
    return found


def look(reclaimer: Reclaimer, *moments: float) -> int:
    """Looks at each of these moments (monotonic seconds); how many deliveries were reclaimed."""
    return sum(reclaimer.run_once(moment) for moment in moments)


def every_second(first: int, last: int) -> list[float]:
    return [float(second) for second in range(first, last + 1)]


def test_a_worker_without_a_beat_for_the_limit_is_dead(workers: Workers) -> None:
    reclaimer = Reclaimer(workers)
    look(reclaimer, *every_second(100, 114))
    assert set(workers.counters()) == {"a", "b"}
    workers.beat([Beat("b", {})])
    look(reclaimer, 114.9, 115.0)
    assert set(workers.counters()) == {"b"}
    assert workers.beat([Beat("a", {})]) == {"a": None}


def test_a_beat_starts_the_limit_anew(workers: Workers) -> None:
    reclaimer = Reclaimer(workers)
    for second in range(100, 160):
        if second % 14 == 0:
            workers.beat([Beat("a", {}), Beat("b", {})])
        look(reclaimer, float(second))
    assert set(workers.counters()) == {"a", "b"}


def test_who_was_asleep_itself_declares_nobody_dead(workers: Workers) -> None:
    """This machine was suspended: the others may have beaten all the time."""
    reclaimer = Reclaimer(workers)
    look(reclaimer, *every_second(100, 110), *every_second(500, 514))
    assert set(workers.counters()) == {"a", "b"}
    look(reclaimer, 515.0)
    assert workers.counters() == {}


def test_who_could_not_ask_declares_nobody_dead(
    workers: Workers, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.02)
    reclaimer, stop = Reclaimer(workers, limit=0.6), threading.Event()
    thread = threading.Thread(target=reclaimer.run, args=(stop,))
    looks: list[float] = []
    real = reclaimer.run_once
    monkeypatch.setattr(reclaimer, "run_once", lambda now: (looks.append(now), real(now))[1])
    thread.start()
    wait_for(lambda: len(looks) > 10)
    redis_server.stop()
    wait_for(lambda: "nobody is declared dead while Redis is away" in caplog.text)
    before = len(looks)
    wait_for(lambda: len(looks) > before + 30)
    redis_server.start()
    wait_for(lambda: not reclaimer._seen or set(reclaimer._seen) == {"a", "b"})
    assert "counts as dead" not in caplog.text
    wait_for(lambda: caplog.text.count("counts as dead") == 2, 3)
    stop.set()
    thread.join()
    assert caplog.text.count("nobody is declared dead") == 1


def test_what_a_dead_worker_held_goes_to_others_and_only_what_it_ran_is_a_loss(
    broker: Broker, workers: Workers, caplog: pytest.LogCaptureFixture
) -> None:
    crew = Crew(broker)
    crew.register.register(crew.worker, {})
    tasks.notes_number.delay_many([((number,), {}) for number in range(5)])
    connection = broker.connections.open()
    deliveries = crew.claimer._deliveries
    claimed = deliveries.claim(connection, 5, 0.0, lease_ms=0, awake=True).deliveries
    crew.register.beat([Beat(crew.worker, {"running": claimed[0].location.decode()})])
    reclaimer = Reclaimer(workers)
    assert look(reclaimer, *every_second(100, 114)) == 0
    assert look(reclaimer, 115.0) == 5
    assert "held 5 tasks; they go to other workers" in caplog.text
    other = Crew(broker)
    other.register.register(other.worker, {})
    again = other.claimer._deliveries.claim(connection, 5, 0.0, lease_ms=0, awake=True).deliveries
    assert [delivery.losses for delivery in again] == [1, 0, 0, 0, 0]
    connection.disconnect()
    for one in (crew, other):
        one.end()


def test_two_reclaimers_do_it_once(broker: Broker, workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    first, second = Reclaimer(workers), Reclaimer(workers)
    for moment in every_second(100, 115):
        look(first, moment)
        look(second, moment)
    assert caplog.text.count("counts as dead") == 2


def test_who_died_while_reclaiming_is_followed_by_the_next(broker: Broker, workers: Workers) -> None:
    """Declared dead and not yet handed on: whoever looks next does that at once."""
    crew = Crew(broker)
    crew.register.register(crew.worker, {})
    tasks.notes_number.delay(1)
    connection = broker.connections.open()
    crew.claimer._deliveries.claim(connection, 5, 0.0, lease_ms=0, awake=True)
    connection.disconnect()
    workers.declare_dead(crew.worker, None, [])
    assert look(Reclaimer(workers), 100.0) == 1
    assert crew.worker not in workers.counters()
    crew.end()


def test_an_error_in_a_look_is_the_callers(workers: Workers, redis_server: RedisServer) -> None:
    redis_server.stop()
    with pytest.raises(BrokerUnavailable):
        Reclaimer(workers).run_once(1.0)
    redis_server.start()


def test_a_fault_of_its_own_is_said_and_forgets_what_was_seen(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "EVERY", 0.01)
    reclaimer, stop = Reclaimer(workers), threading.Event()

    def fail(*_: Any) -> Any:
        raise ValueError("a fault of its own")

    look(reclaimer, 1.0)
    monkeypatch.setattr(workers, "counters", fail)
    thread = threading.Thread(target=reclaimer.run, args=(stop,))
    thread.start()
    wait_for(lambda: "reclaimer: looking again" in caplog.text)
    stop.set()
    thread.join()
    assert reclaimer._seen == {}
