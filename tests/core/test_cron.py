"""Cron expressions on the clocks of time zones: what a change of the clock does to them."""

from __future__ import annotations

import datetime as dt
import sys
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from django_taskq.core.cron import CronTimes, in_words, parse_zone

BERLIN = ZoneInfo("Europe/Berlin")  # 2026: 29 March 2:00 -> 3:00, 25 October 3:00 -> 2:00
ZONES = ["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "America/St_Johns", "Africa/Casablanca", "UTC"]


def ticks(expression: str, start: str, count: int, zone: ZoneInfo = BERLIN) -> list[str]:
    """The next ticks, on the wall, with the offset from UTC."""
    moment = dt.datetime.fromisoformat(start).replace(tzinfo=zone)
    walk = CronTimes(expression, zone).walk(moment)
    return [f"{tick.astimezone(zone):%d %H:%M %z}" for tick in islice(walk, count)]


def test_a_run_in_the_skipped_hour_comes_once_when_the_hour_is_over():
    assert ticks("30 2 * * *", "2026-03-28T12:00", 2) == ["29 03:00 +0200", "30 02:30 +0200"]
    assert ticks("*/20 2 * * *", "2026-03-28T12:00", 2) == ["29 03:00 +0200", "30 02:00 +0200"]
    assert ticks("0 2,3 * * *", "2026-03-28T12:00", 2) == ["29 03:00 +0200", "30 02:00 +0200"]
    assert ticks("15 2 * * *", "2026-10-03T12:00", 1, ZoneInfo("Australia/Lord_Howe")) == ["04 02:30 +1100"]


def test_a_run_in_the_doubled_hour_comes_once_the_first_time():
    assert ticks("30 2 * * *", "2026-10-24T12:00", 2) == ["25 02:30 +0200", "26 02:30 +0100"]
    assert ticks("*/30 2 * * *", "2026-10-24T12:00", 3) == ["25 02:00 +0200", "25 02:30 +0200", "26 02:00 +0100"]


def test_a_schedule_for_every_hour_goes_on_through_both():
    assert ticks("30 * * * *", "2026-03-29T01:00", 2) == ["29 01:30 +0100", "29 03:30 +0200"]
    doubled = ["25 02:30 +0200", "25 02:30 +0100", "25 03:30 +0100"]
    assert ticks("30 * * * *", "2026-10-25T02:00", 3) == doubled
    assert ticks("30 0-23 * * *", "2026-10-25T02:00", 3) == doubled


def test_asking_in_the_second_pass_of_the_doubled_hour_does_not_go_back():
    second = dt.datetime(2026, 10, 25, 2, 10, tzinfo=BERLIN, fold=1)
    assert CronTimes("30 2 * * *", BERLIN).after(second) == dt.datetime(2026, 10, 26, 2, 30, tzinfo=BERLIN)
    assert CronTimes("30 * * * *", BERLIN).after(second) == dt.datetime(2026, 10, 25, 1, 30, tzinfo=dt.UTC)


def test_six_fields_begin_with_the_second():
    walk = CronTimes("*/20 * * * * *", BERLIN).walk(dt.datetime(2026, 1, 1, tzinfo=dt.UTC))
    assert [tick.second for tick in islice(walk, 3)] == [20, 40, 0]


@pytest.mark.parametrize(
    "expression", ["", "x", "* * * *", "61 * * * *", "@daily", "0 0 30 2 *", "* * * * * * *", "1" * 300]
)
def test_what_is_no_cron_expression_is_refused(expression):
    with pytest.raises(ValueError, match=r"is not a cron expression|never comes"):
        CronTimes(expression, BERLIN)


@pytest.mark.parametrize("name", ["Europe/Nowhere", "", "../etc/passwd", "Europe", None, 5])
def test_what_is_no_time_zone_is_refused(name):
    with pytest.raises(ValueError, match="is not a time zone"):
        parse_zone(name)


def test_an_expression_reads_as_a_sentence():
    assert in_words("30 6 * * MON-FRI") == "At 06:30 on Monday through Friday"


def test_without_cronsim_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "cronsim", None)
    with pytest.raises(ImportError, match=r"pip install 'django-taskq-redis\[cron\]'"):
        CronTimes("1 2 3 4 5", BERLIN)
    assert in_words("1 2 3 4 5") == "1 2 3 4 5"


# --- for any expression, zone and moment ------------------------------------------------------------------------------

fields = st.sampled_from
EXPRESSIONS = st.builds(
    lambda *parts: " ".join(parts),
    fields(["0", "30", "*/15", "7,41", "10-12", "*"]),
    fields(["*", "2", "1-3", "*/2", "0", "0-23", "23"]),
    fields(["*", "1", "L", "*/2"]),
    fields(["*", "3", "10", "3,4,10,11"]),
    fields(["*", "SUN", "1-5"]),
)
# Around the changes of the clock in these zones.
MOMENTS = st.builds(
    lambda base, minutes: base + dt.timedelta(minutes=minutes),
    fields(
        [
            dt.datetime(2026, month, day, tzinfo=dt.UTC)
            for month, day in ((2, 14), (3, 7), (3, 28), (4, 4), (10, 3), (10, 24))
        ]
        + [dt.datetime(2026, 10, 31, tzinfo=dt.UTC)]
    ),
    st.integers(0, 3 * 24 * 60),
)


@settings(max_examples=150, deadline=None)
@given(EXPRESSIONS, fields(ZONES), MOMENTS)
@example("*/15 2 * * *", "Europe/Berlin", dt.datetime(2026, 3, 28, 23, tzinfo=dt.UTC))
@example("*/15 1-3 * * *", "Australia/Lord_Howe", dt.datetime(2026, 4, 4, 12, tzinfo=dt.UTC))
def test_ticks_rise_and_do_not_depend_on_where_one_starts(expression, name, moment):
    times = CronTimes(expression, ZoneInfo(name))
    walked = list(islice(times.walk(moment), 30))
    assert all(earlier < later for earlier, later in pairwise([moment, *walked]))
    for earlier, later in pairwise(walked):
        assert times.after(earlier) == later
        assert times.after(later - dt.timedelta(milliseconds=1)) == later


@settings(max_examples=100, deadline=None)
@given(
    fields(["0 2 * * *", "30 2 * * *", "15 1 * * *", "59 2 * * *", "0 0 * * *", "45 23 * * *", "30 3 * * *"]),
    fields(ZONES),
    MOMENTS,
)
def test_a_daily_run_comes_once_a_day_whatever_the_clock_does(expression, name, moment):
    zone = ZoneInfo(name)
    walked = list(islice(CronTimes(expression, zone).walk(moment), 6))
    days = [tick.astimezone(zone).date() for tick in walked]
    assert all(later - earlier == dt.timedelta(days=1) for earlier, later in pairwise(days))
