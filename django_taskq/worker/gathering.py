"""Calls of batch tasks that wait in a worker for more of their kind. Pure: now is an argument, monotonic seconds."""

from __future__ import annotations

from typing import Generic, TypeVar

Item = TypeVar("Item")


class _Group(Generic[Item]):
    """What has gathered for one task: due when its first has waited for long enough."""

    def __init__(self, size: int, due: float) -> None:
        self.size, self.due = size, due
        self.items: list[Item] = []


class Gathering(Generic[Item]):
    """By key, in the order of arrival. True while anything waits."""

    def __init__(self) -> None:
        self._groups: dict[str, _Group[Item]] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, key: str, item: Item, *, size: int, patience: float, now: float) -> list[Item] | None:
        """Adds one; the batch, if it is complete with it."""
        group = self._groups.get(key)
        if group is None:
            group = self._groups[key] = _Group(size, now + patience)
        group.items.append(item)
        return self._groups.pop(key).items if len(group.items) >= group.size else None

    def due(self, now: float) -> list[list[Item]]:
        """Takes the batches whose first item has waited for long enough."""
        return self._take([key for key, group in self._groups.items() if group.due <= now])

    def all(self) -> list[list[Item]]:
        """Takes everything."""
        return self._take(list(self._groups))

    def next_due(self) -> float | None:
        """When `due` will have something; None while nothing waits."""
        return min((group.due for group in self._groups.values()), default=None)

    def missing(self) -> int:
        """How many more would complete every batch that has begun."""
        return sum(group.size - len(group.items) for group in self._groups.values())

    def _take(self, keys: list[str]) -> list[list[Item]]:
        return [self._groups.pop(key).items for key in keys]
