"""No pages: what worker processes of the tests serve."""

from __future__ import annotations

from typing import Any

urlpatterns: list[Any] = []
