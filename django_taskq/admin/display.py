"""How records read on a page: spans of time, ids, JSON, the timeline of attempts."""

from __future__ import annotations

import datetime as dt
import json
import re
from dataclasses import dataclass
from typing import Any

from django.utils import timezone
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString, mark_safe
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

SHOWN_JSON = 64 * 1024  # characters of a value that a page shows
EMPTY = "-"
_MARKS = {
    "succeeded": "✓",
    "failed": "✕",
    "dead": "✕",
    "requeued": "↻",
    "cancelled": "■",
    "expired": "⌛",
    "discarded": "⊘",
    "queued": "…",
    "scheduled": "◷",
    "blocked": "⧖",
    "running": "▶",
}
# How an attempt may end.
_HOWS = {
    "succeeded": gettext_lazy("succeeded"),
    "failed": gettext_lazy("failed"),
    "cancelled": gettext_lazy("cancelled"),
    "expired": gettext_lazy("expired"),
    "discarded": gettext_lazy("discarded"),
    "running": gettext_lazy("running"),
    "retry": gettext_lazy("retry"),
    "timeout": gettext_lazy("timeout"),
    "worker_lost": gettext_lazy("worker lost"),
    "unknown_task": gettext_lazy("unknown task"),
}
# The badge that it resembles: an attempt that was retried had failed.
_TONES = {name: name for name in _MARKS} | dict.fromkeys(("timeout", "worker_lost", "retry", "unknown_task"), "failed")


def span(seconds: float | None) -> str:
    """A length of time in the two units that matter: 0.42 ms, 12 ms, 3.14 s, 4 min 5 s, 2 h 30 min, 3 d 4 h."""
    if seconds is None:
        return EMPTY
    if seconds < 0.001:
        return f"{seconds * 1000:.2f} ms"
    if seconds < 0.9995:
        return f"{seconds * 1000:.3g} ms"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for unit, smaller, size, part in (("d", "h", 86_400, 3600), ("h", "min", 3600, 60), ("min", "s", 60, 1)):
        if whole >= size:
            return f"{whole // size} {unit} {whole % size // part} {smaller}"
    return f"{whole} s"


def moment(value: dt.datetime | None, *, milliseconds: bool = False, short: bool = False) -> str | SafeString:
    """A time in the current time zone, with the same in UTC as its title; `short` leaves out the current year."""
    if value is None:
        return EMPTY
    aware = value if timezone.is_aware(value) else timezone.make_aware(value)
    local, utc = timezone.localtime(aware), aware.astimezone(dt.UTC)
    this_year = timezone.localtime(dt.datetime.now(dt.UTC)).year  # with USE_TZ and without
    text = f"{local:%m-%d %H:%M:%S}" if short and local.year == this_year else f"{local:%Y-%m-%d %H:%M:%S}"
    if milliseconds:
        text += f".{local.microsecond // 1000:03d}"
    title = f"{utc:%Y-%m-%d %H:%M:%S}.{utc.microsecond // 1000:03d} UTC"
    return format_html('<time class="tq-time" datetime="{}" title="{}">{}</time>', utc.isoformat(), title, text)


def datetime_of(seconds: float | None) -> dt.datetime | None:
    """Epoch seconds as a time in UTC; None for None, and for what no calendar has: messages may be anybody's."""
    try:
        return None if seconds is None else dt.datetime.fromtimestamp(seconds, dt.UTC)
    except (OverflowError, ValueError, OSError):
        return None


def breakable(name: str) -> SafeString:
    """A dotted name that may break after a dot or an underscore, so that a long one does not widen its list."""
    return format_html_join(mark_safe("<wbr>"), "{}", ((part,) for part in re.findall(r"[^._]*[._]?", name) if part))


def unbroken(text: str) -> SafeString:
    """Kept on one line."""
    return format_html('<span class="tq-span">{}</span>', text)


