"""Places of a concurrency limit against a model in plain Python: any transitions in any order, with deaths, and with
deployments that change how many places there are."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from django_taskq.broker import Broker, Submission
from django_taskq.broker.declarations import Declarations
from django_taskq.broker.delivery import Delivery
from django_taskq.broker.gates import Gates
from django_taskq.core.gates import concurrency_gate, declared_numbers
from tests.broker.helpers import Hand, Shard, id_of
from tests.broker.test_limits import gated, nothing_is_held

EXAMPLES = int(os.environ.get("TASKQ_TEST_EXAMPLES", "0"))
PLACES = {"task:t:a": 1, "task:t:b": 3}
ENDED = ("succeeded", "failed", "cancelled")
T = TypeVar("T")

limits = st.sampled_from(sorted(PLACES))
picks = st.integers(0, 15)
rarely = st.sampled_from([False, False, False, True])
verbs = st.sampled_from(["complete", "bury", "retry"])


@dataclass
class Places:
    """One lane, in order, and for each limit its holders and those who wait."""

    limit_of: dict[bytes, str] = field(default_factory=dict)
    lane: list[bytes] = field(default_factory=list)  # that no worker has had
    returned: list[bytes] = field(default_factory=list)
    held: dict[bytes, str] = field(default_factory=dict)  # id -> worker
    holders: dict[str, set[bytes]] = field(default_factory=lambda: {limit: set() for limit in PLACES})
    waiting: dict[str, list[bytes]] = field(default_factory=lambda: {limit: [] for limit in PLACES})
    places: dict[str, int] = field(default_factory=lambda: dict(PLACES))
    planned: list[bytes] = field(default_factory=list)  # retries in the schedule
    order: list[bytes] = field(default_factory=list)  # entries of the lane as they came

    def add(self, id: bytes) -> None:
        self.lane.append(id)
        self.order = [*(each for each in self.order if each != id), id]

    def claim(self, worker: str, most: int) -> list[bytes]:
        taken = sorted(self.returned, key=self.order.index)[:most]
        self.returned = [id for id in self.returned if id not in taken]
        while self.lane and len(taken) < most:
            id = self.lane.pop(0)
            limit = self.limit_of[id]
            if id in self.holders[limit] or len(self.holders[limit]) < self.places[limit]:
                self.holders[limit].add(id)
                taken.append(id)
            else:
                self.waiting[limit].append(id)
        self.held |= dict.fromkeys(taken, worker)
        return taken

    def end(self, id: bytes) -> None:
        limit = self.limit_of[id]
        self.holders[limit].discard(id)
        self.fill(limit)

    def fill(self, limit: str) -> None:
        while self.waiting[limit] and len(self.holders[limit]) < self.places[limit]:
            following = self.waiting[limit].pop(0)
            self.holders[limit].add(following)
            self.add(following)

    def state(self, id: bytes) -> str:
        if id in self.held:
            return "running"
        if id in self.planned:
            return "scheduled"
        if any(id in waiting for waiting in self.waiting.values()):
            return "blocked"
        return "queued" if id in self.lane or id in self.returned else "ended"


class Machine(RuleBasedStateMachine):
    broker: Broker

    def __init__(self) -> None:
        super().__init__()
        self.broker.connections.execute("FLUSHDB")
        self.shard, self.model = Shard(self.broker), Places()
        self.declarations = Declarations(self.broker.connections, self.shard.keys)
        self.most = dict(PLACES)  # as many as there are, or as held a place when there were more
        self.hands: list[Hand] = []
        self.hired = 0
        self.deliveries: dict[bytes, tuple[Hand, Delivery]] = {}
        self.late: list[tuple[Hand, Delivery]] = []  # that are no longer their worker's

    @initialize()
    def begin(self) -> None:
        self.hire()
        self.hire()
        for limit in ("task:t:a", "task:t:b"):
            self.send(limit, 3)

    def hire(self) -> None:
        self.hired += 1
        self.hands.append(Hand(self.shard, f"w{self.hired}"))

    @rule(limit=limits, count=st.integers(1, 4))
    def send(self, limit: str, count: int) -> None:
        gate = concurrency_gate(limit, PLACES[limit])
        for id in self.shard.send([Submission(gated(gate), "default") for _ in range(count)]):
            self.model.limit_of[id] = limit
            self.model.add(id)

    @rule(pick=picks, most=st.integers(1, 6))
    def claim(self, pick: int, most: int) -> None:
        hand = self.hands[-1 - pick % 2]
        claimed = hand.claim(most)
        assert [id_of(each) for each in claimed] == self.model.claim(hand.name, most)
        for each in claimed:
            self.deliveries[id_of(each)] = (hand, each)

    @rule(picks=st.lists(picks, min_size=1, max_size=3), verb=verbs, twice=rarely)
    def settle(self, picks: list[int], verb: str, twice: bool) -> None:
        for pick in picks:
            if not self.model.held:
                return
            id = _newest(list(self.model.held), pick)
            hand, delivery = self.deliveries[id]
            assert getattr(hand, verb)(delivery) is None
            del self.model.held[id]
            self.model.order.remove(id)
            if verb == "retry":
                self.model.planned.append(id)
            self.model.end(id)
            if twice:
                assert getattr(hand, verb)(delivery) == 0
            self.late.append((hand, delivery))

    @rule(pick=picks)
    def settle_too_late(self, pick: int) -> None:
        if self.late:
            hand, delivery = _newest(self.late, pick)
            assert hand.complete(delivery) == 0

    @rule(pick=picks)
    def release(self, pick: int) -> None:
        if self.model.held:
            id = _newest(list(self.model.held), pick)
            hand, delivery = self.deliveries[id]
            assert hand.release(delivery) == 1
            del self.model.held[id]
            self.model.returned.append(id)

    @rule()
    def die(self) -> None:
        hand = self.hands.pop(0)
        hand.die()
        for id in [id for id, worker in self.model.held.items() if worker == hand.name]:
            del self.model.held[id]
            self.model.returned.append(id)
            self.late.append(self.deliveries[id])
        self.hire()

    @rule()
    def promote(self) -> None:
        self.shard.pass_time()
        due = sorted(self.model.planned, key=lambda id: (self.shard.scheduled()[id], id))
        for id in due:
            self.model.planned.remove(id)
            self.model.add(id)
        claimed = self.hands[-1].claim(1)
        assert [id_of(each) for each in claimed] == self.model.claim(self.hands[-1].name, 1)
        for each in claimed:
            self.deliveries[id_of(each)] = (self.hands[-1], each)

    @rule(pick=picks)
    def cancel(self, pick: int) -> None:
        ids = [id for id in self.model.limit_of if self.model.state(id) in ("blocked", "queued", "scheduled")]
        if not ids:
            return
        id = _newest(ids, pick)
        assert self.broker.cancel([id]) == [True]
        for place in (self.model.lane, self.model.returned, self.model.planned, *self.model.waiting.values()):
            if id in place:
                place.remove(id)
        self.model.order = [each for each in self.model.order if each != id]
        self.model.end(id)

    @rule(places=st.integers(1, 4))
    def deploy(self, places: int) -> None:
        """A new worker declares another number, of all keys of the task; its first sweep lets as many go on."""
        before = dict(self.model.places)
        self.declarations.declare(declared_numbers("task:t", places, None, 1), 0.0)
        self.model.places = dict.fromkeys(before, places)
        Gates(self.broker.connections, self.shard.keys)._sweep("", 0, [limit.encode() for limit in before])
        for limit in before:
            self.model.fill(limit)
            self.most[limit] = max(places, len(self.model.holders[limit]))

    @rule()
    def sweep(self) -> None:
        assert Gates(self.broker.connections, self.shard.keys).sweep(["default"]) == (0, 0)

    @invariant()
    def agrees(self) -> None:
        for limit, most in self.most.items():
            holders = set(self.shard.hash(self.shard.keys.limit(limit)))
            assert holders == self.model.holders[limit]
            assert len(holders) <= most
            assert list(self.shard.zset(self.shard.keys.waiting(limit))) == self.model.waiting[limit]
        held = self.shard.hash(self.shard.keys.holds)
        assert {id: held[id].decode() for id in held} == {
            id: limit for limit, holders in self.model.holders.items() for id in holders
        }
        known = list(self.model.limit_of)
        states = ["ended" if state in ENDED else state for state in self.shard.states(known)]
        assert states == [self.model.state(id) for id in known]

    def teardown(self) -> None:
        """Everything ends, and nothing is left of the limits."""
        if self.hands:
            for _ in range(500):
                self.promote()
                self.claim(0, 6)
                self.settle([0, 0, 0], "complete", twice=False)
                if all(self.model.state(id) == "ended" for id in self.model.limit_of):
                    break
            self.agrees()
            assert all(self.model.state(id) == "ended" for id in self.model.limit_of)
            assert nothing_is_held(self.shard)


def _newest(items: Sequence[T], pick: int) -> T:
    return items[-1 - pick % len(items)]


def test_places_in_any_order(broker: Broker) -> None:
    Machine.broker = broker
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 25,
            stateful_step_count=30,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
