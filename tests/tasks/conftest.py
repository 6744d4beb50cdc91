"""Fixtures for the tests of tasks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from django_taskq import registry


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, object]]:
    """A copy of the registry: what a test registers is forgotten after it."""
    copy = dict(registry._tasks)
    monkeypatch.setattr(registry, "_tasks", copy)
    yield copy  # noqa: PT022
