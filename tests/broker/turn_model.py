"""What broker/lua/lib/turns.lua should do, as plain Python: in which order lanes stand, and who gives how much."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby

from django_taskq.broker.keys import Place as Lane

IN_LINE, IDLE = 0, 1
MOST_A_TURN = 32


def is_share(lane: Lane) -> bool:
    return len(lane.share) > 1


class Turns:
    """Of all lanes there are. Moments are ticks, one for each call of a script."""

    def __init__(self) -> None:
        self.now = 0
        self.last: dict[
            Lane, tuple[int, int]
        ] = {}  # since when it is what; lanes that take no turns are in line since 0

    def tick(self) -> None:
        self.now += 1

    def rouse(self, lane: Lane) -> None:
        """Something waits there."""
        if is_share(lane) and self.last.get(lane, (IDLE, 0))[0] == IDLE:
            self.last[lane] = (IN_LINE, self.now)

    def forget(self, lane: Lane) -> None:
        self.last.pop(lane, None)

    def order(self, lane: Lane) -> tuple[int, int, int, list[int]]:
        """In line by priority, then by the last turn, then the last name first, as ZREVRANGE lists lanes."""
        state, since = self.last.get(lane, (IN_LINE, 0))
        suffix = f"{lane.queue}:{lane.priority}{lane.share and ':'}{lane.share}"
        name = [-code for code in (*suffix.encode(), 0)]
        return state, 0 if state == IDLE else -lane.priority, since, name

    def claim(self, lanes: list[Lane], left: int, take: Callable[[Lane, int], int]) -> None:
        """`take(lane, most)` says how many it gave; `left` is the budget."""
        for _, level in groupby(lanes, key=lambda lane: self.order(lane)[:2]):
            group = list(level)
            if any(map(is_share, group)):
                left -= self._rounds(group, left, take)
            else:
                for lane in group:
                    left -= take(lane, left)

    def _rounds(self, group: list[Lane], left: int, take: Callable[[Lane, int], int]) -> int:
        line, taken = group, 0
        while line and taken < left:
            turn, longer = max(1, min(MOST_A_TURN, (left - taken) // len(line))), []
            for lane in line:
                if taken < left:
                    count = take(lane, min(turn, left - taken))
                    taken += count
                    if count:
                        self.last[lane] = (IN_LINE, self.now)
                    elif is_share(lane):
                        self.last[lane] = (IDLE, self.now)
                    if count >= turn:
                        longer.append(lane)
            line = longer
        return taken
