"""Numbers as the live pages write them: counts with their separators, rates, shares, spans."""

from __future__ import annotations

import math

from django.utils.formats import number_format
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_taskq.admin.display import EMPTY, datetime_of, moment


def count(number: int) -> str:
    """1,234,567, as the language writes it."""
    return decimal(number)


def compact(number: int) -> str:
    """A count where there is room for seven figures."""
    if number < 1_000_000:
        return count(number)
    unit, scale = ("M", 1e6) if number < 999_500_000 else ("G", 1e9)
    return f"{decimal(number / scale, 1 if number < 99.95 * scale else 0)} {unit}"


def rate(per_minute: float) -> str:
    """Events a minute, with as many digits as say something."""
    if per_minute == int(per_minute):
        return decimal(per_minute)
    return decimal(max(per_minute, 0.1), 1 if per_minute < 9.95 else 0)


def share(ratio: float | None) -> str:
    """0 to 1 as a percentage; what is not nothing never looks like nothing."""
    if ratio is None:
        return EMPTY
    if 0 < ratio < 0.001:
        return "< 0.1 %"
    return f"{decimal(ratio * 100, 1 if 0 < ratio < 0.0995 else 0)} %"


def size(number: int) -> str:
    """Bytes in the units of `--max-memory` and `taskq_status`: an MB is a million."""
    for unit, scale in (("GB", 10**9), ("MB", 10**6)):
        if number >= scale:
            return f"{decimal(number / scale, 1 if number < 10 * scale else 0)} {unit}"
    return f"{decimal(number / 1000)} kB"


def brief(seconds: float | None) -> str:
    """A span in one unit, for what is only ever approximate: 320 ms, 4.2 s, 12 min, 3 h, 2 d."""
    if seconds is None:
        return EMPTY
    if math.isinf(seconds):
        return _("never")
    if seconds < 0.9995:
        return f"{decimal(seconds * 1000, 1 if seconds < 0.00995 else 0)} ms"
    if seconds < 9.95:
        return f"{decimal(seconds, 1)} s"
    for below, unit, scale in ((90, "s", 1), (5400, "min", 60), (129_600, "h", 3600)):
        if seconds < below:
            return f"{decimal(seconds / scale)} {unit}"
    return f"{decimal(seconds / 86_400)} d"


def ago(seconds: float | None) -> str:
    """How long ago something was, which nobody needs in milliseconds."""
    return "< 1 s" if seconds is not None and seconds < 1 else brief(seconds)


def power(seconds: float) -> str:
    """A power of ten in seconds, for the scale of a chart: 10 µs, 10 ms, 1 s, 1,000 s."""
    if seconds < 0.0005:
        return f"{decimal(seconds * 1e6, 0 if seconds > 5e-7 else 1)} µs"
    return f"{count(round(seconds))} s" if seconds >= 1 else f"{decimal(seconds * 1000)} ms"


def decimal(number: float, places: int = 0) -> str:
    """Rounded, which Django's own function does not do, and written as the language does."""
    if not places and 0 <= number < 999.5:
        return str(round(number))  # in every language, and a page has hundreds of them
    return number_format(round(number, places) if places else round(number), places, force_grouping=True)


def moment_of(seconds: float | None) -> str | SafeString:
    """Epoch seconds as a local time."""
    return moment(datetime_of(seconds), short=True)
