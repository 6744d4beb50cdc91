"""`python -m tests.outbox.dying`: for each line `what point` of its input a process that does it and dies there.

Django is set up once; each process is a fork of it, which has opened nothing yet. Prints how each has ended.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import django


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def arm(owner: Any, name: str, moment: str, number: int) -> None:
    """The process dies before or after the so-manieth call of a function."""
    inner, calls = getattr(owner, name), []

    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        calls.append(name)
        if moment == "before" and len(calls) == number:
            die()
        result = inner(*args, **kwargs)
        if moment == "after" and len(calls) == number:
            die()
        return result

    setattr(owner, name, wrapper)


def write(point: str) -> None:
    """A transaction with six calls, two of them with one idempotency key."""
    from django.db import transaction

    from django_taskq import outbox
    from tests.outbox.tasks import add

    if point == "after.commit":
        arm(outbox, "_nudge", "before", 1)
    elif point == "after.nudge":
        arm(outbox, "nudge", "after", 1)
    with transaction.atomic():
        add.delay_many([((number,), {}) for number in range(3)])
        add.using(queue_name="mail").delay(3)
        for number in (4, 5):
            add.using(idempotency_key="order-7").delay(number)
        if point == "before.commit":
            die()


def relay(point: str) -> None:
    """One look of a relay."""
    from django_taskq import relay as module
    from django_taskq.broker import get_broker
    from django_taskq.broker.outbox import RelayLease

    moment, name, number = point.split(".")
    owners: dict[str, Any] = {"take": RelayLease, "send": RelayLease, "withdraw": module}
    arm(owners.get(name, module.Relay), name, moment, int(number))
    module.Relay(get_broker(), "default").run_once()


DEEDS: dict[str, Callable[[str], None]] = {"write": write, "relay": relay}


def main() -> None:
    django.setup()
    for line in sys.stdin:
        what, point = line.split()
        pid = os.fork()
        if not pid:
            try:
                DEEDS[what](point)
            finally:
                os._exit(1)
        _, status = os.waitpid(pid, 0)
        print(os.WTERMSIG(status) if os.WIFSIGNALED(status) else f"not killed: {status}", flush=True)


if __name__ == "__main__":
    main()
