"""How a periodic task reads: its state in a word and in sentences, its last run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from typing import Any

from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from django_taskq.admin import display
from django_taskq.periodic.status import Status
from django_taskq.periodic_task import PeriodicTask
from django_taskq.registry import lookup


def last_run_of(row: PeriodicTask, result: Any, url_of: Callable[[str], str]) -> str | SafeString:
    """When the last tick was fired, and how its task ended."""
    if row.last_task is None:
        return display.EMPTY
    at = display.moment(dt.datetime.fromtimestamp((row.last_task.int >> 80) / 1000, dt.UTC), short=True)
    url = url_of(str(row.last_task))
    when = format_html('<a href="{}">{}</a>', url, at) if url else at
    how = display.badge(result.status, result.get_status_display()) if result is not None else ""
    return format_html("{} {}", when, how)


def badge_of(status: Status) -> SafeString:
    """Its state in a word, as the live pages mark theirs."""
    row = status.row
    if row.removed_at is not None:
        level, mark, text = "warn", "▲", _("removed from the code")
    elif not row.enabled:
        level, mark, text = "none", "•", _("disabled")
    elif status.problem or lookup(row.task) is None:
        level, mark, text = "bad", "✕", _("cannot run")
    elif status.late is not None:
        level, mark, text = "bad", "✕", _("late")
    elif row.changed:
        level, mark, text = "warn", "▲", _("changed here")
    else:
        level, mark, text = "ok", "✓", _("enabled")
    return format_html(
        '<span class="tq-badge tq-state-{}"><span aria-hidden="true">{}</span> {}</span>', level, mark, text
    )


def notes_of(status: Status) -> Iterator[str]:
    """What to know about it, in sentences."""
    row = status.row
    if row.removed_at is not None:
        yield _("No worker's code declares it any more, so it is not fired. It goes on when one does again.")
    if row.is_active and lookup(row.task) is None:
        yield _("This process does not know its task. A worker that does not know it either cannot send it.")
    if status.problem:
        yield status.problem
    if status.late is not None:
        yield _("A tick is late: no worker has fired it. Is one running?")
    if row.changed:
        yield _("It was changed here, and does not follow the code: a new declaration there changes nothing.")
