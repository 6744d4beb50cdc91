"""Whose turn it is among weighted queues: start-time fair queueing (Goyal, Vin, Cheng 1996), on numbers of messages.

Each queue has a virtual time that advances by messages / weight; the queue that is behind comes first. So shares are
those of the weights while there is enough of everything, whatever a claim brings at once. A queue that was empty is not
behind when it has messages again: it saves up nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class Turns:
    """Of queues by position; `weights` are 1 or more."""

    def __init__(self, weights: Sequence[int]) -> None:
        self._weights = weights
        self._times = [0.0] * len(weights)

    def order(self) -> tuple[int, ...]:
        """All positions, those first that are behind; among equals the heavier one, then the one given first."""
        weights, times = self._weights, self._times
        return tuple(sorted(range(len(weights)), key=lambda position: (times[position], -weights[position], position)))

    def took(self, order: Sequence[int], counts: Mapping[int, int]) -> None:
        """Position -> messages that a look in that order brought, from one at least."""
        if not counts:  # nobody has anything: all begin anew
            self._times = [0.0] * len(self._times)
            return
        times = self._times
        last = max(order.index(position) for position in counts)
        now = min(times[position] for position in counts)
        for position in order[:last]:
            if position not in counts:  # it was looked at, and empty
                times[position] = max(times[position], now)
        for position, count in counts.items():
            times[position] += count / self._weights[position]