def badge(value: str, label: Any) -> SafeString:
    """A status, told apart by its mark and its word as well as by its colour."""
    kind = value if value in _MARKS else "other"
    return format_html(
        '<span class="tq-badge tq-{}"><span aria-hidden="true">{}</span> {}</span>', kind, _MARKS.get(value, "•"), label
    )


def short_id(value: Any) -> SafeString:
    """The end of an id, which differs between tasks of one moment, where its beginning does not; the whole as title."""
    return format_html('<span class="tq-id" title="{}">…{}</span>', value, str(value)[-8:])


def pretty_json(text: str | None) -> str:
    """JSON on several lines, or the text as it is where it is none; cut at SHOWN_JSON characters, saying so."""
    if text is None:
        return "null"
    shown = text
    if len(text) <= SHOWN_JSON:
        try:
            shown = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            shown = text
    if len(shown) > SHOWN_JSON:
        left = _("… %(count)d more characters") % {"count": len(shown) - SHOWN_JSON}
        shown = f"{shown[:SHOWN_JSON]}\n{left}"
    # A lone surrogate (JSON may spell one) cannot be sent as UTF-8.
    return shown.encode("utf-8", "backslashreplace").decode()


@dataclass(slots=True)
class Step:
    """An attempt on the timeline. Times are epoch seconds; x and width are thousandths of the whole."""

    number: int
    how: str
    started: float | None
    ended: float | None
    wait: str  # what went before it: since it was enqueued, or since the attempt before
    worker: str
    error_class: str
    error_message: str
    traceback: str
    log: str = ""
    x: int = 0
    width: int = 0

    @property
    def started_at(self) -> str | SafeString:
        return moment(datetime_of(self.started), milliseconds=True)

    @property
    def ran(self) -> str:
        if self.started is None or self.ended is None:
            return EMPTY
        return span(max(0.0, self.ended - self.started))

    @property
    def tone(self) -> str:
        """Which colour it has."""
        return _TONES.get(self.how, "other")

    @property
    def label(self) -> SafeString:
        return badge(self.tone, _HOWS.get(self.how, self.how.replace("_", " ")))


def timeline(history: list[dict[str, Any]], enqueued: dt.datetime | None, last: dict[str, Any] | None) -> list[Step]:
    """The attempts in order, each placed on a line a thousand units long, from enqueued to the end of the last.

    `last` is the final attempt as the row has it; it is left out where the history holds that attempt already.
    """
    attempts = [attempt for attempt in history if isinstance(attempt.get("number"), int)]
    if last is not None and not any(attempt["number"] >= last["number"] for attempt in attempts):
        attempts.append(last)
    steps: list[Step] = []
    before = enqueued.timestamp() if enqueued is not None else None
    for attempt in attempts:
        started, ended = _number(attempt.get("started")), _number(attempt.get("ended"))
        wait = span(max(0.0, started - before)) if started is not None and before is not None else EMPTY
        worker, error_class, message, traceback, log = (
            str(attempt.get(name) or "") for name in ("worker", "error_class", "error_message", "traceback", "log")
        )
        how = str(attempt.get("how") or "failed")
        steps.append(Step(attempt["number"], how, started, ended, wait, worker, error_class, message, traceback, log))
        before = ended if ended is not None else before
    _place(steps, enqueued.timestamp() if enqueued is not None else None)
    return steps


def _place(steps: list[Step], enqueued: float | None) -> None:
    """A bar is never thinner than four units: an attempt of a millisecond in an hour is still to be seen."""
    times = [time for step in steps for time in (step.started, step.ended) if time is not None]
    if enqueued is not None:
        times.append(enqueued)
    if not times:
        return
    first = min(times)
    scale = 1000 / max(max(times) - first, 1e-6)
    for step in steps:
        if step.started is not None and step.ended is not None:
            step.width = max(4, round((step.ended - step.started) * scale))
            step.x = min(round((step.started - first) * scale), 1000 - step.width)


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) else None
