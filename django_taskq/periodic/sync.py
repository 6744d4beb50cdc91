"""Brings the rows in line with what code declares. Any number of processes, of several versions of the code, may do it.

During a deployment old and new workers run side by side and declare different things. The newest declaration stays:
what a row has left behind is not taken up again, and nothing counts as removed, while some worker declares the other.
Each says so again every 30 s. An older version that is alone (after a rollback) has its way after two minutes.
"""

from __future__ import annotations

import datetime as dt
import logging
from enum import Enum
from typing import Any

from django.db import IntegrityError, router, transaction
from django.db.models import QuerySet

from django_taskq.exceptions import KeyMissing, Undecryptable
from django_taskq.periodic.arguments import KEYED, marks, readable
from django_taskq.periodic.declarations import Declaration, declarations, is_sealed_declaration, opened_text
from django_taskq.periodic_task import SCHEDULE_FIELDS, PeriodicTask, different

logger = logging.getLogger("django_taskq.worker")

CONFIRM = dt.timedelta(seconds=30)  # how often a declaration is said again
STALE = dt.timedelta(seconds=120)  # after which nobody says it any more
REMEMBERED = 20  # declarations that a row has left behind


def rows() -> QuerySet[PeriodicTask]:
    """Where the recorder writes: a replica that lags would fire what somebody has just disabled."""
    return PeriodicTask.objects.using(router.db_for_write(PeriodicTask))


class Verdict(Enum):
    """What a declaration means for the row of its name."""

    SAME = "same"
    APPLY = "apply"
    OLDER = "older"  # others declare something newer


def judge(row: PeriodicTask, declaration: Declaration, now: dt.datetime) -> Verdict:
    """Whether it is what the row follows, what it is to follow, or what it has left behind."""
    followed = _followed(row)
    if followed == declaration.text:
        return Verdict.SAME
    # What cannot be opened here may be what others declare, who have the key.
    left = followed is None or not set(marks(row.name, declaration.text)).isdisjoint(row.superseded)
    return Verdict.OLDER if left and not is_stale(row, now) else Verdict.APPLY


def is_stale(row: PeriodicTask, now: dt.datetime) -> bool:
    """Whether no worker declares any more what the row follows."""
    return row.seen_at is None or now - row.seen_at > STALE


def synchronise(now: dt.datetime) -> None:
    """Adds, changes and disables rows as this process' code says. `now` is Redis' time. Raises database errors."""
    declared, problems = declarations()
    for problem in problems:
        logger.error("periodic task %s", problem)
    known = {row.name: row for row in rows()}
    for declaration in declared.values():
        row = known.get(declaration.name)
        try:
            if row is None:
                _create(declaration, now)
            else:
                _update(row, declaration, now)
        except KeyMissing as error:
            logger.error("periodic task %s cannot be declared: %s", declaration.name, error)
    for row in known.values():
        if row.declared and row.removed_at is None and row.name not in declared and is_stale(row, now):
            _remove(row, now)


def _remove(row: PeriodicTask, now: dt.datetime) -> None:
    # Unless somebody has declared it since we looked, which moves seen_at.
    if rows().filter(pk=row.pk, seen_at=row.seen_at, removed_at=None).update(removed_at=now):
        logger.warning("periodic task %s is in the code no more: it is disabled", row.name)


def _create(declaration: Declaration, now: dt.datetime) -> None:
    stored = declaration.stored()
    new = PeriodicTask(name=stored.name, declared=stored.text, seen_at=now, since=now, **stored.values)
    using = router.db_for_write(PeriodicTask)
    try:
        with transaction.atomic(using=using):
            new.save(using=using, force_insert=True)
    except IntegrityError:
        return  # another process was first
    logger.info("periodic task %s is declared in the code", new.name)


def _update(row: PeriodicTask, declaration: Declaration, now: dt.datetime) -> None:
    verdict = judge(row, declaration, now)
    if verdict is Verdict.OLDER:
        return
    seals = verdict is Verdict.SAME and declaration.encrypts and not is_sealed_declaration(row)
    fresh = row.removed_at is None and row.seen_at and abs(now - row.seen_at) < CONFIRM
    if verdict is Verdict.SAME and fresh and not seals:
        return
    changes: dict[str, Any] = {"seen_at": now, "removed_at": None}
    if row.removed_at is not None and now - row.removed_at > STALE:
        changes["since"] = now  # what would have come while it was gone is not made up for
    if verdict is Verdict.APPLY:
        changes |= _applied(row, declaration, now)
    elif seals:
        changes |= _sealed(row, declaration)
    # Compare-and-set: a change that somebody makes at the same moment is looked at in the next round.
    same = rows().filter(pk=row.pk, declared=row.declared, changed=row.changed, seen_at=row.seen_at)
    if same.update(**changes) and verdict is Verdict.APPLY:
        logger.info("periodic task %s follows a new declaration", row.name)


def _applied(row: PeriodicTask, declaration: Declaration, now: dt.datetime) -> dict[str, Any]:
    """What a new declaration changes in a row. A row of the same name that was made in the admin keeps what it says."""
    stored, names = declaration.stored(), marks(row.name, declaration.text)
    changes: dict[str, Any] = {"declared": stored.text}
    if not row.declared:
        changed = different(readable(row), declaration.values)
        return changes | {"changed": changed} | ({} if changed else stored.values)  # which may have to be sealed
    left = _kept_marks(row, declaration)
    if followed := _followed(row):
        left.append(marks(row.name, followed)[0 if declaration.encrypts else -1])
    changes["superseded"] = [each for each in left if each not in names][-REMEMBERED:]
    if not row.changed:
        changes |= stored.values
        if different(row, declaration.values, SCHEDULE_FIELDS):
            changes["since"] = now
    return changes


def _sealed(row: PeriodicTask, declaration: Declaration) -> dict[str, Any]:
    """What changes in a row that follows it already, from when its task did not encrypt."""
    stored = declaration.stored()
    changes: dict[str, Any] = {"declared": stored.text, "superseded": _kept_marks(row, declaration)}
    if not row.changed:  # what somebody typed is not the code's: only people can say whether it may be believed
        changes |= {field: stored.values[field] for field in ("args", "kwargs")}
    return changes


def _kept_marks(row: PeriodicTask, declaration: Declaration) -> list[str]:
    """What the row has left behind; of a task that encrypts what was marked with a key."""
    return [mark for mark in row.superseded if not declaration.encrypts or mark.startswith(KEYED)]


def _followed(row: PeriodicTask) -> str | None:
    """What the row follows, plain; None where it cannot be opened."""
    try:
        return opened_text(row)
    except Undecryptable:
        return None
