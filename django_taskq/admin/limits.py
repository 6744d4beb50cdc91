"""Limits: what holds calls up, how many wait, and when rate limits let the next one start; closes circuit breakers."""

from __future__ import annotations

import weakref
from typing import Any

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import URLPattern
from django.utils.translation import gettext as _

from django_taskq.admin import display
from django_taskq.admin.conditions import BAD, OK, WARN
from django_taskq.admin.figures import brief, count
from django_taskq.admin.live import LiveAdmin
from django_taskq.admin.look import FRESH, Look, look, look_again
from django_taskq.admin.shared import shared
from django_taskq.broker import Broker, get_broker
from django_taskq.broker.gates import BreakerState, Gates, LimitState
from django_taskq.conf import get_settings
from django_taskq.core.gates import limit_name
from django_taskq.exceptions import TaskqError
from django_taskq.models import Limit
from django_taskq.rates import Rate
from django_taskq.registry import all_tasks, lookup

MOST = 200  # rows of each kind

Found = tuple[list[LimitState], dict[str, float], str]
NOTHING: Found = [], {}, ""
_seen: weakref.WeakKeyDictionary[Broker, Found] = weakref.WeakKeyDictionary()  # what is shown while Redis is away


@admin.register(Limit)
class LimitAdmin(LiveAdmin):
    """Three short tables; the queue is asked for what is in use, the code for what is declared."""

    template = "admin/django_taskq/limits.html"

    def get_urls(self) -> list[URLPattern]:
        return [*super().get_urls(), self.route("close/", self.close_view, "close")]

    def content(self, request: HttpRequest) -> dict[str, Any]:
        now = look()
        found = (
            _seen.get(get_broker(), NOTHING) if now.error else shared(get_broker(), "limits", FRESH, _look_at_limits)
        )
        states, following, error = found
        return {
            **self.away(now),
            **({"error": error} if error else {}),
            "can_close": request.user.has_perm("django_taskq.pause"),
            "places": [_place(state) for state in states],
            "rates": _rates(now, following),
            "breakers": [_breaker(now, state) for state in sorted(now.breakers, key=_is_closed)[:MOST]],
        }

    def close_view(self, request: HttpRequest) -> HttpResponse:
        """POST: a circuit breaker lets everything pass again."""
        if refusal := self.refused(request, "pause"):
            return refusal
        name = request.POST.get("breaker", "")
        try:
            gates = _gates()
            if name not in {state.name for state in gates.breakers()}:
                raise Http404
            gates.close_breaker(name)
            text = _("The circuit breaker %(name)s is closed.") % {"name": name}
            self.acted(request, "close", name, text)
            self.message_user(request, text, messages.SUCCESS)
        except TaskqError as error:
            self.message_user(request, str(error), messages.ERROR)
        look_again()
        return HttpResponseRedirect(self.link(Limit))


def _gates() -> Gates:
    broker = get_broker()
    return Gates(broker.connections, broker.keys)


def _place(state: LimitState) -> dict[str, Any]:
    kind, _colon, rest = state.name.partition(":")
    name, _colon, key = rest.partition(":")
    most: int | None = None
    if kind == "queue" and name in get_settings().queues:
        most = get_settings().queues[name].max_concurrency
    elif kind == "task" and (task := lookup(name)) is not None:
        most = task.max_concurrency
    kinds = {"queue": _("queue"), "task": _("task"), "paused": _("paused task")}
    return {
        "key": state.name,
        "kind": kinds.get(kind, kind),
        "name": display.breakable(name),
        "of": key,
        "holders": count(state.holders),
        "most": display.EMPTY if most is None else count(most),
        "waiting": count(state.waiting),
    }


def _look_at_limits() -> Found:
    """What is in use, when rates let the next one start, and why that cannot be said."""
    try:
        gates = _gates()
        found = gates.limits(MOST), gates.next_starts(sorted(_declared_rates())[:MOST]), ""
    except TaskqError as error:
        return [], {}, str(error)
    _seen[get_broker()] = found
    return found


def _declared_rates() -> dict[str, Rate]:
    """Of queues, and of tasks whose calls all share one; those with keys are too many to list."""
    declared = {f"queue:{name}": options.rate_limit for name, options in get_settings().queues.items()}
    declared |= {limit_name(task.name): task.rate_limit for task in all_tasks() if task.rate_limit_key is None}
    return {limit: rate for limit, rate in declared.items() if rate is not None}


def _rates(now: Look, following: dict[str, float]) -> list[dict[str, Any]]:
    limited = _declared_rates()
    return [
        {
            "key": name,
            "name": display.breakable(name.partition(":")[2]),
            "rate": str(limited[name]),
            "next": brief(max(0.0, following[name] - now.at)) if name in following else _("now"),
        }
        for name in sorted(limited)[:MOST]
    ]


def _is_closed(state: BreakerState) -> bool:
    return state.state == "closed"


def _breaker(now: Look, state: BreakerState) -> dict[str, Any]:
    level, text = {"closed": (OK, _("closed")), "open": (BAD, _("open"))}.get(state.state, (WARN, _("half open")))
    left = None if state.until is None or state.state != "open" else max(0.0, state.until - now.at)
    return {
        "name": state.name,
        "level": level,
        "state": text,
        "failures": count(state.failures),
        "left": display.EMPTY if left is None else brief(left),
        "closable": state.state != "closed",
    }
