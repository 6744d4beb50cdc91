"""What this process holds: every delivery from the claim's reply until its settlement's reply."""

from __future__ import annotations

from django_taskq.broker.delivery import Delivery


class Held:
    """By location. Single operations on a dict, so no lock."""

    def __init__(self) -> None:
        self._deliveries: dict[bytes, Delivery] = {}

    def add(self, delivery: Delivery) -> None:
        """Held from now on."""
        self._deliveries[delivery.location] = delivery

    def remove(self, delivery: Delivery) -> None:
        """Settled, or lost. A released entry may be here again already: that is another delivery."""
        if self._deliveries.get(delivery.location) is delivery:
            del self._deliveries[delivery.location]

    def get(self, location: bytes) -> Delivery | None:
        """The delivery, if it is held."""
        return self._deliveries.get(location)

    def all(self) -> list[Delivery]:
        """A copy."""
        return list(self._deliveries.values())

    def __len__(self) -> int:
        return len(self._deliveries)

    def __contains__(self, location: bytes) -> bool:
        return location in self._deliveries
