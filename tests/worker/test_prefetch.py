"""How many messages are claimed: what is claimed should start within about 50 ms."""

from __future__ import annotations

import pytest

from django_taskq.worker.prefetch import MOST_WAITING, ahead_for, room_for, to_claim


@pytest.mark.parametrize(
    ("size", "mean", "ahead"),
    [
        (8, None, 0),
        (8, 10.0, 0),
        (8, 0.051, 0),
        (8, 0.05, 8),
        (8, 0.005, 80),
        (1, 0.001, 50),
        (8, 10e-6, MOST_WAITING),
        (8, 0.0, MOST_WAITING),
        (200, 0.02, 500),
    ],
)
def test_the_shorter_tasks_are_the_more_may_wait(size: int, mean: float | None, ahead: int) -> None:
    assert ahead_for(size, mean) == ahead


def test_long_tasks_are_claimed_for_free_places_only() -> None:
    assert [room_for(8, busy, 0, 0) for busy in (0, 5, 8)] == [8, 3, 0]
    assert room_for(8, 8, 1, 0) == 0


def test_a_claim_waits_until_it_is_worth_it() -> None:
    assert room_for(8, 8, 51, 100) == 0
    assert room_for(8, 8, 50, 100) == 50
    assert room_for(8, 0, 0, 100) == 108


def test_before_anything_is_known_neither_pool_can_get_too_much() -> None:
    assert to_claim(8, 200, None) == 8
    assert to_claim(8, 0, None) == 0


@pytest.mark.parametrize(
    ("threads", "loop", "share", "claim"),
    [(8, 200, 0.0, 8), (8, 200, 1.0, 200), (8, 200, 0.5, 16), (100, 20, 0.5, 40), (0, 200, 0.9, 0), (0, 200, 1.0, 200)],
)
def test_neither_pool_gets_more_than_it_has_room_for(threads: int, loop: int, share: float, claim: int) -> None:
    assert to_claim(threads, loop, share) == claim
