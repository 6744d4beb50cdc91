"""What the scripts should do, as plain Python: the transitions of broker/lua on dictionaries and lists.

No Redis here, and no clock: due times are given, and what only Redis can know (the ids of entries) is filled in by
whoever compares the two. Names follow the scripts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from django_taskq.broker.delivery import CANCEL_REQUESTED, DUPLICATE, LOST
from django_taskq.broker.keys import Place as Lane
from django_taskq.core.message import Message
from tests.broker.turn_model import Turns

RETURNED = "returned"


@dataclass(eq=False)
class Entry:
    """One entry of a lane."""

    message: Message
    lane: Lane
    name: str  # the entry's id in its stream
    holder: str | None = None
    deliveries: int = 0

    @property
    def location(self) -> str:
        share = self.lane.share and f":{self.lane.share}"
        return f"{self.name} {self.lane.queue}:{self.lane.priority}{share}"

    @property
    def held(self) -> bool:
        return self.holder not in (None, RETURNED)


@dataclass(eq=False)
class Scheduled:
    message: Message
    lane: Lane
    due: int  # ms

    @property
    def location(self) -> str:
        return f"s{self.lane[0]}"


@dataclass(eq=False)
class Ended:
    id: bytes
    run: int
    status: str
    name: str = ""  # the entry's id in the outcome stream

    @property
    def location(self) -> str:
        return f"o{self.name}"


@dataclass
class Key:
    owner: bytes
    kept: bool = False  # has a time to live


Place = Entry | Scheduled | Ended


@dataclass
class Model:
    lanes: dict[Lane, list[Entry]] = field(default_factory=dict)
    listed: set[Lane] = field(default_factory=set)
    schedule: dict[bytes, Scheduled] = field(default_factory=dict)
    index: dict[bytes, Place] = field(default_factory=dict)
    outcomes: list[Ended] = field(default_factory=list)  # all there ever were
    recorded: int = 0
    trimmed: int = 0
    recorder: str | None = None
    keys: dict[str, Key] = field(default_factory=dict)
    cancels: set[bytes] = field(default_factory=set)
    paused: set[str] = field(default_factory=set)
    beats: dict[str, int] = field(default_factory=dict)  # worker -> counter, -1 dead
    running: dict[str, set[str]] = field(default_factory=dict)  # dead worker -> locations
    inbox: dict[str, list[str]] = field(default_factory=dict)
    received: Counter[str] = field(default_factory=Counter)
    totals: Counter[str] = field(default_factory=Counter)
    turns: Turns = field(default_factory=Turns)

    # --- the parts that transitions share -----------------------------------------------------------------------------

    def put(self, message: Message, lane: Lane, *, known: bool = True) -> Entry:
        """Adds an entry to its lane; `known` entries are listed and indexed."""
        entry = Entry(message, lane, "")
        self.lanes.setdefault(lane, []).append(entry)
        if known:
            self.listed.add(lane)
            self.turns.rouse(lane)
            self.index[message.id] = entry
        return entry

    def leave(self, entry: Entry) -> None:
        """Takes an entry out of its lane, and the lane with its last."""
        self.lanes[entry.lane].remove(entry)
        if not self.lanes[entry.lane]:
            del self.lanes[entry.lane]
            self.listed.discard(entry.lane)
            self.turns.forget(entry.lane)

    def plan(self, message: Message, lane: Lane, due: int) -> Scheduled:
        self.index[message.id] = self.schedule[message.id] = Scheduled(message, lane, due)
        return self.schedule[message.id]

    def finish(self, message: Message, queue: str, status: str) -> Ended:
        ended = Ended(message.id, message.run, status)
        self.outcomes.append(ended)
        self.index[message.id] = ended
        self.cancels.discard(message.id)
        self.totals[f"{queue}:{status}"] += 1
        key = self.keys.get(message.idempotency_key)
        if key is not None and key.owner == message.id:
            if status == "succeeded":
                key.kept = True
            else:
                del self.keys[message.idempotency_key]
        return ended

    def lanes_of(self, queue: str) -> list[Lane]:
        """Those listed, in the order of claiming."""
        return sorted((lane for lane in self.listed if lane.queue == queue), key=self.turns.order)

    # --- producers ----------------------------------------------------------------------------------------------------

    def enqueue(self, message: Message, lane: Lane, due: int | None) -> tuple[bytes, bool]:
        """Who answers for it, and whether that is the message itself."""
        if message.id in self.index:
            return message.id, True
        key = self.keys.get(message.idempotency_key)
        if key is not None and key.owner != message.id:
            return key.owner, False
        if message.idempotency_key:
            self.keys[message.idempotency_key] = Key(message.id)
        if due is None:
            self.turns.tick()
            self.put(message, lane)
        else:
            self.plan(message, lane, due)
        return message.id, True

    def withdraw(self, message: Message, queue: str, status: str) -> bool:
        """Ends what was never sent."""
        if message.id in self.index:
            return False
        self.finish(message, queue, status)
        return True

    def requeue(self, message: Message, lane: Lane) -> bool:
        place = self.index.get(message.id)
        if isinstance(place, Entry | Scheduled) or (place is not None and place.run >= message.run):
            return False
        if message.idempotency_key:
            self.keys.setdefault(message.idempotency_key, Key(message.id))
        self.turns.tick()
        self.put(message, lane)
        return True

    def cancel(self, id: bytes) -> bool | None:
        place = self.index.get(id)
        if place is None or isinstance(place, Ended):
            return None
        if isinstance(place, Entry) and place.held:
            self.cancels.add(id)
            self.inbox.setdefault(place.holder or "", []).append(f"cancel {place.location}")
            return False
        if isinstance(place, Entry):
            self.leave(place)
        else:
            del self.schedule[id]
        self.finish(place.message, place.lane[0], "cancelled")
        return True

    # --- workers ------------------------------------------------------------------------------------------------------

    def promote(self, queues: Sequence[str], now: int) -> None:
        for queue in queues:
            due = [each for each in self.schedule.values() if each.lane[0] == queue and each.due <= now]
            if queue not in self.paused:
                for each in sorted(due, key=lambda each: (each.due, each.message.id)):
                    del self.schedule[each.message.id]
                    self.put(each.message, each.lane)

    def claim(self, worker: str, most: int, queues: Sequence[str], now: int) -> list[tuple[Entry, int, bool]]:
        """Entry, losses and whether cancelling was requested, in the order of the reply."""
        self.turns.tick()
        self.promote(queues, now)
        taken: list[tuple[Entry, int, bool]] = []

        def take(lane: Lane, most: int) -> int:
            found = list(self._take(worker, most, self.lanes[lane]))
            taken.extend(found)
            return len(found)

        for queue in queues:
            if queue not in self.paused:
                self.turns.claim(self.lanes_of(queue), most - len(taken), take)
        if not taken:  # an idle worker finds what another producer put there
            self.listed |= {Lane(queue, 0) for queue in queues if Lane(queue, 0) in self.lanes}
        return taken

    def _take(self, worker: str, most: int, entries: list[Entry]) -> Iterator[tuple[Entry, int, bool]]:
        returned = [entry for entry in entries if entry.holder == RETURNED][:most]
        fresh = [entry for entry in entries if entry.holder is None][: most - len(returned)]
        for entry in returned:
            entry.holder = worker
            yield entry, entry.deliveries - 1, entry.message.id in self.cancels
        for entry in fresh:
            entry.holder, entry.deliveries = worker, 1
            yield entry, 0, False

    def standing(self, worker: str, entry: Entry) -> int | None:
        """None: this worker holds it and may settle it."""
        if entry.holder != worker or entry not in self.lanes.get(entry.lane, []):
            return LOST
        return None if self.index.get(entry.message.id, entry) is entry else DUPLICATE

    def destroy_group(self, lane: Lane) -> None:
        """Nobody holds anything there any more, and the next claim begins anew."""
        for entry in self.lanes[lane]:
            entry.holder, entry.deliveries = None, 0

    def settle(self, worker: str, entry: Entry, verb: str, message: Message, due: int) -> int | None:
        """The code; `message` and `due` are the next attempt's where the verb is retry, else its status is the verb."""
        code = self.standing(worker, entry)
        if verb == "retry" and code is None and entry.message.id in self.cancels:
            return CANCEL_REQUESTED
        if code == LOST:
            return code
        self.leave(entry)
        if code is None:
            queue = entry.lane[0]
            if verb == "retry":
                self.plan(message, entry.lane, due)
                self.totals[f"{queue}:retried"] += 1
            else:
                self.finish(entry.message, queue, verb)
                if verb == "failed":
                    self.totals[f"{queue}:dead:failed"] += 1
        return code

    def release(self, worker: str, entries: Iterable[Entry]) -> int:
        released = 0
        for entry in entries:
            if entry.holder == worker and entry in self.lanes.get(entry.lane, []):
                entry.holder = RETURNED
                self.turns.tick()
                self.turns.rouse(entry.lane)
                released += 1
        return released

    def held_by(self, worker: str) -> list[Entry]:
        return [entry for entries in self.lanes.values() for entry in entries if entry.holder == worker]

    def beat(self, worker: str) -> list[str] | None:
        """The requests that come with it."""
        if self.beats.get(worker, -1) < 0:
            return None
        self.beats[worker] += 1
        del self.inbox.setdefault(worker, [])[: self.received[worker]]
        self.received[worker] = len(self.inbox[worker])
        return list(self.inbox[worker])

    def declare_dead(self, worker: str, counter: int | None, running: set[str]) -> bool:
        if worker not in self.beats:
            return False
        if self.beats[worker] >= 0:
            if counter is not None and counter != self.beats[worker]:
                return False
            self.beats[worker], self.running[worker] = -1, running
        return True

    def reclaim(self, worker: str, queue: str, most: int) -> int:
        reclaimed = 0
        if self.beats.get(worker) != -1:
            return 0
        self.turns.tick()
        for lane in self.lanes_of(queue)[::-1]:
            for entry in self.lanes[lane]:
                if entry.holder == worker and reclaimed < most:
                    entry.holder = RETURNED
                    self.turns.rouse(lane)
                    entry.deliveries += entry.location in self.running[worker]
                    reclaimed += 1
        return reclaimed

    def forget(self, worker: str) -> None:
        """Once it is dead and all is reclaimed."""
        if self.beats.get(worker, -1) >= 0:
            return
        for known in (self.beats, self.running, self.inbox, self.received):
            known.pop(worker, None)

    # --- the recorder -------------------------------------------------------------------------------------------------

    def lease(self, owner: str) -> bool:
        self.recorder = self.recorder or owner
        return owner == self.recorder

    def advance(self, owner: str, expected: int, count: int) -> bool:
        if owner != self.recorder or expected != self.recorded:
            return False
        self.recorded += count
        return True

    def trim(self, owner: str, newest: int | None) -> int:
        """`newest` None: all that is recorded is old enough."""
        if owner != self.recorder or not self.recorded:
            return 0
        lingering = self.recorded - self.trimmed
        count = lingering if newest is None else max(0, lingering - newest)
        for ended in self.outcomes[self.trimmed : self.trimmed + count]:
            if self.index.get(ended.id) is ended:
                del self.index[ended.id]
        self.trimmed += count
        return count
