"""What is fired when: no tick lost, none doubled, whoever looks and whenever."""

from __future__ import annotations

import datetime as dt
import uuid
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from django_taskq.core.cron import CronTimes
from django_taskq.core.schedule import (
    MOST_MISSED,
    ON_TIME,
    Interval,
    due,
    id_of_tick,
    jitter_of,
    moment_of,
    tick_ms,
    upcoming,
)

START = dt.datetime(2026, 10, 24, 22, tzinfo=dt.UTC)  # before the clocks of Berlin go back
MINUTELY = Interval(dt.timedelta(minutes=1))


def at(**span: float) -> dt.datetime:
    return START + dt.timedelta(**span)


def test_an_interval_ticks_at_its_multiples_since_the_epoch():
    ten = Interval(dt.timedelta(minutes=10))
    assert ten.after(at(minutes=3)) == at(minutes=10)
    assert ten.after(at(minutes=10)) == at(minutes=20)
    assert upcoming(ten, START, 2) == [at(minutes=10), at(minutes=20)]


@pytest.mark.parametrize("seconds", [0, -1, 0.5, 1.0005, 400_000_000])
def test_an_interval_is_a_second_or_more_in_whole_milliseconds(seconds):
    with pytest.raises(ValueError, match="must be 1 second or more"):
        Interval(dt.timedelta(seconds=seconds))


def test_ticks_of_the_last_minute_are_fired_one_by_one():
    found = due(Interval(dt.timedelta(seconds=20)), START, at(seconds=45), "skip")
    assert found == ([at(seconds=20), at(seconds=40)], 0, None)


def test_of_older_ones_the_last_is_fired_after_all():
    hourly = Interval(dt.timedelta(hours=1))
    assert due(hourly, START, at(hours=3, minutes=30), "once") == ([at(hours=3)], 2, at(hours=2))


def test_or_none_of_them():
    hourly = Interval(dt.timedelta(hours=1))
    assert due(hourly, START, at(hours=3, minutes=30), "skip") == ([], 3, at(hours=3))


def test_a_newer_one_stands_for_those_missed():
    assert due(MINUTELY, START, at(minutes=5, seconds=30), "once") == ([at(minutes=5)], 4, at(minutes=4))


def test_after_years_the_last_tick_is_found_without_counting_all():
    found = due(CronTimes("* * * * *", ZoneInfo("UTC")), START, at(days=3000, hours=5, minutes=2), "skip")
    assert found.missed == MOST_MISSED
    assert found.passed == at(days=3000, hours=5, minutes=1)
    assert found.ticks == [at(days=3000, hours=5, minutes=2)]
    once_a_year = CronTimes("* 3 1 1 *", ZoneInfo("UTC"))
    assert due(once_a_year, START, at(days=36_000), "once").ticks[0].strftime("%m-%d %H:%M") == "01-01 03:59"


def test_the_id_of_a_tick_is_a_uuid_of_its_time_and_everybody_comes_to_the_same():
    id = uuid.UUID(bytes=id_of_tick("shop.report", START))
    assert (id.version, id.variant) == (7, uuid.RFC_4122)
    assert id.int >> 80 == tick_ms(START)
    assert id_of_tick("shop.report", START) == id.bytes
    assert (
        len(
            {
                id_of_tick("shop.report", START),
                id_of_tick("shop.other", START),
                id_of_tick("shop.report", at(seconds=1)),
            }
        )
        == 3
    )
    assert moment_of(tick_ms(START)) == START


def test_jitter_is_spread_and_everybody_comes_to_the_same():
    spread = [jitter_of("shop.report", at(minutes=minute), 10.0) for minute in range(300)]
    assert all(0 <= seconds < 10 for seconds in spread)
    assert min(spread) < 1
    assert max(spread) > 9
    assert jitter_of("shop.report", at(minutes=7), 10.0) == spread[7]


TIMES = st.sampled_from(
    [
        MINUTELY,
        Interval(dt.timedelta(seconds=7)),
        Interval(dt.timedelta(hours=3)),
        CronTimes("*/5 * * * *", ZoneInfo("Europe/Berlin")),
        CronTimes("*/20 2 * * *", ZoneInfo("Europe/Berlin")),
        CronTimes("30 1-3 * * *", ZoneInfo("Australia/Lord_Howe")),
    ]
)


@settings(max_examples=100, deadline=None)
@given(TIMES, st.lists(st.floats(0.01, 19.0), min_size=1, max_size=60), st.sampled_from(["once", "skip"]), st.data())
def test_no_tick_is_lost_or_doubled_whoever_restarts_when(times, pauses, catch_up, data):
    """Schedulers take turns. Each may die after any number of ticks, or be stopped and go on with an old plan."""
    begin = now = note = at(hours=1, minutes=50)
    fired, stopped, deaths = [], [], 0

    def fire(ticks):
        nonlocal note
        for tick in ticks:
            if tick > note:  # what the script asks
                fired.append(tick)
                note = tick

    for pause in pauses:
        now += dt.timedelta(seconds=pause)
        plan = due(times, note, now, catch_up)
        assert not plan.missed
        share = len(plan.ticks) if deaths == 2 else data.draw(st.integers(0, len(plan.ticks)))
        deaths = 0 if share == len(plan.ticks) else deaths + 1
        fire(plan.ticks[:share])
        stopped.append(plan.ticks)
        fire(data.draw(st.sampled_from(stopped)) if deaths == 0 else ())
    fire(due(times, note, now, catch_up).ticks)
    assert fired == [tick for tick in islice(times.walk(begin), len(fired) + 1) if tick <= now]


@settings(max_examples=100, deadline=None)
@given(TIMES, st.lists(st.floats(0.01, 20_000.0), min_size=1, max_size=20), st.sampled_from(["once", "skip"]))
def test_every_tick_is_either_fired_once_or_counted_as_missed(times, pauses, catch_up):
    now = begin = note = START
    fired, missed = [], 0
    for pause in pauses:
        now += dt.timedelta(seconds=pause)
        plan = due(times, note, now, catch_up)
        late = [tick for tick in plan.ticks if now - tick > ON_TIME]
        assert len(late) <= (catch_up == "once")
        fired += plan.ticks
        missed += plan.missed
        note = max([note, *plan.ticks, *filter(None, [plan.passed])])
    assert all(earlier < later for earlier, later in pairwise(fired))
    if missed < MOST_MISSED:
        assert len(fired) + missed == sum(
            1 for tick in islice(times.walk(begin), len(fired) + missed + 1) if tick <= now
        )
