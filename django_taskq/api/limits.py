"""What holds tasks up: places in use, circuit breakers, which can be closed."""

from __future__ import annotations

from typing import Literal

import msgspec

from django_taskq.api.auth import Actor
from django_taskq.api.convert import utc
from django_taskq.api.errors import not_found
from django_taskq.api.log import Target, log
from django_taskq.api.paging import MOST, by_name
from django_taskq.api.schemas import Page
from django_taskq.api.schemas_limits import Breaker, Breakers, ClosedBreaker, LimitInUse, LimitsInUse
from django_taskq.broker import get_broker
from django_taskq.broker.gates import BreakerState, Gates
from django_taskq.models import Limit


def index() -> LimitsInUse:
    """Concurrency limits that have holders or hold somebody up, and paused tasks that do."""
    return LimitsInUse([LimitInUse(*state) for state in _gates().limits(MOST)])


def breakers(query: Page) -> Breakers:
    """Circuit breakers that have ever failed."""
    states, following = by_name(_gates().breakers(), lambda state: state.name, query.limit, query.cursor)
    return Breakers([_described(state) for state in states], following)


def close(actor: Actor, breaker: str) -> ClosedBreaker:
    """Lets everything pass again, and forgets its failures."""
    gates = _gates()
    found = next((state for state in gates.breakers() if state.name == breaker), None)
    if found is None:
        raise not_found(f"No circuit breaker {breaker!r} has ever failed.", "unknown_breaker")
    gates.close_breaker(breaker)
    changed = found.state != "closed"
    text = f"The circuit breaker {breaker} is closed."
    log(actor, "close", Target(Limit, breaker, f"circuit breaker {breaker}"), text, count=changed)
    return ClosedBreaker(breaker, changed)


def _described(state: BreakerState) -> Breaker:
    word = msgspec.convert(state.state.replace(" ", "_"), Literal["closed", "open", "half_open"])
    return Breaker(state.name, word, utc(state.until), state.probing, state.failures)


def _gates() -> Gates:
    broker = get_broker()
    return Gates(broker.connections, broker.keys)
