"""What an operator should know first: from a look at the queue to sentences, the worst one first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from django_taskq.admin.conditions import BAD, BEHIND, OK, WARN, behind, failing, full, unserved
from django_taskq.admin.figures import brief, count, share
from django_taskq.admin.history import RECENT, Rates
from django_taskq.admin.look import Look
from django_taskq.broker.inspector import QueueState
from django_taskq.outbox import Backlog
from django_taskq.periodic.status import Troubles

UNRECORDED = 10_000  # outcomes
FULL = 0.9  # share of maxmemory
NAMED = 3  # queues
_GRAVE = frozenset({"W101", "W102"})  # of broker/health.py: tasks get lost


class Finding(NamedTuple):
    """`page` is the live page that says more; `command` what to type next."""

    level: str
    text: str
    page: str = ""
    command: str = ""


def findings(
    look: Look, rates: Rates | None, outboxes: Sequence[Backlog] = (), periodic: Troubles | None = None
) -> list[Finding]:
    """Everything that is wrong, or one sentence that says that nothing is."""
    found = [*_workers(look), *_queues(look), *_held_up(look), *_failures(rates), *_server(look), *_outboxes(outboxes)]
    found += _periodic(periodic or Troubles())
    return sorted(found, key=lambda finding: finding.level != BAD) or [_fine(look)]


def _workers(look: Look) -> list[Finding]:
    waiting = sum(queue.ready for queue in look.queues)
    command = "manage.py taskq_worker"
    if not look.alive:
        text = _("No worker is alive.")
        if waiting:
            text = ngettext(
                "No worker is alive, and %(count)s task waits.",
                "No worker is alive, and %(count)s tasks wait.",
                waiting,
            ) % {"count": count(waiting)}
        return [Finding(BAD if waiting else WARN, text, "workers", command)]
    found = []
    if left := [queue for queue in look.queues if unserved(look, queue)]:
        text = ngettext(
            "No worker serves the queue %(names)s (tasks waiting: %(waiting)s).",
            "No worker serves the queues %(names)s (tasks waiting: %(waiting)s).",
            len(left),
        )
        names = ",".join(queue.name for queue in left[:NAMED])
        found.append(Finding(BAD, text % _named(left), "queues", f"{command} --queues {names}"))
    if look.lost:
        text = ngettext(
            "%(count)s worker has stopped beating; its tasks go to others.",
            "%(count)s workers have stopped beating; their tasks go to others.",
            len(look.lost),
        )
        found.append(Finding(WARN, text % {"count": count(len(look.lost))}, "workers"))
    return found


def _queues(look: Look) -> list[Finding]:
    found = []
    # Those that no worker serves have been named already.
    late = [queue for queue in look.queues if behind(look, queue) and look.serving(queue.name)]
    if late:
        oldest = max(look.at - (queue.oldest or look.at) for queue in late)
        text = ngettext(
            "%(count)s queue is behind; the oldest task has waited for %(span)s.",
            "%(count)s queues are behind; the oldest task has waited for %(span)s.",
            len(late),
        )
        found.append(Finding(BAD, text % {"count": count(len(late)), "span": brief(oldest)}, "queues"))
    paused = [queue for queue in look.queues if queue.paused]
    if paused:
        text = ngettext(
            "The queue %(names)s is paused (tasks waiting: %(waiting)s).",
            "The queues %(names)s are paused (tasks waiting: %(waiting)s).",
            len(paused),
        )
        # Not a name that somebody else chose: this is copied into a shell.
        known = next((queue.name for queue in paused if queue.name in look.declared), "")
        command = f"manage.py taskq_queue resume {known}" if known else ""
        found.append(Finding(WARN, text % _named(paused), "queues", command))
    crowded = [queue for queue in look.queues if full(queue)]
    if crowded:
        text = ngettext(
            "The queue %(names)s is full: it has reached its max_length.",
            "The queues %(names)s are full: they have reached their max_length.",
            len(crowded),
        )
        found.append(Finding(WARN, text % _named(crowded), "queues"))
    undeclared = [queue for queue in look.queues if queue.name not in look.declared and queue.ready]
    if undeclared:
        text = ngettext(
            "The queue %(names)s is not declared in TASKQ['QUEUES'] (tasks waiting: %(waiting)s).",
            "The queues %(names)s are not declared in TASKQ['QUEUES'] (tasks waiting: %(waiting)s).",
            len(undeclared),
        )
        found.append(Finding(WARN, text % _named(undeclared), "queues"))
    return found


def _held_up(look: Look) -> list[Finding]:
    """What somebody, or a circuit breaker, keeps from starting."""
    found = []
    if look.paused_tasks:
        text = ngettext(
            "The task %(names)s is paused.", "The tasks %(names)s are paused.", len(look.paused_tasks)
        )  # fmt: skip
        found.append(Finding(WARN, text % {"names": _few(sorted(look.paused_tasks))}, "task_types"))
    broken = [breaker.name for breaker in look.breakers if breaker.state != "closed"]
    if broken:
        text = ngettext(
            "The circuit breaker %(names)s is open: what it guards has failed.",
            "The circuit breakers %(names)s are open: what they guard has failed.",
            len(broken),
        )
        found.append(Finding(BAD, text % {"names": _few(broken)}, "limits"))
    return found


def _named(queues: Sequence[QueueState]) -> dict[str, str]:
    """The first few by name, and what waits in all of them."""
    return {"names": _few([queue.name for queue in queues]), "waiting": count(sum(queue.ready for queue in queues))}


def _failures(rates: Rates | None) -> list[Finding]:
    if rates is None or not failing(rates.total):
        return []
    text = _("%(share)s of the tasks that ended in the last %(minutes)d minutes failed.")
    return [Finding(BAD, text % {"share": share(rates.total.failure_ratio), "minutes": RECENT}, "task_types")]


def _server(look: Look) -> list[Finding]:
    found = []
    health = look.health
    if health is not None:
        found = [Finding(BAD if one.id in _GRAVE else WARN, f"{one.text} {one.hint}") for one in health.problems]
        if health.evicted:
            text = _("Redis has evicted %(count)s keys since it started. Tasks may have been among them.")
            found.append(Finding(BAD, text % {"count": count(health.evicted)}))
        if health.maxmemory and health.memory > FULL * health.maxmemory:
            text = _("Redis' memory is %(share)s full. A full Redis refuses new tasks.")
            found.append(Finding(BAD, text % {"share": share(health.memory / health.maxmemory)}))
    bound = min((worker.max_outcomes for worker in look.alive if worker.max_outcomes), default=None)
    if bound is not None and look.lag >= bound:
        text = _(
            "Workers claim nothing: %(count)s outcomes wait for the database, and MAX_OUTCOMES is %(bound)s. "
            "Is the database away, or no maintenance process running?"
        )
        found.append(Finding(BAD, text % {"count": count(look.lag), "bound": count(bound)}))
    elif look.lag > UNRECORDED:
        text = _("%(count)s outcomes wait for the database. Is it away, or no worker running?")
        found.append(Finding(WARN, text % {"count": count(look.lag)}))
    return found


def _outboxes(outboxes: Sequence[Backlog]) -> list[Finding]:
    found = []
    for outbox in outboxes:
        if outbox.oldest is not None and outbox.oldest > BEHIND:
            text = _("The outbox of %(database)s is behind (calls: %(count)s); the oldest has waited for %(span)s.")
            shown = {"database": outbox.database, "count": count(outbox.waiting), "span": brief(outbox.oldest)}
            found.append(Finding(BAD, text % shown, "outbox", "manage.py taskq_worker"))
        if outbox.refused:
            text = _("Redis refused %(count)s calls in the outbox of %(database)s. They stay there.")
            found.append(Finding(BAD, text % {"count": count(outbox.refused), "database": outbox.database}, "outbox"))
    return found


def _periodic(troubles: Troubles) -> list[Finding]:
    found = []
    if troubles.late:
        text = ngettext(
            "The periodic task %(names)s is late: no worker sends it.",
            "The periodic tasks %(names)s are late: no worker sends them.",
            len(troubles.late),
        )
        found.append(Finding(BAD, text % {"names": _few(troubles.late)}, "periodic", "manage.py taskq_periodic list"))
    if troubles.failed:
        text = ngettext(
            "The last run of the periodic task %(names)s failed.",
            "The last runs of the periodic tasks %(names)s failed.",
            len(troubles.failed),
        )
        found.append(Finding(WARN, text % {"names": _few(troubles.failed)}, "periodic"))
    return found


def _few(names: Sequence[str]) -> str:
    shown, more = list(names[:NAMED]), len(names) - NAMED
    if more > 0:
        shown.append(ngettext("%(count)s more", "%(count)s more", more) % {"count": count(more)})
    return ", ".join(shown)


def _fine(look: Look) -> Finding:
    oldest = max((look.at - queue.oldest for queue in look.queues if queue.oldest is not None), default=None)
    if oldest is None:
        return Finding(OK, _("All is well: nothing waits."))
    return Finding(OK, _("All is well: no task has waited for more than %(span)s.") % {"span": brief(max(1.0, oldest))})
