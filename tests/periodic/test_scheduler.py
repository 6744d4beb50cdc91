"""The sweep: each tick fired once, whatever dies between two lines, whoever else is at it."""

from __future__ import annotations

import datetime as dt
import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from django_taskq import get_task
from django_taskq.broker import Broker
from django_taskq.broker.periodic import Tick, Ticks
from django_taskq.core.schedule import id_of_tick, jitter_of, tick_ms
from django_taskq.periodic import firing
from django_taskq.periodic.scheduler import LONGEST_SLEEP, Scheduler
from django_taskq.periodic_task import PeriodicTask
from django_taskq.signals import task_enqueued
from tests.broker.helpers import Shard
from tests.periodic.conftest import Code
from tests.servers import RedisServer, wait_for

Row = Callable[..., PeriodicTask]
SECOND, MINUTE, HOUR = dt.timedelta(seconds=1), dt.timedelta(minutes=1), dt.timedelta(hours=1)


class Killed(BaseException):
    """The process died here."""


@pytest.fixture
def shard(broker: Broker) -> Shard:
    return Shard(broker)


@pytest.fixture
def now(broker: Broker) -> dt.datetime:
    return dt.datetime.fromtimestamp(broker.time(), dt.UTC)


@pytest.fixture
def scheduler(code: Code, broker: Broker, db: None) -> Scheduler:
    return Scheduler(broker)


def due_since(row: PeriodicTask, since: dt.datetime) -> None:
    """As if ticks up to `since` had been fired."""
    PeriodicTask.objects.filter(pk=row.pk).update(since=since)


def make(now: dt.datetime, ago: dt.timedelta = SECOND * 3, **values: Any) -> tuple[PeriodicTask, dt.datetime]:
    """A periodic task whose only tick of late was so long ago, and that tick."""
    tick = (now - ago).replace(microsecond=0)
    at = f"{tick.second} {tick.minute} {tick.hour} * * *"
    values = {"name": "by hand", "task": "report", "cron": at, "since": tick - MINUTE, **values}
    return PeriodicTask.objects.create(**values), tick


def sent(shard: Shard, queue: str = "default") -> list[bytes]:
    return [fields[b"i"] for _, fields in shard.lane(queue)] + list(shard.scheduled(queue))


# --- what is fired ----------------------------------------------------------------------------------------------------


def test_a_due_tick_is_sent_with_its_arguments_and_told_to_the_row(
    code: Code, scheduler: Scheduler, shard: Shard, row: Row, now: dt.datetime
) -> None:
    code.declare(priority=7)
    _made, tick = make(now, args='["monday"]', kwargs='{"copies": 3}')
    heard: list[dict[str, Any]] = []
    task_enqueued.connect(listen := lambda **values: heard.append(values))
    scheduler.run_once()
    task_enqueued.disconnect(listen)
    [(_, fields)] = shard.lane("default", 7)
    assert (fields[b"i"], fields[b"t"]) == (id_of_tick("by hand", tick), b"report")
    assert (fields[b"a"], fields[b"k"]) == (b'["monday"]', b'{"copies":3}')
    found = row("by hand")
    assert (found.last_tick, found.last_task) == (tick, uuid.UUID(bytes=fields[b"i"]))
    assert [values["task_id"] for values in heard] == [str(found.last_task)]
    assert get_task(str(found.last_task)).status == "queued"


def test_the_next_round_comes_with_the_next_tick(
    code: Code, scheduler: Scheduler, shard: Shard, now: dt.datetime
) -> None:
    code.declare()
    make(now)
    assert 1 < scheduler.run_once() <= LONGEST_SLEEP
    scheduler.run_once()
    assert len(sent(shard)) == 1
    PeriodicTask.objects.create(name="often", task="report", every=SECOND)
    assert 0 < scheduler.run_once() <= 1


def test_without_periodic_tasks_a_round_is_one_query(scheduler: Scheduler) -> None:
    scheduler.run_once()
    with CaptureQueriesContext(connection) as queries:
        assert scheduler.run_once() == LONGEST_SLEEP
    assert len(queries) == 1


def test_jitter_delays_the_start_by_the_same_time_whoever_fires(
    code: Code, scheduler: Scheduler, shard: Shard, now: dt.datetime
) -> None:
    code.declare()
    _, tick = make(now, jitter=3600.0)
    scheduler.run_once()
    later = round(jitter_of("by hand", tick, 3600.0) * 1000)
    assert shard.scheduled() == {id_of_tick("by hand", tick): tick_ms(tick) + later}


