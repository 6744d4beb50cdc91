"""All transitions in any order, by several workers, with lost replies, against a model of the queue (model.py).

The default run is short and always the same; TASKQ_TEST_EXAMPLES=2000 looks further, with examples of its own.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from django_taskq.broker import Broker, Submission, scripts
from django_taskq.broker.delivery import Delivery, Settlement
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.keys import Place
from django_taskq.broker.outbox import RelayLease, withdraw
from django_taskq.broker.workers import Beat, Workers
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.states import State
from tests.broker.agreement import Agreement
from tests.broker.helpers import HOUR, Hand, Shard, id_of, message
from tests.broker.model import Ended, Entry, Lane, Model

EXAMPLES = int(os.environ.get("TASKQ_TEST_EXAMPLES", "0"))
QUEUES = ("default", "mail")
T = TypeVar("T")

queues = st.sampled_from(QUEUES)
lanes = st.builds(Place, queues, st.sampled_from([0, -5, 7]), st.sampled_from(["", "", "g", "f2a"]))
picks = st.integers(0, 15)
rarely = st.sampled_from([False, False, False, True])
verbs = st.sampled_from(["succeeded", "failed", "retry", "failed", "retry", "cancelled", "expired", "discarded"])
keys = st.sampled_from(["", "", "k1", "k2"])
calls = st.lists(st.tuples(lanes, st.sampled_from([None, None, 1, 2]), keys, st.none() | picks), min_size=1, max_size=4)
wild = st.lists(st.tuples(st.integers(0, 3), verbs), min_size=1, max_size=4)
owners = st.sampled_from(["r1", "r1", "r1", "r2"])

Call = tuple[Lane, int | None, str, int | None]  # lane, hours of delay, idempotency key, pick of a known id


def newest(items: Sequence[T], pick: int) -> T:
    return items[-1 - pick % len(items)]


def repeat(lost: bool, act: Callable[[], T]) -> list[T]:
    """The answers: two when the first was lost on its way and the call was sent again."""
    return [act() for _ in range(1 + lost)]


class Machine(RuleBasedStateMachine):
    """Each rule acts on Redis and on the model, and compares the answers; then what is there is compared."""

    broker: Broker

    def __init__(self) -> None:
        super().__init__()
        self.broker.connections.execute("FLUSHDB")
        self.shard, self.model = Shard(self.broker), Model()
        self.keys, self.inspector = self.shard.keys, Inspector(self.broker)
        self.agreement = Agreement(self.shard, self.model, QUEUES)
        self.hands: list[Hand] = []  # all workers there ever were
        self.handed: list[tuple[Hand, Delivery, Entry]] = []  # all deliveries that workers ever learned of
        self.accepted: list[bytes] = []
        self.foreign: set[bytes] = set()  # sent again by a producer that asks nobody: may end more than once

    @initialize(calls=calls, more=calls)
    def begin(self, calls: list[Call], more: list[Call]) -> None:
        self.enqueue(calls, lost=False)
        self.enqueue(more, lost=False)
        self.hire()
        self.hire()
        self.do_claim(self.hands[0], 2)

    @invariant()
    def agrees(self) -> None:
        self.agreement.check(set(self.accepted) - self.foreign)

    # --- producers ----------------------------------------------------------------------------------------------------

    @rule(calls=calls, lost=rarely)
    def enqueue(self, calls: list[Call], lost: bool) -> None:
        known = list(self.model.index)
        submissions = []
        for lane, hours, key, pick in calls:
            id = new_id() if pick is None or not known else newest(known, pick)
            sent = message(id=id, priority=lane.priority, idempotency_key=key)
            submissions.append(Submission(sent, lane.queue, delay=hours and hours * HOUR, share=lane.share))
        by_lane: dict[Lane, list[int]] = {}
        for position, each in enumerate(submissions):
            by_lane.setdefault(each.place, []).append(position)
        for answers in repeat(lost, lambda: self.broker.enqueue(submissions)):
            for lane, positions in by_lane.items():
                for position in positions:
                    sent = submissions[position].message
                    due = self.shard.scheduled(lane[0]).get(sent.id, 0) if submissions[position].delay else None
                    answer = answers[position]
                    assert (answer.id, answer.created) == self.model.enqueue(sent, lane, due)
        self.accepted += [each.message.id for each in submissions if each.message.id in self.model.index]

    @rule(lane=lanes, key=keys, pick=st.none() | picks, lost=rarely)
    def relay(self, lane: Lane, key: str, pick: int | None, lost: bool) -> None:
        """What comes from an outbox is enqueued like anything else."""
        sent = self.new_or_known(pick, priority=lane.priority, idempotency_key=key)
        lease = RelayLease(self.broker, "default", "relay")
        assert lease.take()
        for [answer] in repeat(lost, lambda: lease.send([Submission(sent, lane.queue, share=lane.share)])):
            assert (answer.id, answer.created) == self.model.enqueue(sent, lane, None)
        if sent.id in self.model.index:
            self.accepted.append(sent.id)

    @rule(queue=queues, pick=st.none() | picks, lost=rarely)
    def withdraw(self, queue: str, pick: int | None, lost: bool) -> None:
        sent = self.new_or_known(pick)
        for answer in repeat(lost, lambda: withdraw(self.broker, Submission(sent, queue), State.CANCELLED, "")):
            assert answer == self.model.withdraw(sent, queue, "cancelled")
        self.accepted.append(sent.id)

    def new_or_known(self, pick: int | None, **values: Any) -> Message:
        known = list(self.model.index)
        return message(id=new_id() if pick is None or not known else newest(known, pick), **values)

    @rule(queue=queues, pick=st.none() | picks)
    def bare_xadd(self, queue: str, pick: int | None) -> None:
        known = list(self.model.index)
        sent = message(id=new_id() if pick is None or not known else newest(known, pick))
        if sent.id in self.accepted:
            self.foreign.add(sent.id)
        self.accepted.append(sent.id)
        entry = self.model.put(sent, Place(queue, 0), known=False)
        entry.name = self.shard.seed_bare(*sent.fields(), queue=queue).decode()

    @rule(pick=picks, anything=rarely, lost=rarely)
    def cancel(self, pick: int, anything: bool, lost: bool) -> None:
        under_way = [id for id, place in self.model.index.items() if not isinstance(place, Ended)]
        id = newest(self.accepted if anything or not under_way else under_way, pick)
        for answer in repeat(lost, lambda: self.broker.cancel([id])):
            assert answer == [self.model.cancel(id)]

    @rule(pick=picks, lane=lanes, key=keys, lost=rarely)
    @precondition(lambda self: self.dead())
    def requeue(self, pick: int, lane: Lane, key: str, lost: bool) -> None:
        chosen = newest(self.dead(), pick)
        lane = Place(lane.queue, lane.priority)
        again = message(id=chosen.id, run=chosen.run + 1, priority=lane.priority, idempotency_key=key)
        for answer in repeat(lost, lambda: self.broker.requeue(again, lane[0])):
            assert answer == self.model.requeue(again, lane)

    def dead(self) -> list[Ended]:
        """Dead letters, without those of which the database knows that they were requeued."""
        latest = {ended.id: ended.run for ended in self.model.outcomes}
        return [
            ended
            for ended in self.model.outcomes
            if ended.status == "failed" and (ended.id in self.model.index or latest[ended.id] == ended.run)
        ]

    # --- workers ------------------------------------------------------------------------------------------------------

    @rule()
    @precondition(lambda self: len(self.alive()) < 2)
    def hire(self) -> None:
        hand = Hand(self.shard, f"w{len(self.hands)}", QUEUES)
        self.hands.append(hand)
        self.model.beats[hand.name] = 0

    def alive(self) -> list[Hand]:
        return [hand for hand in self.hands if self.model.beats.get(hand.name, -1) >= 0]

    def worker(self, pick: int, dead: bool = False) -> Hand:
        """A living worker, or any."""
        return newest(self.hands if dead or not self.alive() else self.alive(), pick)

    @rule(pick=picks, dead=rarely, most=st.integers(1, 5), asleep=st.booleans(), lost=rarely)
    def claim(self, pick: int, dead: bool, most: int, asleep: bool, lost: bool) -> None:
        hand = self.worker(pick, dead)
        if lost:
            self.do_claim(hand, most, asleep, learn=False)
        self.do_claim(hand, most, asleep)

    @rule(pick=picks, most=st.integers(1, 5), verbs=st.lists(verbs, min_size=1, max_size=5), lost=rarely)
    def work(self, pick: int, most: int, verbs: list[str], lost: bool) -> None:
        """A worker claims, and settles what it holds."""
        hand = self.worker(pick)
        self.do_claim(hand, most)
        own = [(delivery, entry) for other, delivery, entry in self.handed if other is hand and self.holds(hand, entry)]
        self.do_settle(hand, [(*pair, verb) for pair, verb in zip(own, verbs, strict=False)], lost)

    def do_claim(self, hand: Hand, most: int, asleep: bool = True, learn: bool = True) -> None:
        claim = hand.ask(most, lease_ms=5000 if asleep else 0)
        assert claim.refused == (hand not in self.alive())
        if claim.refused:
            return
        expected = self.model.claim(hand.name, most, QUEUES, int(claim.time * 1000))
        assert [(id_of(each), each.losses, each.cancelled) for each in claim.deliveries] == [
            (entry.message.id, losses, cancelled) for entry, losses, cancelled in expected
        ]
        for delivery, (entry, _, _) in zip(claim.deliveries, expected, strict=True):
            entry.name = delivery.entry.decode()
            if learn:
                self.handed.append((hand, delivery, entry))

    @rule(pick=picks, other=rarely, wild=wild, lost=rarely)
    @precondition(lambda self: self.handed)
    def settle_anything(self, pick: int, other: bool, wild: list[tuple[int, str]], lost: bool) -> None:
        """A worker settles what was handed to it once, or to anybody, twice perhaps."""
        hand = self.worker(pick, dead=True) if other else newest(self.handed, pick)[0]
        handed = [each for each in self.handed if other or each[0] is hand]
        self.do_settle(hand, [(*newest(handed, number)[1:], verb) for number, verb in wild], lost)

    def holds(self, hand: Hand, entry: Entry) -> bool:
        return entry.holder == hand.name and entry in self.model.lanes.get(entry.lane, [])

    def do_settle(self, hand: Hand, chosen: list[tuple[Delivery, Entry, str]], lost: bool) -> None:
        made = {id(each): (each, entry, verb) for each, entry, verb in self.settlements(hand, chosen)}
        batches = hand.deliveries.settle_calls([each for each, _, _ in made.values()])
        for answer in repeat(lost, lambda: hand.settle([each for each, _, _ in made.values()])):
            codes = dict(zip(made, answer, strict=True))
            for _, batch in batches:
                for each in batch:
                    _, entry, verb = made[id(each)]
                    again = Message.decode(each.delivery.fields)
                    again.attempt += 1
                    due = self.shard.scheduled(entry.lane[0]).get(again.id, 0)
                    assert codes[id(each)] == self.model.settle(hand.name, entry, verb, again, due)

    def settlements(self, hand: Hand, chosen: list[tuple[Delivery, Entry, str]]) -> list[tuple[Settlement, Entry, str]]:
        made = []
        for delivery, entry, verb in chosen:
            sent = Message.decode(delivery.fields)
            key = sent.idempotency_key
            if verb == "retry":
                settlement = hand.retrying(delivery, 3600.0 * (sent.attempt % 2))
            elif verb == "failed":
                settlement = hand.burying(delivery, key=key, run=sent.run)
            else:
                ttl = HOUR if verb == "succeeded" else 0
                settlement = hand.completing(delivery, verb, key, ttl, run=sent.run)
            made.append((settlement, entry, verb))
        return made

    @rule(pick=picks, dead=rarely, numbers=st.lists(picks, min_size=1, max_size=4), lost=rarely)
    @precondition(lambda self: self.handed)
    def release(self, pick: int, dead: bool, numbers: list[int], lost: bool) -> None:
        hand = self.worker(pick, dead)
        chosen = [newest(self.handed, number) for number in numbers]
        for answer in repeat(lost, lambda: hand.release(*(delivery for _, delivery, _ in chosen))):
            assert answer == self.model.release(hand.name, [entry for _, _, entry in chosen])

    # --- life and death -----------------------------------------------------------------------------------------------

    @rule(pick=picks, dead=rarely, lost=rarely)
    def live(self, pick: int, dead: bool, lost: bool) -> None:
        """A worker beats and compares; the dead are reclaimed."""
        hand = self.worker(pick, dead)
        self.beat(hand, lost)
        self.compare(hand)
        if dead:
            self.reclaim(pick, lost)

    def beat(self, hand: Hand, lost: bool) -> None:
        if lost:
            other = Workers(self.broker.connections, self.keys)
            other._received = dict(self.shard.workers._received)
            other.beat([Beat(hand.name, {})])
            if self.model.beat(hand.name) is not None:
                self.model.received[hand.name] = 0  # nobody knows that they came
        assert hand.beat() == self.model.beat(hand.name)

    def compare(self, hand: Hand) -> None:
        """A worker takes up what it holds and did not know of."""
        pending = hand.deliveries.pending(hand.connection)
        held = {entry.location.encode(): entry for entry in self.model.held_by(hand.name)}
        assert {entry + b" " + lane.suffix: losses for lane, entry, losses in pending} == {
            location: entry.deliveries - 1 for location, entry in held.items()
        }
        known = {delivery.location for other, delivery, _ in self.handed if other is hand}
        for item in pending:
            delivery = hand.deliveries.fetch(hand.connection, *item, 0.0)
            assert delivery is not None
            if delivery.location not in known:
                self.handed.append((hand, delivery, held[delivery.location]))

    @rule(pick=picks, off=st.sampled_from([0, None, 1]), running=st.booleans(), part=st.booleans(), lost=rarely)
    @precondition(lambda self: len(self.alive()) > 1)
    def die(self, pick: int, off: int | None, running: bool, part: bool, lost: bool) -> None:
        """Declared dead, or not, and reclaimed in part, or not yet."""
        name = self.worker(pick).name
        counter = None if off is None else self.model.beats[name] + off
        noted = {entry.location for entry in self.model.held_by(name)[running:]}
        sent = [location.encode() for location in noted]
        for answer in repeat(lost, lambda: self.shard.workers.declare_dead(name, counter, sent)):
            assert answer == self.model.declare_dead(name, counter, noted)
        if part:
            self.reclaim_a_part(name, QUEUES[pick % 2], lost)

    def reclaim_a_part(self, name: str, queue: str, lost: bool) -> None:
        of_queue = self.keys.queue(queue)
        names = (
            self.keys.index, self.keys.workers, self.keys.worker(name), of_queue.lanes, of_queue.sleepers,
            of_queue.wake,
        )  # fmt: skip
        arguments = (len(names), *names, name, 1, self.keys.lane_prefix)
        for answer in repeat(lost, lambda: self.broker.connections.run(scripts.RECLAIM, arguments)):
            assert answer == self.model.reclaim(name, queue, 1)

    def reclaim(self, pick: int, lost: bool) -> None:
        """The dead, if there are any."""
        dead = [name for name, beats in self.model.beats.items() if beats < 0]
        name = newest(dead or [hand.name for hand in self.hands], pick)
        for answer in repeat(lost, lambda: self.shard.workers.reclaim(name)):
            assert answer == sum(self.model.reclaim(name, queue, 10_000) for queue in QUEUES)
            self.model.forget(name)

    # --- the recorder -------------------------------------------------------------------------------------------------

    @rule(owner=owners, most=st.integers(0, 9), newest=st.sampled_from([None, 0, 1, 3]), stale=rarely, lost=rarely)
    def keep_up(self, owner: str, most: int, newest: int | None, stale: bool, lost: bool) -> None:
        if most:
            self.record(owner, most, stale, lost)
        self.trim(owner, newest, lost)

    def record(self, owner: str, most: int, stale: bool, lost: bool) -> None:
        for leased in repeat(lost, lambda: self.broker.recorder_lease(owner, 60_000)):
            assert leased == (self.cursor() if self.model.lease(owner) else None)
        entries = self.broker.read_outcomes(self.cursor(), most)
        if entries:
            expected = -1 if stale else self.model.recorded
            arguments = (owner, "9-9" if stale else self.cursor(), entries[-1][0], len(entries))
            for answer in repeat(lost, lambda: self.broker.advance(*arguments)):
                assert answer == self.model.advance(owner, expected, len(entries))

    def cursor(self) -> str:
        return self.model.outcomes[self.model.recorded - 1].name if self.model.recorded else "0-0"

    def trim(self, owner: str, newest: int | None, lost: bool) -> None:
        arguments = (owner, 0, 0, 0) if newest is None else (owner, HOUR, 0, newest)
        for answer in repeat(lost, lambda: self.broker.trim(*arguments)):
            assert answer == self.model.trim(owner, newest)

    # --- the world ----------------------------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 3]))
    @precondition(lambda self: self.model.schedule)
    def time_passes(self, hours: int) -> None:
        self.shard.pass_time(hours * HOUR)
        for each in self.model.schedule.values():
            each.due -= hours * HOUR

    @rule(pick=picks, mishap=st.sampled_from(["pause", "scripts", "lease", "group"]))
    def mishap(self, pick: int, mishap: str) -> None:
        if mishap == "pause" or self.model.paused:
            self.pause_or_resume(QUEUES[pick % 2])
        elif mishap == "scripts":
            self.shard.redis("SCRIPT", "FLUSH")
        elif mishap == "lease":
            self.shard.redis("HDEL", self.keys.recorder, "owner")
            self.model.recorder = None
        elif self.model.lanes:
            lane = newest(sorted(self.model.lanes), pick)
            self.shard.redis("XGROUP", "DESTROY", self.keys.lane(*lane), "workers")
            self.model.destroy_group(lane)

    def pause_or_resume(self, queue: str) -> None:
        paused = queue in self.model.paused
        assert self.inspector.resume(queue) if paused else self.inspector.pause(queue)
        self.model.paused ^= {queue}

    # --- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self.drain()
        for hand in self.hands:
            hand.connection.disconnect()

    def drain(self) -> None:
        """Everything is run, recorded and trimmed; then nothing is left."""
        for queue in sorted(self.model.paused):
            self.pause_or_resume(queue)
        self.bury_the_dead()
        self.hire()
        last = self.hands[-1]
        while self.model.lanes or self.model.schedule:
            self.time_passes(3)
            self.work(0, 500, ["succeeded"] * 500, lost=False)
            self.agrees()
        self.time_passes(3)  # for the due times of what was cancelled, too
        self.do_claim(last, 1, asleep=False)
        self.bury_the_dead()
        owner = self.model.recorder or "r1"
        self.record(owner, 9, stale=False, lost=False)
        while self.model.recorded < len(self.model.outcomes):
            self.record(owner, 9, stale=False, lost=False)
        self.trim(owner, None, lost=False)
        self.agrees()
        passing = {name for name in self.shard.names() if self.shard.redis("PTTL", name) > 0}
        assert Counter(name.split(":")[1] for name in passing).keys() <= {"idempotency", "sleepers", "wake"}
        lease = self.keys.relay_prefix + "default"
        assert set(self.shard.names()) - passing <= {self.keys.outcomes, self.keys.recorder, self.keys.totals, lease}

    def bury_the_dead(self) -> None:
        for hand in self.alive():
            assert self.shard.workers.declare_dead(hand.name, None, []) is True
            assert self.model.declare_dead(hand.name, None, set())
        while self.model.beats:
            self.reclaim(0, lost=False)


def test_every_transition_in_any_order(broker: Broker) -> None:
    Machine.broker = broker
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 60,
            stateful_step_count=50 if EXAMPLES else 40,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
