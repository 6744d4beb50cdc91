"""The periodic task of the load. Imported by workers only: whoever declares it fires it."""

from __future__ import annotations

from django_taskq import task
from tests.chaos.tasks import TICK, kept


@task(every=1)
def tick() -> None:
    with kept(TICK):
        pass
