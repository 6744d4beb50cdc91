"""Nothing imports this but a worker that is to run it."""

from __future__ import annotations

import time

from tests.backend.api import task


@task
def found() -> str:
    return "found"


@task
async def found_soon() -> str:
    return "found soon"


@task
def hold() -> str:
    time.sleep(1)
    return "held"
