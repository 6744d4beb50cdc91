"""Circuit breakers: while what a task depends on is down, its calls wait instead of failing one by one."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from django_taskq.broker import get_broker
from django_taskq.broker.gates import Gates
from django_taskq.conf import get_settings
from django_taskq.exceptions import BreakerOpen, BrokerRefused, BrokerUnavailable, TaskqError

logger = logging.getLogger("django_taskq")

_NAME = re.compile(r"[\w.@/-]{1,200}")
# The tokens of the calls that this thread or coroutine is in the middle of, the innermost last.
_tokens: ContextVar[tuple[str, ...]] = ContextVar("django_taskq_breaker_tokens", default=())


def _milliseconds(value: Any) -> int:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 < seconds <= 86_400:
        raise ValueError(f"A breaker's spans are more than 0 and up to 86,400 seconds, not {value!r}.")
    return max(1, round(seconds * 1000))


@dataclass(frozen=True, slots=True)
class Breaker:
    """Opens after `failures` failures `within` so many seconds, and lets one call try again after `cooldown` seconds.

    As `@task(circuit_breaker=...)` it is asked before each attempt, and calls wait while it is open. Around a call, in
    a task or elsewhere, `with breaker:` (or `async with`) raises BreakerOpen while it is open; an Exception inside
    counts as a failure. Breakers of one name share their state, in all processes. While Redis is away all may pass.
    """

    name: str = ""  # a task's own breaker may do without: it takes the task's
    failures: int = 5
    within: float | timedelta = 60.0
    cooldown: float | timedelta = 30.0
    _spans: tuple[int, int] = field(init=False, repr=False, compare=False, default=(0, 0))  # ms

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.name and _NAME.fullmatch(self.name) is None:
            raise ValueError("A breaker's name is 1 to 200 letters, digits, '_', '.', '-', '/' or '@'.")
        if type(self.failures) is not int or not 1 <= self.failures <= 1_000:
            raise ValueError(f"A breaker opens after 1 to 1,000 failures, not {self.failures!r}.")
        object.__setattr__(self, "_spans", (_milliseconds(self.within), _milliseconds(self.cooldown)))

    @property
    def cooldown_ms(self) -> int:
        """Milliseconds."""
        return self._spans[1]

    def named(self, task: str) -> Breaker:
        """Itself, with the task's name if it has none."""
        return self if self.name else replace(self, name=task)

    def ask(self, verb: str, token: bytes | str) -> float:
        """Tells the breaker (`success`, `failure`, `neither`), or asks (`enter`): seconds to wait, 0 to go on.

        Raises BrokerUnavailable or BrokerRefused.
        """
        if not self.name:
            raise TaskqError("A breaker that is used outside of @task needs a name: Breaker('crm').")
        if get_settings().is_local:
            return 0.0  # a test, where nothing is down unless it says so
        broker = get_broker()
        gates = Gates(broker.connections, broker.keys)
        return gates.ask_breaker(verb, self.name, token, self.failures, *self._spans)

    def close(self) -> None:
        """Closes it, whatever it waits for."""
        self.ask("close", "")

    def __enter__(self) -> Self:
        self._entered(token := secrets.token_hex(8), self._quietly("enter", token))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._quietly(verdict_of(error), self._left())

    async def __aenter__(self) -> Self:
        self._entered(token := secrets.token_hex(8), await asyncio.to_thread(self._quietly, "enter", token))
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self._quietly, verdict_of(error), self._left())

    def _entered(self, token: str, wait: float) -> None:
        if wait > 0:
            raise BreakerOpen(breaker=self.name, seconds=wait)
        _tokens.set((*_tokens.get(), token))

    @staticmethod
    def _left() -> str:
        *outer, token = _tokens.get()
        _tokens.set(tuple(outer))
        return token

    def _quietly(self, verb: str, token: bytes | str) -> float:
        try:
            return self.ask(verb, token)
        except (BrokerUnavailable, BrokerRefused) as problem:
            logger.warning("breaker %s: %s", self.name, problem)
            return 0.0


def verdict_of(error: BaseException | None) -> str:
    """What an end says about whatever the breaker guards."""
    if error is None:
        return "success"
    return "failure" if isinstance(error, Exception) and not isinstance(error, BreakerOpen) else "neither"


def parse_breaker(value: Any) -> Breaker | None:
    """The value of the option; ValueError."""
    if value is not None and not isinstance(value, Breaker):
        raise ValueError("must be a Breaker(...) or None")
    return value
