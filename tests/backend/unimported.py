"""Nothing imports this but the test of that."""

from __future__ import annotations

from tests.backend.api import task


@task
def found() -> str:
    return "found"
