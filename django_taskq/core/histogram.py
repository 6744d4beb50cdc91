"""Histograms with fixed buckets, so that those of all workers and minutes can be added up.

A bucket is a quarter of an octave of tenths of a millisecond: four for each power of two, up to some days, and at most
25 % wide. So far off is a percentile at worst.
"""

from __future__ import annotations

from collections.abc import Mapping

UNIT = 10_000  # buckets count in 1/10,000 s
LONGEST = 2**36 - 1


def bucket_of(seconds: float) -> int:
    """The bucket of a span; 0 is less than 0.1 ms."""
    units = min(int(seconds * UNIT), LONGEST)
    if units < 4:
        return units
    bits = units.bit_length()
    return 4 * (bits - 2) + (units >> (bits - 3) & 3)


def bounds(bucket: int) -> tuple[float, float]:
    """A bucket's limits in seconds: from the first up to, and without, the second."""
    if bucket < 4:
        return bucket / UNIT, (bucket + 1) / UNIT
    octave, quarter = divmod(bucket, 4)
    step = 2 ** (octave - 1)
    low = (4 + quarter) * step
    return low / UNIT, (low + step) / UNIT


def percentile(counts: Mapping[int, int], q: float) -> float | None:
    """The span in seconds that a share `q` (0 to 1) of all does not exceed, interpolated; None when there are none."""
    wanted = q * sum(counts.values())
    passed = 0
    for bucket in sorted(counts):
        count = counts[bucket]
        if count and passed + count >= wanted:
            low, high = bounds(bucket)
            return low + (high - low) * max(0.0, wanted - passed) / count
        passed += count
    return None
