"""Fires what is due of one periodic task.

Redis decides: the script that sends a tick's message notes the tick, and nobody fires it again (broker/lua/fire.lua).
The row follows, for the admin, and for a Redis that has lost its notes. The id is made from name and tick, so a Redis
that has lost only those still knows the task.
"""

from __future__ import annotations

import datetime as dt
import logging
import uuid
from typing import Any

from django.db.models import Q

from django_taskq import producer
from django_taskq.broker import Accepted, Submission
from django_taskq.broker.periodic import Fired, Note, Tick, Ticks
from django_taskq.core.schedule import LATE, due, id_of_tick, jitter_of, moment_of, tick_ms
from django_taskq.periodic.arguments import call_of
from django_taskq.periodic.sync import rows
from django_taskq.periodic_task import PeriodicTask
from django_taskq.task import Task

logger = logging.getLogger("django_taskq.worker")


def settled(row: PeriodicTask, note: Note, now: dt.datetime) -> dt.datetime:
    """Up to when the row's ticks are settled, by what the database and Redis know."""
    return row.settled(now, moment_of(note.tick) if note.tick else None)


def fire_due(ticks: Ticks, row: PeriodicTask, task: Task[..., Any], note: Note, now: dt.datetime) -> None:
    """Sends what is due and gives up what was missed. Raises what sending raises; the rest is for the next round."""
    since = settled(row, note, now)
    plan = due(row.times, since, now, row.catch_up)
    missed = plan.missed
    for at in plan.ticks:
        what = _fire(ticks, row, task, Tick(row.name, tick_ms(at), tick_ms(since), missed), now - at)
        if what is Fired.BEFORE:
            return  # by somebody who tells the database himself, or else we do in the next round
        _tell_missed(row, missed, plan.passed)
        missed = 0
        _follow(row, at, sent=what is Fired.SENT)
    if missed and plan.passed is not None:
        if ticks.give_up(Tick(row.name, tick_ms(plan.passed), tick_ms(since), missed)) is Fired.GIVEN_UP:
            _tell_missed(row, missed, plan.passed)
        _follow(row, plan.passed, sent=False)
    if not plan.ticks and not plan.missed and note.tick:
        # Fired by somebody who died before he could tell the database, or is about to.
        _follow(row, moment_of(note.tick), sent=False, task=note.id)


def _fire(ticks: Ticks, row: PeriodicTask, task: Task[..., Any], tick: Tick, lag: dt.timedelta) -> Fired:
    at = moment_of(tick.at)
    tick = tick._replace(late=lag > LATE, overlap=row.overlap)
    what = Fired.BEFORE

    def submit(submission: Submission) -> Accepted | None:
        nonlocal what
        what, accepted = ticks.fire(tick, submission)
        return accepted

    jitter = round(jitter_of(row.name, at, row.jitter) * 1000)
    call = call_of(row, task)
    id = id_of_tick(row.name, at)
    handle = producer.send_as(task.route, call, id, tick.at + jitter if jitter else None, submit)
    if what is Fired.SENT and handle is not None:
        level = logging.WARNING if tick.late else logging.INFO
        late = f", {lag.total_seconds():.0f} s late" if tick.late else ""
        logger.log(level, "periodic task %s: sent as %s for %s%s", row.name, handle.id, at, late)
    elif what is Fired.OVERLAPPED:
        logger.warning("periodic task %s: left out %s, because the one before is still on its way", row.name, at)
    return what


def _tell_missed(row: PeriodicTask, missed: int, until: dt.datetime | None) -> None:
    """Of the many who find out, whoever has settled it says so."""
    if missed:
        logger.warning("periodic task %s: missed %d ticks up to %s", row.name, missed, until)


def _follow(row: PeriodicTask, tick: dt.datetime, *, sent: bool, task: bytes = b"") -> None:
    """The row learns how far its ticks have come; never backwards."""
    id = id_of_tick(row.name, tick) if sent else task
    changes: dict[str, Any] = {"last_tick": tick}
    if id:
        changes["last_task"] = uuid.UUID(bytes=id)
    rows().filter(Q(last_tick=None) | Q(last_tick__lt=tick), pk=row.pk).update(**changes)
