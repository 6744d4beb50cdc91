"""Charts: geometry that holds for any numbers, and numbers as people write them."""

from __future__ import annotations

import math
import re

import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from django_taskq.admin import charts, figures
from django_taskq.admin.charts import Series
from django_taskq.admin.history import clearing
from django_taskq.admin.series import buckets, overview_charts
from django_taskq.broker.statistics import Activity, Depth, Minute

MOMENTS = [f"12:{minute:02d}" for minute in range(60)]
numbers = st.lists(st.floats(0, 1e12), min_size=60, max_size=60)
holes = st.lists(st.none() | st.floats(1e-6, 1e7), min_size=60, max_size=60)


def number(value: float | None) -> str:
    return "" if value is None else figures.rate(value)


def points(path: str) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]


def inside(path: str) -> bool:
    assert "nan" not in path
    assert "inf" not in path
    assert "e" not in path
    return all(0 <= x <= charts.WIDTH and 0 <= y <= charts.HEIGHT for x, y in points(path))


@given(numbers)
def test_bars_stay_inside(values: list[float]) -> None:
    chart = charts.bars("x", "X", values, MOMENTS, number, "look")
    [series] = chart.series
    assert inside(series.path)
    assert len(points(series.path)) == sum(bool(value) for value in values)
    assert all(0 <= float(top) <= 97 for top in re.findall(r"V([\d.]+)h", series.path))


@given(holes, holes)
def test_lines_stay_inside_and_have_gaps(one: list[float | None], two: list[float | None]) -> None:
    for chart in (
        charts.lines("x", "X", [Series("a", one, ""), Series("b", two, "")], MOMENTS, number),
        charts.decades("x", "X", [Series("a", one, ""), Series("b", two, "")], MOMENTS, figures.brief, figures.power),
    ):
        for series in chart.series:
            assert inside(series.path)
            assert len(points(series.path)) == sum(value is not None for value in series.values)
        assert 2 <= len(chart.ticks) <= 6


def test_a_gap_is_not_bridged() -> None:
    chart = charts.lines("x", "X", [Series("a", [1, 1, None, 1], "")], MOMENTS[:4], number)
    assert chart.series[0].path.count("M") == 2


def test_one_failure_among_thousands_is_seen() -> None:
    chart = charts.bars("x", "X", [1, 100_000], MOMENTS[:2], number, "look")
    assert "V97h" in chart.series[0].path


def test_hostile_labels_are_escaped() -> None:
    series = [Series("<b>&\"'", [1.0], "")]
    chart = charts.lines("x", "X", series, ["12:00"], number)
    assert "<b>" not in chart.hover
    assert "&lt;b&gt;" in chart.hover


def test_no_language_writes_numbers_into_coordinates() -> None:
    with translation.override("de"):
        chart = charts.lines("x", "X", [Series("a", [0.333, 0.5], "")], MOMENTS[:2], number)
        drawing = chart.series[0].path + "".join(chart.grid) + " ".join(re.findall(r'[xwy]\w*="([^"]*)"', chart.hover))
    assert "," not in drawing


@pytest.mark.parametrize("size", [1, 7, 15, 60])
def test_buckets_hold_every_minute_once(size: int) -> None:
    minutes = [
        Minute(number, Activity(succeeded=1), depths={"a": Depth(number % 10, 0)}) for number in range(1000, 1060)
    ]
    found = buckets(minutes, size)
    assert sum(bucket.total.succeeded for bucket in found) == sum(bucket.minutes for bucket in found) == 60
    assert [bucket.minute for bucket in found] == sorted(bucket.minute for bucket in found)
    assert max(bucket.depths["a"] for bucket in found) == 9


def test_the_deepest_queues_have_lines_and_the_rest_one() -> None:
    minute = Minute(1000, depths={f"q{number}": Depth(number, 0) for number in range(9)})
    *_, depth = overview_charts(buckets([minute], 1))
    assert [series.label for series in depth.series] == ["q4", "q5", "q6", "q7", "q8", "4 others"]
    assert list(depth.series[-1].values) == [0 + 1 + 2 + 3]
    assert len({series.look for series in depth.series}) == 6


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "-"), (0, "0.0 ms"), (0.00031, "0.3 ms"), (0.0421, "42 ms"), (0.9996, "1.0 s"), (4.25, "4.2 s"),
        (9.97, "10 s"), (89, "89 s"), (100, "2 min"), (5000, "83 min"), (7200, "2 h"), (10_000, "3 h"),
        (200_000, "2 d"), (math.inf, "never"),
    ],
)  # fmt: skip
def test_spans(seconds: float | None, text: str) -> None:
    assert figures.brief(seconds) == text


@pytest.mark.parametrize(
    ("per_minute", "text"),
    [(0, "0"), (0.02, "0.1"), (3.14, "3.1"), (3.0, "3"), (9.96, "10"), (1234.5, "1,234"), (999.6, "1,000")],
)
def test_rates(per_minute: float, text: str) -> None:
    assert figures.rate(per_minute) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (999_999, "999,999"), (1_234_567, "1.2 M"), (123_456_789, "123 M"), (1_500_000_000, "1.5 G")],
)
def test_large_counts(number: int, text: str) -> None:
    assert figures.compact(number) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1e-6, "1 µs"), (1e-4, "100 µs"), (1e-3, "1 ms"), (0.1, "100 ms"), (1, "1 s"), (1e4, "10,000 s")],
)
def test_scales_of_time(seconds: float, text: str) -> None:
    assert figures.power(seconds) == text


@pytest.mark.parametrize(
    ("ratio", "text"), [(None, "-"), (0, "0 %"), (1e-6, "< 0.1 %"), (0.0123, "1.2 %"), (0.5, "50 %"), (1, "100 %")]
)
def test_shares(ratio: float | None, text: str) -> None:
    assert figures.share(ratio) == text


def test_time_to_clear() -> None:
    assert clearing(0, 1, 2) is None
    assert clearing(100, 10, 110) == 60
    assert clearing(100, 10, 10) == math.inf
