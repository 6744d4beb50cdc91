"""Weighted turns: shares are those of the weights, nobody starves, nobody saves up."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from django_taskq.core.turns import Turns

WEIGHTS = (6, 3, 1)


def claim(turns: Turns, backlog: list[int], most: int) -> Counter[int]:
    """What a claim of `most` messages brings from queues that hold so many."""
    order = turns.order()
    counts: Counter[int] = Counter()
    for position in order:
        taken = min(backlog[position], most - counts.total())
        if taken:
            counts[position] += taken
            backlog[position] -= taken
    turns.took(order, counts)
    return counts


def test_one_by_one_the_turns_are_spread_smoothly() -> None:
    turns, backlog = Turns(WEIGHTS), [1000] * 3
    taken = [next(iter(claim(turns, backlog, 1))) for _ in range(20)]
    assert Counter(taken[:10]) == Counter(taken[10:]) == {0: 6, 1: 3, 2: 1}
    assert "000" not in "".join(map(str, taken[1:9]))  # the heaviest leaves gaps for the others


def test_shares_are_of_messages_however_many_a_claim_brings() -> None:
    for most in (1, 7, 500):
        turns, backlog, total = Turns(WEIGHTS), [1_000_000] * 3, Counter[int]()
        for _ in range(600):
            total += claim(turns, backlog, most)
        assert abs(total[0] - 6 * total[2]) <= 12 * most
        assert abs(total[1] - 3 * total[2]) <= 6 * most


def test_what_one_leaves_free_goes_to_the_others() -> None:
    turns = Turns(WEIGHTS)
    assert claim(turns, [2, 0, 9], 8) == {0: 2, 2: 6}
    assert claim(turns, [0, 0, 0], 8) == {}
    assert turns.order() == (0, 1, 2)


def test_a_queue_that_was_empty_for_long_has_saved_nothing_up() -> None:
    turns, backlog = Turns(WEIGHTS), [0, 1_000_000, 1_000_000]
    for _ in range(1000):
        claim(turns, backlog, 4)
    backlog[0] = 1_000_000
    served = sum((claim(turns, backlog, 4) for _ in range(25)), Counter[int]())
    assert abs(served[0] - 60) <= 8
    assert served[2] >= 4


@settings(max_examples=100, derandomize=True, database=None)
@given(
    st.lists(st.integers(1, 20), min_size=2, max_size=5),
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 30), st.integers(1, 20)), min_size=1, max_size=60),
)
def test_who_has_work_all_the_time_gets_its_share_of_what_others_get(
    weights: list[int], events: list[tuple[int, int, int]]
) -> None:
    """The bound of start-time fair queueing: two queues that are never empty differ by one claim of each at most."""
    turns, total, largest = Turns(weights), Counter[int](), 0
    backlog = [10_000, 10_000] + [0] * (len(weights) - 2)
    for position, arrived, most in events:
        if position >= 2 and position < len(weights):
            backlog[position] += arrived
        total += claim(turns, backlog, most)
        largest = max(largest, most)
        gap = abs(total[0] / weights[0] - total[1] / weights[1])
        assert gap <= largest / weights[0] + largest / weights[1] + 1e-9
