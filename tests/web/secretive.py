"""A task that takes a secret."""

from __future__ import annotations

from django_taskq import task


@task
def log_in(user: str, password: str) -> None: ...
