"""docs/metrics.md has every metric with its kind and labels, and its numbers are those of the code."""

from __future__ import annotations

import re

from django_taskq.metrics.families import OF_A_WORKER, OF_THE_QUEUE
from django_taskq.worker.tally import BOUNDS, MOST_TASKS
from tests.servers import ROOT

PAGE = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(taskq_\w+)` \| (gauge|counter|histogram) \| ([^|]*)\|", re.MULTILINE)


def test_every_metric_is_explained_with_its_labels() -> None:
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in ROW.findall(PAGE)}
    kinds = {"GaugeMetricFamily": "gauge", "CounterMetricFamily": "counter", "HistogramMetricFamily": "histogram"}
    families = {*OF_THE_QUEUE, *OF_A_WORKER}
    assert documented == {family.name: (kinds[family.kind.__name__], family.labels) for family in families}


def test_bounds_and_buckets_are_those_of_the_code() -> None:
    assert f"{', '.join(f'{bound:g}' for bound in BOUNDS)}." in PAGE
    assert f"Beyond {MOST_TASKS} pairs" in PAGE
