"""The ways to send a call, which a task and `task.using(...)` have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar

from asgiref.sync import sync_to_async

from django_taskq import producer
from django_taskq.conf import get_settings
from django_taskq.route import Route

if TYPE_CHECKING:
    from django_taskq.handle import TaskHandle

P = ParamSpec("P")
R = TypeVar("R")


class Sender(Generic[P, R]):
    """All of them raise InvalidArguments for a call that does not fit the function's signature or that JSON would
    change, PayloadTooLarge, QueueFull and BrokerUnavailable.
    """

    _route: Route

    @property
    def route(self) -> Route:
        """Where its calls go."""
        return self._route

    def delay(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Sends the call to a worker."""
        return producer.send(self._route, args, kwargs)

    async def adelay(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """`delay` without blocking the event loop."""
        # On the thread whose database connections, and transactions, this context has.
        if self._route.outbox or get_settings().is_local:
            return await sync_to_async(self.delay)(*args, **kwargs)
        return await asyncio.to_thread(self.delay, *args, **kwargs)

    def delay_many(self, calls: Iterable[tuple[Sequence[Any], Mapping[str, Any]]]) -> list[TaskHandle[R]]:
        """Sends many calls, given as (arguments, keyword arguments), 500 a round trip, each fair key's in their own.

        Nothing is sent if one of them is wrong. Each 500 are sent whole or not at all; when a later one cannot be sent
        the earlier ones have been.
        """
        return producer.send_many(self._route, calls)

    def delay_on_commit(self, *args: P.args, **kwargs: P.kwargs) -> TaskHandle[R]:
        """Sends the call when the surrounding transaction commits, at once without one, never if it is rolled back.

        The call is checked now and the handle has its id now; a relative `run_after` counts from the commit. The
        transaction is that of the database `default`, or of `using(database=...)`. A broker that is away then raises
        BrokerUnavailable out of the commit: the transaction is in the database, the task is not sent. If an idempotency
        key turns out to be taken, the handle becomes that of the earlier task.
        """
        return producer.send_on_commit(self._route, args, kwargs)

    enqueue = delay
    aenqueue = adelay
