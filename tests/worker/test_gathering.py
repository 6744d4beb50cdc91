"""How calls gather into batches, and how many are claimed for them: pure, against a model."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from django_taskq.worker.gathering import Gathering
from django_taskq.worker.prefetch import with_batches

SIZES = {"a": 1, "b": 2, "c": 5}
PATIENCE = {"a": 0.0, "b": 3.0, "c": 7.0}
steps = st.lists(
    st.one_of(
        st.sampled_from(sorted(SIZES)),  # a call of that task arrives
        st.floats(0.0, 5.0),  # so many seconds pass
        st.just("all"),
    ),
    max_size=80,
)


@given(steps)
def test_every_call_is_in_one_batch_in_order_in_time_and_in_none_too_large(taken: list[str | float]) -> None:
    """The model: arrivals in order, by task; each taken from the front."""
    gathering: Gathering[tuple[str, int]] = Gathering()
    waiting: dict[str, list[tuple[int, float]]] = {key: [] for key in SIZES}
    now, number = 100.0, 0

    def leaves(batch: list[tuple[str, int]] | None) -> None:
        if batch is not None:
            key = batch[0][0]
            first, waiting[key] = waiting[key][: len(batch)], waiting[key][len(batch) :]
            assert batch == [(key, number) for number, _ in first]
            assert len(batch) <= SIZES[key]

    for step in taken:
        if isinstance(step, float):
            now += step
            for batch in gathering.due(now):
                leaves(batch)
        elif step == "all":
            for batch in gathering.all():
                leaves(batch)
            assert not gathering
        else:
            waiting[step].append((number, now))
            leaves(gathering.add(step, (step, number), size=SIZES[step], patience=PATIENCE[step], now=now))
            number += 1
            for batch in gathering.due(now):
                leaves(batch)
        # What waits is not complete, not due, and no more than was given.
        dues = [arrivals[0][1] + PATIENCE[key] for key, arrivals in waiting.items() if arrivals]
        assert all(due > now for due in dues)
        assert gathering.next_due() == min(dues, default=None)
        assert bool(gathering) == bool(dues)
        assert gathering.missing() == sum(SIZES[key] - len(arrivals) for key, arrivals in waiting.items() if arrivals)
        assert all(len(arrivals) < SIZES[key] for key, arrivals in waiting.items() if arrivals)


@given(st.integers(0, 1_000), st.floats(0.01, 1.0), st.integers(0, 5_000))
def test_no_more_is_claimed_for_batches_than_completes_them_nor_than_finds_room(
    wanted: int, share: float, missing: int
) -> None:
    claimed = with_batches(wanted, share, missing)
    assert wanted <= claimed <= wanted + missing
    assert claimed * (1 - share) <= wanted or claimed == wanted
    assert with_batches(0, share, missing) == 0
