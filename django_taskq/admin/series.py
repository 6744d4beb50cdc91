"""From minutes to the charts of the overview: over an hour minute by minute, over a day by quarters of an hour."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import NamedTuple

from django.utils import timezone
from django.utils.translation import gettext as _

from django_taskq.admin import charts
from django_taskq.admin.charts import Chart, Series
from django_taskq.admin.figures import brief, count, power, rate
from django_taskq.admin.history import add_up
from django_taskq.broker.statistics import Activity, Minute

SPANS = {"1h": 1, "24h": 15}  # what is chosen -> minutes of one point
QUEUES = 5  # lines of the chart of depths; the rest is one more


class Bucket(NamedTuple):
    """Some minutes in one. `depths`: the most that each queue held."""

    minute: int
    minutes: int
    total: Activity
    depths: dict[str, int]


def buckets(minutes: Sequence[Minute], size: int) -> list[Bucket]:
    """Minutes, so many to a bucket; the last one ends with the present."""
    found = []
    for end in range(len(minutes) % size or size, len(minutes) + 1, size):
        part = minutes[max(0, end - size) : end]
        depths: dict[str, int] = {}
        for minute in part:
            for queue, depth in minute.depths.items():
                depths[queue] = max(depths.get(queue, 0), depth.ready)
        total = add_up((0, minute.total) for minute in part).get(0, Activity())
        found.append(Bucket(part[0].minute, len(part), total, depths))
    return found


def overview_charts(found: Sequence[Bucket]) -> list[Chart]:
    """Ends, failures, waits, runs, depths."""
    moments = [_clock(bucket.minute) for bucket in found]
    totals = [bucket.total for bucket in found]
    ended = [(bucket.total.succeeded / bucket.minutes, bucket.total.failed / bucket.minutes) for bucket in found]
    return [
        charts.bars("succeeded", _("Succeeded a minute"), [ok for ok, _bad in ended], moments, _number, "tq-look-ok"),
        charts.bars("failed", _("Failed a minute"), [bad for _ok, bad in ended], moments, _number, "tq-look-bad"),
        charts.decades(
            "wait", _("Wait for a worker"), _percentiles([total.wait for total in totals]), moments, brief, power
        ),
        charts.decades("run", _("Time to run"), _percentiles([total.run for total in totals]), moments, brief, power),
        charts.lines("depth", _("Waiting by queue"), _depths(found), moments, _number),
    ]


def _percentiles(asked: Sequence[charts.Percentile]) -> list[Series]:
    marks = (("p50", 0.5, "tq-look-p50"), ("p95", 0.95, "tq-look-p95"), ("p99", 0.99, "tq-look-p99"))
    return [Series(label, [of(q) for of in asked], look) for label, q, look in marks]


def _depths(found: Sequence[Bucket]) -> list[Series]:
    """The deepest queues, each with a line; the others together."""
    most: dict[str, int] = {}
    for bucket in found:
        for queue, depth in bucket.depths.items():
            most[queue] = max(most.get(queue, 0), depth)
    ranked = sorted(most, key=lambda queue: (-most[queue], queue))
    shown, others = ranked[:QUEUES], ranked[QUEUES:]
    series = [
        Series(queue, [bucket.depths.get(queue) for bucket in found], f"tq-look-{position}")
        for position, queue in enumerate(sorted(shown), start=1)
    ]
    if others:
        values = [sum(bucket.depths.get(queue, 0) for queue in others) if bucket.depths else None for bucket in found]
        series.append(Series(_("%(count)s others") % {"count": count(len(others))}, values, "tq-look-6"))
    return series


def _clock(minute: int) -> str:
    return f"{timezone.localtime(dt.datetime.fromtimestamp(minute * 60, dt.UTC)):%H:%M}"


def _number(value: float | None) -> str:
    return "" if value is None else rate(value)