def test_a_tasks_own_options_hold(code: Code, scheduler: Scheduler, shard: Shard, now: dt.datetime) -> None:
    code.declare(run_after=60, expires=600)
    _, _tick = make(now)
    scheduler.run_once()
    [(id, at)] = shard.scheduled().items()
    assert 55_000 < at - now.timestamp() * 1000 < 65_000
    assert shard.find(id).message.expires is not None  # type: ignore[union-attr]


@pytest.mark.parametrize("values", [{"enabled": False}, {"removed_at": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)}])
def test_what_is_disabled_or_removed_is_not_fired(
    code: Code, scheduler: Scheduler, shard: Shard, now: dt.datetime, values: dict[str, Any]
) -> None:
    code.declare()
    make(now, **values)
    scheduler.run_once()
    assert sent(shard) == []


def test_what_cannot_be_fired_is_said_once_and_holds_up_nothing(
    code: Code, scheduler: Scheduler, shard: Shard, now: dt.datetime, caplog: pytest.LogCaptureFixture
) -> None:
    code.declare()
    make(now, name="a broken", cron="nonsense")
    make(now, name="b zone", timezone="Nowhere")
    make(now, name="c unknown", task="gone")
    make(now, name="d arguments", args='["x", "y"]')
    _, tick = make(now, name="e good")
    for _ in range(3):
        assert scheduler.run_once() <= 1
    assert sent(shard) == [id_of_tick("e good", tick)]
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    names = ("a broken", "b zone", "c unknown", "d arguments")
    assert [text.split(":")[0] for text in said] == [f"periodic task {name}" for name in names]


# --- what was missed --------------------------------------------------------------------------------------------------


def test_missed_ticks_are_caught_up_with_once_counted_and_logged(
    code: Code, scheduler: Scheduler, shard: Shard, now: dt.datetime, caplog: pytest.LogCaptureFixture
) -> None:
    code.declare()
    _made, tick = make(now, ago=5 * MINUTE, since=now - dt.timedelta(days=3, minutes=6))
    scheduler.run_once()
    scheduler.run_once()
    assert sent(shard) == [id_of_tick("by hand", tick)]
    note = Ticks(shard.broker).notes(["by hand"])[0]
    assert (note.fired, note.late, note.missed) == (1, 1, 3)
    assert "periodic task by hand: missed 3 ticks" in caplog.text
    assert f"for {tick}, 30" in caplog.text


def test_or_left_out(
    code: Code, scheduler: Scheduler, shard: Shard, row: Row, now: dt.datetime, caplog: pytest.LogCaptureFixture
) -> None:
    code.declare()
    _made, tick = make(now, ago=5 * MINUTE, catch_up="skip")
    scheduler.run_once()
    scheduler.run_once()
    note = Ticks(shard.broker).notes(["by hand"])[0]
    assert (sent(shard), note.fired, note.missed) == ([], 0, 1)
    assert (row("by hand").last_tick, row("by hand").last_task) == (tick, None)
    assert caplog.text.count("missed 1 ticks") == 1


def test_one_that_may_not_overlap_is_left_out_while_the_last_is_on_its_way(
    code: Code, scheduler: Scheduler, shard: Shard, row: Row, now: dt.datetime
) -> None:
    code.declare()
    PeriodicTask.objects.create(
        name="by hand", task="report", every=20 * SECOND, overlap=False, since=now - 50 * SECOND
    )
    scheduler.run_once()
    [id] = sent(shard)
    note = Ticks(shard.broker).notes(["by hand"])[0]
    assert note.overlapped >= 1
    assert row("by hand").last_task == uuid.UUID(bytes=id)
    assert tick_ms(row("by hand").last_tick) == note.tick  # type: ignore[arg-type]


# --- dying, being many ------------------------------------------------------------------------------------------------


def dying(step: str) -> Iterator[None]:
    """Schedulers die at that step."""
    with pytest.MonkeyPatch.context() as patch:
        owner: Any
        owner, name = {"script": (Ticks, "fire"), "row": (firing, "_follow")}[step.split()[1]]
        inner = getattr(owner, name)

        def dies(*args: Any, **kwargs: Any) -> None:
            if step.startswith("after"):
                inner(*args, **kwargs)
            raise Killed(step)

        patch.setattr(owner, name, dies)
        yield


