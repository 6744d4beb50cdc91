"""Buckets, their limits, and what percentiles they give."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from django_taskq.core.activity import activity
from django_taskq.core.histogram import LONGEST, UNIT, bounds, bucket_of, percentile


@given(st.floats(min_value=0.0, max_value=LONGEST / UNIT, allow_nan=False))
def test_a_span_lies_in_its_bucket(seconds: float) -> None:
    low, high = bounds(bucket_of(seconds))
    units = int(seconds * UNIT) / UNIT
    assert low <= units < high


@given(st.floats(min_value=0.0, max_value=1e12), st.floats(min_value=0.0, max_value=1e12))
def test_longer_spans_never_have_lower_buckets(one: float, other: float) -> None:
    assert bucket_of(min(one, other)) <= bucket_of(max(one, other))


def test_buckets_leave_no_gap() -> None:
    numbers = sorted({bucket_of((units + 0.5) / UNIT) for units in range(5000)})
    assert all(bounds(low)[1] == bounds(high)[0] for low, high in itertools.pairwise(numbers))


def test_what_is_longer_than_the_longest_is_in_the_last_bucket() -> None:
    assert bucket_of(1e300) == bucket_of(LONGEST / UNIT)


@pytest.mark.parametrize("q", [0.5, 0.95, 0.99])
def test_a_percentile_is_at_most_a_quarter_off(q: float) -> None:
    chance = random.Random(7)
    spans = sorted(chance.lognormvariate(-3, 1.5) for _ in range(20_000))
    counts: dict[int, int] = {}
    for span in spans:
        counts[bucket_of(span)] = counts.get(bucket_of(span), 0) + 1
    exact = spans[int(q * len(spans)) - 1]
    found = percentile(counts, q)
    assert found is not None
    assert abs(found - exact) <= exact * 0.26


def test_no_spans_have_no_percentile() -> None:
    assert percentile({}, 0.5) is None
    assert percentile({3: 0}, 0.5) is None


def test_the_ends_of_the_range() -> None:
    counts = {bucket_of(1.0): 1, bucket_of(10.0): 1}
    low, high = percentile(counts, 0.0), percentile(counts, 1.0)
    assert low == bounds(bucket_of(1.0))[0]
    assert high == bounds(bucket_of(10.0))[1]


def test_an_activity_is_one_short_text() -> None:
    assert activity("succeeded", "shop.send", 0.0, 1.0) == f"s 0 {bucket_of(1.0)} shop.send"
    assert activity("cancelled", "a b\n") == "c   a b\n"
    assert len(activity("failed", "x" * 1000)) < 270
