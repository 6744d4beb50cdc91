"""docs/metrics.md has every metric with its kind and labels, and its numbers are those of the code."""

from __future__ import annotations

import re

from django_taskq.core.outcome import REASONS
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


def unordered(pairs: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """In the order of the page."""
    return sorted(pairs, key=lambda pair: PAGE.index(f"### {pair[0]}"))


def test_every_alert_has_its_page_and_its_severity() -> None:
    rules = (ROOT / "deploy" / "prometheus" / "rules" / "alerts.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"- alert: (\w+)\n(?: {8}.*\n)*? {8}labels: {severity: (\w+)}", rules)
    assert len(alerts) == rules.count("- alert:")
    assert re.findall(r"^### (Taskq\w+)\n\n\*(\w+)\.\*", PAGE, re.MULTILINE) == unordered(alerts)


def test_every_reason_that_a_worker_gives_is_shown_from_the_start() -> None:
    errors = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8").split("## Reasons of dead letters")[1]
    assert set(re.findall(r"^\| `(\w+)` \|", errors, re.MULTILINE)) - {"dropped"} == set(REASONS)


def test_bounds_and_buckets_are_those_of_the_code() -> None:
    assert f"{', '.join(f'{bound:g}' for bound in BOUNDS)}." in PAGE
    assert f"Beyond {MOST_TASKS} pairs" in PAGE