@pytest.mark.parametrize("step", ["before script", "after script", "before row", "after row"])
@pytest.mark.parametrize("forgotten", [False, True], ids=["soon", "after its task is forgotten"])
def test_a_scheduler_that_dies_between_two_steps_leaves_each_tick_fired_once(
    code: Code,
    scheduler: Scheduler,
    broker: Broker,
    shard: Shard,
    row: Row,
    now: dt.datetime,
    step: str,
    forgotten: bool,
) -> None:
    code.declare()
    _, tick = make(now)
    for _ in dying(step):
        with pytest.raises(Killed):
            scheduler.run_once()
    before = sent(shard)
    if forgotten:
        shard.redis("DEL", shard.keys.index, shard.keys.lane("default", 0))
    for _ in range(2):
        Scheduler(broker).run_once()
    id = id_of_tick("by hand", tick)
    assert before == ([] if step == "before script" else [id])
    assert (sent(shard) if not forgotten else before or sent(shard)) == [id]
    assert Ticks(broker).notes(["by hand"])[0].fired == 1
    assert (row("by hand").last_tick, row("by hand").last_task) == (tick, uuid.UUID(bytes=id))


def test_a_redis_that_lost_everything_does_not_fire_again_what_the_row_knows(
    code: Code, scheduler: Scheduler, shard: Shard, redis_server: RedisServer, now: dt.datetime
) -> None:
    code.declare()
    make(now)
    scheduler.run_once()
    redis_server.flush()
    scheduler.run_once()
    assert sent(shard) == []


def test_after_the_clock_stepped_back_a_day_the_next_ticks_are_fired_and_no_older_ones(
    code: Code, scheduler: Scheduler, shard: Shard, now: dt.datetime
) -> None:
    code.declare()
    day = dt.timedelta(days=1)
    Ticks(shard.broker).give_up(Tick("by hand", tick_ms(now + day)))
    Ticks(shard.broker).give_up(Tick("hourly", tick_ms(now + day)))
    _, tick = make(now, ago=SECOND, since=now - 30 * day, last_tick=now + day)
    make(now, name="hourly", ago=HOUR / 2, since=now - 30 * day, last_tick=now + day)
    make(now, name="new", ago=SECOND, since=now + day)
    for _ in range(2):
        scheduler.run_once()
    assert sorted(sent(shard)) == sorted(id_of_tick(name, tick) for name in ("by hand", "new"))


@pytest.mark.usefixtures("transactional_db")
def test_three_schedulers_at_once_fire_each_tick_once_and_in_time(code: Code, broker: Broker, shard: Shard) -> None:
    code.declare("report", every=1)
    stop = threading.Event()
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(Scheduler(broker).run, stop) for _ in range(3)]
        try:
            wait_for(lambda: len(sent(shard)) >= 3, 8)
        finally:
            stop.set()
        for run in runs:
            run.result(timeout=5)
    entries = [(int(entry.split(b"-")[0]), fields[b"i"]) for entry, fields in shard.lane()]
    ticks = [int.from_bytes(id[:6]) for _, id in entries]
    assert ticks == list(range(ticks[0], ticks[0] + 1000 * len(ticks), 1000))
    assert max(arrived - tick for (arrived, _), tick in zip(entries, ticks, strict=True)) < 900
    found = PeriodicTask.objects.get()
    assert tick_ms(found.last_tick) == ticks[-1]  # type: ignore[arg-type]


@pytest.mark.usefixtures("transactional_db")
def test_it_goes_on_when_redis_and_the_database_come_back(
    code: Code, broker: Broker, shard: Shard, redis_server: RedisServer, now: dt.datetime,
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    code.declare()
    _made, tick = make(now)
    stop, away = threading.Event(), threading.Event()
    inner = PeriodicTask.objects.using

    def using(alias: str) -> Any:
        if away.is_set():
            raise OperationalError("the server is away")
        return inner(alias)

    away.set()
    monkeypatch.setattr(PeriodicTask.objects, "using", using)
    thread = threading.Thread(target=Scheduler(broker).run, args=(stop,), daemon=True)
    thread.start()
    wait_for(lambda: "scheduler: no periodic task is sent while the database is away" in caplog.text)
    redis_server.stop()
    away.clear()
    time.sleep(0.1)
    redis_server.start()
    broker.time()  # with patience: this thread's connection has ended, too
    wait_for(lambda: sent(shard) == [id_of_tick("by hand", tick)], 8)
    stop.set()
    thread.join(5)
    assert not thread.is_alive()
