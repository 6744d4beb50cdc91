"""`shard` is the broker's Redis as a test sees it, `hand` a worker driven by hand (see helpers.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from django_taskq.broker import Broker
from tests.broker.helpers import Hand, Shard


@pytest.fixture
def shard(broker: Broker) -> Shard:
    return Shard(broker)


@pytest.fixture
def hire(shard: Shard) -> Iterator[Callable[..., Hand]]:
    """A factory of registered workers: hire("w2", queues=["mail"])."""
    hired: list[Hand] = []

    def make(name: str = "w1", **options: object) -> Hand:
        hand = Hand(shard, name, **options)  # type: ignore[arg-type]
        hired.append(hand)
        return hand

    yield make
    for hand in hired:
        hand.connection.disconnect()


@pytest.fixture
def hand(hire: Callable[..., Hand]) -> Hand:
    """The worker w1 of the queues `default` and `mail`."""
    return hire()
