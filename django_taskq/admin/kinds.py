"""Dead letters by kind of failure: an error class at a place in the application's code."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Max, Min, Q, QuerySet
from django.utils.translation import gettext as _

from django_taskq.admin import display
from django_taskq.admin.paging import newest
from django_taskq.core.fingerprint import place_of
from django_taskq.models import DeadTask
from django_taskq.opening import hidden

SHOWN = 6
MOST = 100
GROUPED = 10_000  # dead letters that are counted where no index does it alone: the newest
MESSAGE = 300  # characters of the sample's error


@dataclass(slots=True)
class Kind:
    """Failures that share a fingerprint, with the newest of them as a sample."""

    fingerprint: str
    count: int
    first: Any
    last: Any
    sample: DeadTask | None = None
    links: Any = None  # what may be done with all of them

    @property
    def title(self) -> str:
        """The error, or the reason of what failed without one."""
        sample = self.sample
        if sample is None:
            return self.fingerprint
        return sample.error_class.rpartition(".")[2] or sample.reason.replace("_", " ") or display.EMPTY

    @property
    def place(self) -> str:
        """Where it was raised."""
        return place_of(self.sample.traceback) if self.sample is not None else ""

    @property
    def message(self) -> str:
        """What the newest one says."""
        text = "" if self.sample is None else " ".join(hidden(self.sample.error_message, say=_)[: 2 * MESSAGE].split())
        return text if len(text) <= MESSAGE else f"{text[:MESSAGE]}…"


def kinds_of(rows: QuerySet[DeadTask], most: int, *, filtered: bool) -> tuple[list[Kind], bool]:
    """The kinds that most of these rows belong to, and whether there are more kinds; two or three queries.

    An index counts whatever is in one state. Of rows that are `filtered` further the newest GROUPED are counted.
    """
    grouped = (newest(rows, GROUPED, among=rows) if filtered else rows).order_by().values("fingerprint")
    counted = grouped.annotate(count=Count("pk"), first=Min("failed_at"), last=Max("failed_at"))
    found = list(counted.order_by("-count", "-last", "fingerprint")[: most + 1])
    kinds = [Kind(**values) for values in found[:most]]
    _add_samples(rows, kinds)
    for kind in kinds:
        kind.first, kind.last = (_shown(moment) for moment in (kind.first, kind.last))
    return kinds, len(found) > most


def _add_samples(rows: QuerySet[DeadTask], kinds: list[Kind]) -> None:
    """The newest of each kind; by the index of fingerprints and times."""
    if not kinds:
        return
    wanted = Q()
    for kind in kinds:
        wanted |= Q(fingerprint=kind.fingerprint, failed_at=kind.last)
    columns = ("fingerprint", "task", "task_id", "reason", "error_class", "error_message", "traceback")
    samples = {row.fingerprint: row for row in rows.filter(wanted).order_by("pk").defer(None).only(*columns)}
    for kind in kinds:
        kind.sample = samples.get(kind.fingerprint)


def _shown(moment: dt.datetime) -> Any:
    return display.moment(moment, short=True)
