"""What holds tasks up: places in use, circuit breakers."""

from __future__ import annotations

from typing import Literal

import msgspec

from django_taskq.api.convert import utc
from django_taskq.api.paging import MOST, by_name
from django_taskq.api.schemas import Breaker, Breakers, LimitInUse, LimitsInUse, Page
from django_taskq.broker import get_broker
from django_taskq.broker.gates import BreakerState, Gates


def index() -> LimitsInUse:
    """Concurrency limits that have holders or hold somebody up, and paused tasks that do."""
    return LimitsInUse([LimitInUse(*state) for state in _gates().limits(MOST)])


def breakers(query: Page) -> Breakers:
    """Circuit breakers that have ever failed."""
    states, following = by_name(_gates().breakers(), lambda state: state.name, query.limit, query.cursor)
    return Breakers([_described(state) for state in states], following)


def _described(state: BreakerState) -> Breaker:
    word = msgspec.convert(state.state.replace(" ", "_"), Literal["closed", "open", "half_open"])
    return Breaker(state.name, word, utc(state.until), state.probing, state.failures)


def _gates() -> Gates:
    broker = get_broker()
    return Gates(broker.connections, broker.keys)
