"""Nothing imports this but a worker that is to run it."""

from __future__ import annotations

from tests.backend.api import task


@task
def found() -> str:
    return "found"
