"""A task of the backport, in a project whose Django may have the interface itself."""

from __future__ import annotations

from django_tasks import task


@task
def double(number: int) -> int:
    return 2 * number


@task(takes_context=True, backend="backport")
def attempt(context) -> int:  # type: ignore[no-untyped-def]
    return context.attempt
