"""Values that people wrote in settings: read them, and say what is wrong with them."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from datetime import timedelta

_LONGEST = timedelta(days=36_500)


def close_match(name: object, known: Collection[str]) -> str:
    """A sentence for the end of an error: did you mean 'x', or all there are when nothing is close."""
    close = difflib.get_close_matches(str(name), known, n=1)
    close = close or [word for word in known if word.lower() == str(name).lower()]
    return f" Did you mean {close[0]!r}?" if close else f" Known: {', '.join(sorted(known))}."


def shown(value: object) -> str:
    """A value's type and text, shortened, for an error."""
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) <= 80 else text[:77] + '...'}"


def span(value: object) -> timedelta:
    """Seconds or a timedelta, from 0 to 100 years; ValueError."""
    if not isinstance(value, int | float | timedelta) or isinstance(value, bool):
        raise ValueError(f"must be seconds or a timedelta, not {shown(value)}.")
    try:
        read = value if isinstance(value, timedelta) else timedelta(seconds=value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"must be a usable number of seconds, not {shown(value)}: {error}.") from None
    if not timedelta(0) <= read <= _LONGEST:
        raise ValueError(f"must be between 0 and {_LONGEST.days} days, not {shown(value)}.")
    return read


def whole(value: object, least: int) -> int:
    """A whole number; ValueError."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"must be a whole number, {least} or more, not {shown(value)}.")
    return value
