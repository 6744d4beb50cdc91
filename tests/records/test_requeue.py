"""Dead letters sent again: by a real broker, from real rows."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
import redis

from django_taskq import requeue as module
from django_taskq.broker import Broker
from django_taskq.broker.connection import run_scripts
from django_taskq.bulk import Writer
from django_taskq.core.fields import pack_fields
from django_taskq.core.ids import new_id
from django_taskq.core.message import Attempt, Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import State
from django_taskq.exceptions import BrokerFull, BrokerUnavailable
from django_taskq.models import DeadTask, TaskResult
from django_taskq.recorder import Recorder
from django_taskq.requeue import (
    Arguments,
    Requeued,
    RequeueRefused,
    Summary,
    discard,
    discard_many,
    requeue,
    requeue_many,
    sweep,
)
from tests.records.outcomes import NOW, entries, failed, settle, succeeded
from tests.servers import RedisServer

pytestmark = pytest.mark.django_db


def bury(**values: Any) -> DeadTask:
    """A dead letter that Redis has forgotten."""
    outcome = failed(**values)
    Writer().write(entries(outcome))
    return DeadTask.objects.get(task_id=uuid.UUID(bytes=outcome.id), run=outcome.run)


def lane_length(broker: Broker) -> int:
    return int(broker.connections.execute("XLEN", broker.keys.lane("default", 0)))


def test_a_dead_letter_starts_a_new_run_under_its_id(broker: Broker) -> None:
    worn = Message(
        uuid.uuid4().bytes, "shop.send", b"[7]", b'{"template":"hi"}', attempt=4, losses=2, enqueued=5, first_started=6,
        expires=7, deadline=8, idempotency_key="once", options={"max_retries": 1}, headers={"trace": "t"},
        worker_ids=["w"], history=[Attempt(1, 1.0, 2.0, "w", "failed")],
    )  # fmt: skip
    dead = bury(id=worn.id, raw=pack_fields(worn.fields()))
    assert requeue(dead) is Requeued.SENT
    dead.refresh_from_db()
    assert dead.state == "requeued"
    assert dead.closed_at is not None
    [found] = broker.find([worn.id])
    assert (found.state, found.queue) == (State.QUEUED, "default")
    assert found.message is not None
    fresh = found.message
    assert (fresh.run, fresh.attempt, fresh.losses, fresh.expires, fresh.deadline, fresh.history) == (
        2,
        0,
        0,
        None,
        None,
        [],
    )
    assert (fresh.task, fresh.args, fresh.kwargs) == ("shop.send", b"[7]", b'{"template":"hi"}')
    assert (fresh.idempotency_key, fresh.options, fresh.headers) == ("once", {"max_retries": 1}, {"trace": "t"})


def test_pressed_twice_it_is_sent_once(broker: Broker) -> None:
    dead = bury()
    assert [requeue(dead), requeue(dead)] == [Requeued.SENT, Requeued.BEFORE]
    assert lane_length(broker) == 1


def test_a_crash_between_redis_and_the_row_sends_nothing_twice(broker: Broker) -> None:
    dead = bury()
    requeue(dead)
    DeadTask.objects.update(state="dead", closed_at=None)  # the row was never written
    assert requeue(dead) is Requeued.BEFORE
    dead.refresh_from_db()
    assert dead.state == "requeued"
    assert lane_length(broker) == 1


def test_after_such_a_crash_the_recorder_mends_the_row(broker: Broker) -> None:
    dead = bury()
    requeue(dead)
    DeadTask.objects.update(state="dead", closed_at=None)
    settle(broker, succeeded(id=dead.task_id.bytes, run=2))
    Recorder(broker).run_once()
    dead.refresh_from_db()
    assert dead.state == "requeued"


def test_a_later_run_that_only_the_database_remembers_is_not_started_again(broker: Broker) -> None:
    dead = bury()
    TaskResult.objects.update(run=2, status="succeeded")
    assert requeue(dead) is Requeued.BEFORE
    dead.refresh_from_db()
    assert dead.state == "requeued"
    assert lane_length(broker) == 0


def test_a_later_run_whose_outcome_waits_for_a_stuck_recorder_is_not_started_again(broker: Broker) -> None:
    dead = bury()
    settle(broker, failed(id=dead.task_id.bytes, run=2))
    assert requeue(dead) is Requeued.BEFORE
    assert lane_length(broker) == 0


def test_its_own_outcome_lingering_in_redis_is_no_hindrance(broker: Broker) -> None:
    outcome = failed()
    settle(broker, outcome)
    Recorder(broker).run_once()
    assert requeue(DeadTask.objects.get()) is Requeued.SENT


def test_an_id_that_is_on_its_way_in_the_same_run_is_refused(broker: Broker) -> None:
    """A foreign producer may have sent the id again by a bare XADD."""
    from django_taskq.broker import Submission

    dead = bury()
    message = Message(dead.task_id.bytes, "shop.send")
    broker.enqueue([Submission(message, "default")])
    with pytest.raises(RequeueRefused, match="on its way"):
        requeue(dead)
    dead.refresh_from_db()
    assert dead.state == "dead"


def test_a_malformed_message_is_refused(broker: Broker) -> None:
    for raw in (b"", b"\xc1", pack_fields([b"i", b"short", b"t", b"x"])):
        with pytest.raises(RequeueRefused, match="malformed"):
            requeue(bury(raw=raw, reason="malformed"))


def test_an_undeclared_queue_is_refused(broker: Broker) -> None:
    with pytest.raises(RequeueRefused, match="'gone' is not declared"):
        requeue(bury(queue="gone"))


def test_what_was_discarded_is_not_requeued(broker: Broker) -> None:
    dead = bury()
    assert discard(dead)
    assert not discard(dead)
    with pytest.raises(RequeueRefused, match="discarded"):
        requeue(dead)


def test_while_redis_is_away_the_row_stays_dead(
    broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.broker.broker.PRODUCER_PATIENCE", 0.2)
    dead = bury()
    redis_server.kill()
    with pytest.raises(BrokerUnavailable):
        requeue(dead)
    dead.refresh_from_db()
    assert dead.state == "dead"


def test_many_are_counted(broker: Broker) -> None:
    good, twice, broken = bury(), bury(), bury(raw=b"")
    requeue(twice)
    gone = bury()
    DeadTask.objects.filter(pk=gone.pk).delete()
    summary = Summary()
    requeue_many([good.pk, twice.pk, broken.pk, gone.pk], summary)
    assert (summary.sent, summary.before, sum(summary.refused.values()), summary.first) == (1, 1, 2, good)
    assert discard_many([good.pk, twice.pk, broken.pk, gone.pk]) == 1


def test_an_earlier_dead_letter_of_a_task_that_failed_again_is_settled(broker: Broker) -> None:
    dead = bury()
    Writer().write([(f"{int(NOW * 1000)}-9", Outcome(dead.task_id.bytes, 2, "discarded", recorded=False))])
    assert requeue(dead) is Requeued.BEFORE
    assert lane_length(broker) == 0


def test_a_full_batch_takes_few_queries_and_round_trips(
    broker: Broker, django_assert_num_queries: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcomes = [failed() for _ in range(500)]
    Writer().write(entries(*outcomes))
    keys = list(DeadTask.objects.values_list("pk", flat=True))
    trips = []
    run = broker.connections.run_many
    monkeypatch.setattr(broker.connections, "run_many", lambda calls: trips.append(len(calls)) or run(calls))
    summary = Summary()
    with django_assert_num_queries(4):
        requeue_many(keys, summary)
    assert trips == [500]
    assert (summary.sent, lane_length(broker)) == (500, 500)


def test_messages_are_read_a_few_mebibytes_at_a_time(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH_BYTES", 1000)
    sizes = []
    send = module.requeue_messages
    monkeypatch.setattr(module, "requeue_messages", lambda broker, some: sizes.append(len(some)) or send(broker, some))
    rows = [bury(raw=pack_fields(Message(id, "t", b'["' + b"x" * size + b'"]').fields()), id=id) for id, size in (
        (new_id(), 300), (new_id(), 300), (new_id(), 5000), (new_id(), 300)
    )]  # fmt: skip
    summary = Summary()
    requeue_many([row.pk for row in rows], summary)
    assert (summary.sent, sizes) == (4, [2, 1, 1])


def test_what_a_broken_connection_sent_counts_as_sent(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [bury() for _ in range(3)]
    calls = []

    def break_after_first(connection: Any, scripts: Any) -> Any:
        calls.append(len(scripts))
        if len(calls) == 1:
            run_scripts(connection, scripts[:2])
            raise redis.ConnectionError("cut")
        return run_scripts(connection, scripts)

    monkeypatch.setattr("django_taskq.broker.connection.run_scripts", break_after_first)
    summary = Summary()
    requeue_many([row.pk for row in rows], summary)
    assert (summary.sent, summary.before, lane_length(broker), calls) == (3, 0, 3, [3, 3])


def test_a_redis_that_fills_up_ends_it_with_the_truth(start_redis: Any, settings: Any) -> None:
    server = start_redis(config={"maxmemory": "3mb"})
    settings.TASKQ = {**settings.TASKQ, "BROKER": server.url}
    big = b'["' + b"x" * 100_000 + b'"]'
    ids = [new_id() for _ in range(40)]
    rows = [bury(id=id, raw=pack_fields(Message(id, "shop.send", big).fields())) for id in ids]
    summary = Summary()
    with pytest.raises(BrokerFull):
        requeue_many([row.pk for row in rows], summary)
    with server.client() as client:
        sent = client.xlen("{taskq}:queue:default:0")
    assert 0 < summary.sent < 40
    assert summary.sent == sent == DeadTask.objects.filter(state="requeued").count()


def test_one_that_is_discarded_while_it_is_sent_is_requeued(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    dead = bury()
    send = module.requeue_messages

    def discard_first(*arguments: Any) -> Any:
        assert discard(dead)
        return send(*arguments)

    monkeypatch.setattr(module, "requeue_messages", discard_first)
    assert requeue(dead) is Requeued.SENT
    dead.refresh_from_db()
    assert dead.state == "requeued"


def test_other_arguments_make_the_next_run_of_the_same_task(broker: Broker) -> None:
    dead = bury()
    assert requeue(dead, Arguments(b"[8]", b"{}")) is Requeued.SENT
    [found] = broker.find([dead.task_id.bytes])
    assert found.message is not None
    assert (found.message.task, found.message.args, found.message.kwargs, found.message.run) == (
        "shop.send", b"[8]", b"{}", 2
    )  # fmt: skip


def test_a_sweep_meets_each_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SWEPT", 4)
    monkeypatch.setattr(module, "BATCH", 3)
    keys = [bury().pk for _ in range(9)]
    assert list(sweep(DeadTask.objects.all())) == [keys[:3], keys[3:4], keys[4:7], keys[7:8], keys[8:]]
    assert list(sweep(DeadTask.objects.all(), after=keys[6])) == [keys[7:]]
    assert list(sweep(DeadTask.objects.none())) == []
