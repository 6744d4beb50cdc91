"""The tasks that are measured. Django finds them because `benchmarks` is an app of benchmarks/settings.py."""

from __future__ import annotations

import asyncio
import time

from django_taskq import task


@task(name="email")  # as the floor calls it: a message carries its task's name, which can be made as long as one likes
def email(to: str, subject: str, body: str) -> None:
    """Does nothing: what is measured is the queue."""


@task
def first_line(**_: str) -> float:
    """When its first line ran, in seconds of the clock that all processes of a machine share."""
    return time.monotonic()


@task(rate_limit="100/s")
def hundred_a_second() -> float:
    """As `first_line`, in a limit."""
    return time.monotonic()


@task
async def nap(seconds: float) -> None:
    """Waits as for somebody else's server."""
    await asyncio.sleep(seconds)
