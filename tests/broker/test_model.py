"""All transitions in any order, by several workers, with lost replies, against a model of the queue (model.py).

The default run is short and always the same; TASKQ_TEST_EXAMPLES=2000 looks further, with examples of its own.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

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
from django_taskq.broker.deliveries import Delivery, Settlement
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.keys import index_field
from django_taskq.broker.workers import Beat, Workers
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from tests.broker.helpers import HOUR, Hand, Shard, id_of, message
from tests.broker.model import Entry, Lane, Model

EXAMPLES = int(os.environ.get("TASKQ_TEST_EXAMPLES", "0"))
QUEUES = ("a", "b")
MOST_WORKERS = 3

lanes = st.tuples(st.sampled_from(QUEUES), st.sampled_from([-5, 0, 7]))
picks = st.integers(0, 50)
losing = st.sampled_from([False, False, True])  # whether the first reply is lost and the call sent again
verbs = st.sampled_from(["succeeded", "succeeded", "failed", "retry", "cancelled", "expired", "discarded"])
calls = st.tuples(lanes, st.sampled_from([None, None, 1, 2]), st.sampled_from(["", "", "k1", "k2"]), st.none() | picks)


class Machine(RuleBasedStateMachine):
    """Each rule acts on Redis and on the model, and compares the answers; the invariants compare what is there."""

    broker: Broker

    def __init__(self) -> None:
        super().__init__()
        self.broker.connections.execute("FLUSHDB")
        self.shard = Shard(self.broker)
        self.keys = self.shard.keys
        self.inspector = Inspector(self.broker)
        self.model = Model()
        self.hands: dict[str, Hand] = {}
        self.handed: list[tuple[str, Delivery, Entry]] = []  # all deliveries that workers ever learned of
        self.accepted: set[bytes] = set()
        self.foreign: set[bytes] = set()  # sent again by a producer that asks nobody: may end more than once
        self.ended: dict[str, tuple[bytes, int]] = {}  # every outcome seen in Redis: entry -> id and run
        self.names = 0

    def twice(self, lost: bool, act: Callable[[], Any]) -> list[Any]:
        """The answers: two when the first was lost on its way."""
        return [act() for _ in range(1 + lost)]

    # --- producers ----------------------------------------------------------------------------------------------------

    @rule(calls=st.lists(calls, min_size=1, max_size=4), lost=losing)
    def enqueue(self, calls: list[tuple[Lane, int | None, str, int | None]], lost: bool) -> None:
        known = [id for id, place in self.model.index.items()]
        submissions = []
        for (queue, priority), hours, key, pick in calls:
            id = known[pick % len(known)] if known and pick is not None else new_id()
            sent = message(id=id, priority=priority, idempotency_key=key)
            submissions.append(Submission(sent, queue, delay=hours and hours * HOUR))
        answers = self.twice(lost, lambda: self.broker.enqueue(submissions))
        for answer in answers:
            expected: dict[int, tuple[bytes, bool]] = {}
            by_lane: dict[Lane, list[int]] = {}
            for position, each in enumerate(submissions):
                by_lane.setdefault((each.queue, each.message.priority), []).append(position)
            for lane, positions in by_lane.items():
                for position in positions:
                    each = submissions[position]
                    due = self.shard.scheduled(each.queue).get(each.message.id, 0) if each.delay else None
                    expected[position] = self.model.enqueue(each.message, lane, due)
            assert [(each.id, each.created) for each in answer] == [expected[n] for n in range(len(submissions))]
        self.accepted |= {each.id for each in answers[0]}

    @rule(queue=st.sampled_from(QUEUES), pick=st.none() | picks)
    def bare_xadd(self, queue: str, pick: int | None) -> None:
        known = sorted(self.accepted & set(self.model.index))
        id = new_id() if pick is None or not known else known[pick % len(known)]
        if id in self.accepted:
            self.foreign.add(id)
        self.accepted.add(id)
        sent = message(id=id)
        entry = self.model.put(sent, (queue, 0), known=False)
        entry.name = self.shard.seed_bare(*sent.fields(), queue=queue).decode()

    @rule(pick=picks, lost=losing)
    @precondition(lambda self: self.model.index)
    def cancel(self, pick: int, lost: bool) -> None:
        ids = sorted(self.accepted)
        id = ids[pick % len(ids)]
        for answer in self.twice(lost, lambda: self.broker.cancel([id])):
            assert answer == [self.model.cancel(id)]

    @rule(pick=picks, lane=lanes, key=st.sampled_from(["", "k1"]), lost=losing)
    @precondition(lambda self: any(ended.status == "failed" for ended in self.model.outcomes))
    def requeue(self, pick: int, lane: Lane, key: str, lost: bool) -> None:
        dead = [ended for ended in self.model.outcomes if ended.status == "failed"]
        chosen = dead[pick % len(dead)]
        last = max(ended.run for ended in self.model.outcomes if ended.id == chosen.id)
        if chosen.id not in self.model.index and last > chosen.run:
            return  # the database says that it has been requeued
        again = message(id=chosen.id, run=chosen.run + 1, priority=lane[1], idempotency_key=key)
        for answer in self.twice(lost, lambda: self.broker.requeue(again, lane[0])):
            assert answer == self.model.requeue(again, lane)

    # --- workers ------------------------------------------------------------------------------------------------------

    @initialize()
    def begin(self) -> None:
        self.hire()

    @rule()
    @precondition(lambda self: len(self.alive()) < MOST_WORKERS)
    def hire(self) -> None:
        self.names += 1
        name = f"w{self.names}"
        self.hands[name] = Hand(self.shard, name, QUEUES)
        self.model.beats[name] = 0

    def alive(self) -> list[str]:
        return [name for name, beats in self.model.beats.items() if beats >= 0]

    def worker(self, pick: int) -> Hand:
        names = list(self.hands)
        return self.hands[names[pick % len(names)]]

    @rule(pick=picks, most=st.integers(1, 5), asleep=st.booleans(), lost=losing)
    def claim(self, pick: int, most: int, asleep: bool, lost: bool) -> None:
        self.do_claim(self.worker(pick), most, asleep, lost)

    def do_claim(self, hand: Hand, most: int, asleep: bool, lost: bool) -> None:
        for last in (False, True) if lost else (True,):
            claim = hand.ask(most, lease_ms=5000 if asleep else 0)
            if self.model.beats.get(hand.name, -1) < 0:
                assert claim.refused
                return
            expected = self.model.claim(hand.name, most, QUEUES, int(claim.time * 1000), asleep=asleep)
            assert [(id_of(each), each.losses, each.cancelled) for each in claim.deliveries] == [
                (entry.message.id, losses, cancelled) for entry, losses, cancelled in expected
            ]
            for delivery, (entry, _, _) in zip(claim.deliveries, expected, strict=True):
                entry.name = delivery.entry.decode()
                if last:
                    self.handed.append((hand.name, delivery, entry))

    @rule(pick=picks)
    def compare(self, pick: int) -> None:
        """A worker takes up what it holds and did not know of."""
        hand = self.worker(pick)
        pending = hand.deliveries.pending(hand.connection)
        held = self.model.held_by(hand.name)
        assert Counter((lane.suffix + b" " + entry, losses) for lane, entry, losses in pending) == Counter(
            (f"{entry.lane[0]}:{entry.lane[1]} {entry.name}".encode(), entry.deliveries - 1) for entry in held
        )
        known = {delivery.location for name, delivery, _ in self.handed if name == hand.name}
        for lane, name, losses in pending:
            delivery = hand.deliveries.fetch(hand.connection, lane, name, losses, 0.0)
            assert delivery is not None
            if delivery.location not in known:
                [entry] = [each for each in held if each.location.encode() == delivery.location]
                self.handed.append((hand.name, delivery, entry))

    @rule(pick=picks, most=st.integers(1, 6), verb=verbs, lost=losing)
    @precondition(lambda self: self.handed)
    def settle_own(self, pick: int, most: int, verb: str, lost: bool) -> None:
        """A worker settles what it holds, as workers do."""
        hand = self.worker(pick)
        own = [each for each in self.handed if each[0] == hand.name and each[2].holder == hand.name][:most]
        self.do_settle(hand, [(delivery, entry, verb, 0) for _, delivery, entry in own], lost)

    @rule(pick=picks, wild=st.lists(st.tuples(picks, verbs, st.integers(0, 2)), min_size=1, max_size=4), lost=losing)
    @precondition(lambda self: self.handed)
    def settle_anything(self, pick: int, wild: list[tuple[int, str, int]], lost: bool) -> None:
        """A worker settles whatever was ever handed to anybody."""
        chosen = [(*self.handed[number % len(self.handed)][1:], verb, hours) for number, verb, hours in wild]
        self.do_settle(self.worker(pick), chosen, lost)

    def do_settle(self, hand: Hand, chosen: list[tuple[Delivery, Entry, str, int]], lost: bool) -> None:
        settlements: list[tuple[Settlement, Entry, str, Message]] = []
        for delivery, entry, verb, hours in chosen:
            sent = Message.decode(delivery.fields)
            again = Message.decode(delivery.fields)
            again.attempt += 1
            key = sent.idempotency_key
            if verb == "retry":
                made = hand.retrying(delivery, hours * 3600.0)
            elif verb == "failed":
                made = hand.burying(delivery, key=key, run=sent.run)
            else:
                made = hand.completing(delivery, verb, key, HOUR if verb == "succeeded" else 0, run=sent.run)
            settlements.append((made, entry, verb, again))
        for answer in self.twice(lost, lambda: hand.settle([made for made, *_ in settlements])):
            expected: dict[int, int | None] = {}
            for _, batch in hand.deliveries.settle_calls([made for made, *_ in settlements]):
                for made, entry, verb, again in settlements:
                    if any(made is each for each in batch):
                        due = self.shard.scheduled(entry.lane[0]).get(again.id, 0)
                        expected[id(made)] = self.model.settle(hand.name, entry, verb, again, due)
            assert answer == [expected[id(made)] for made, *_ in settlements]

    @rule(pick=picks, numbers=st.lists(picks, min_size=1, max_size=4), lost=losing)
    @precondition(lambda self: self.handed)
    def release(self, pick: int, numbers: list[int], lost: bool) -> None:
        hand = self.worker(pick)
        chosen = [self.handed[number % len(self.handed)] for number in numbers]
        for answer in self.twice(lost, lambda: hand.release(*(delivery for _, delivery, _ in chosen))):
            assert answer == self.model.release(hand.name, [entry for *_, entry in chosen])

    # --- life and death -----------------------------------------------------------------------------------------------

    @rule(pick=picks, lost=losing)
    def beat(self, pick: int, lost: bool) -> None:
        hand = self.worker(pick)
        if lost:
            other = Workers(self.broker.connections, self.keys)
            other._received = dict(self.shard.workers._received)
            other.beat([Beat(hand.name, {})])
            self.model.beat(hand.name)
            if self.model.beats.get(hand.name, -1) >= 0:
                self.model.received[hand.name] = 0  # what it sent is not known to have come
        assert hand.beat() == self.model.beat(hand.name)

    @rule(pick=picks, off=st.sampled_from([None, 0, 0, 1]), running=st.booleans(), lost=losing)
    def declare_dead(self, pick: int, off: int | None, running: bool, lost: bool) -> None:
        name = self.worker(pick).name
        counter = None if off is None else self.model.beats.get(name, 0) + off
        noted = {entry.location for entry in self.model.held_by(name)} if running else set()
        sent = [location.encode() for location in noted]
        for answer in self.twice(lost, lambda: self.shard.workers.declare_dead(name, counter, sent)):
            assert answer == self.model.declare_dead(name, counter, noted)

    @rule(pick=picks, queue=st.sampled_from(QUEUES), lost=losing)
    def reclaim_a_part(self, pick: int, queue: str, lost: bool) -> None:
        name, of_queue = self.worker(pick).name, self.keys.queue(queue)
        names = (
            self.keys.index,
            self.keys.workers,
            self.keys.worker(name),
            of_queue.lanes,
            of_queue.sleepers,
            of_queue.wake,
        )
        arguments = (len(names), *names, name, 2, self.keys.lane_prefix)
        for answer in self.twice(lost, lambda: self.broker.connections.run(scripts.RECLAIM, arguments)):
            assert answer == (self.model.reclaim(name, queue, 2) if self.model.beats.get(name) == -1 else 0)

    @rule(pick=picks, lost=losing)
    def reclaim(self, pick: int, lost: bool) -> None:
        name = self.worker(pick).name
        for answer in self.twice(lost, lambda: self.shard.workers.reclaim(name)):
            dead = self.model.beats.get(name) == -1
            assert answer == (sum(self.model.reclaim(name, queue, 10_000) for queue in QUEUES) if dead else 0)
            if dead:
                self.model.forget(name)

    # --- the recorder -------------------------------------------------------------------------------------------------

    @rule(owner=st.sampled_from(["r1", "r2"]), lost=losing)
    def lease(self, owner: str, lost: bool) -> None:
        for cursor in self.twice(lost, lambda: self.broker.recorder_lease(owner, HOUR)):
            self.model.recorder = self.model.recorder or owner
            assert cursor == (self.cursor() if owner == self.model.recorder else None)

    def cursor(self) -> str:
        return self.model.outcomes[self.model.recorded - 1].name if self.model.recorded else "0-0"

    @rule()
    @precondition(lambda self: self.model.recorder)
    def lose_the_lease(self) -> None:
        self.shard.redis("HDEL", self.keys.recorder, "owner")
        self.model.recorder = None

    @rule(
        owner=st.sampled_from(["r1", "r2"]),
        most=st.integers(1, 5),
        stale=st.sampled_from([False] * 4 + [True]),
        lost=losing,
    )
    @precondition(lambda self: self.model.recorded < len(self.model.outcomes))
    def record(self, owner: str, most: int, stale: bool, lost: bool) -> None:
        entries = self.broker.read_outcomes(self.cursor(), most)
        expected = -1 if stale else self.model.recorded
        arguments = (owner, "9-9" if stale else self.cursor(), entries[-1][0], len(entries))
        for answer in self.twice(lost, lambda: self.broker.advance(*arguments)):
            assert answer == self.model.advance(owner, expected, len(entries))

    @rule(owner=st.sampled_from(["r1", "r2"]), newest=st.sampled_from([None, 0, 1, 3]), lost=losing)
    def trim(self, owner: str, newest: int | None, lost: bool) -> None:
        arguments = (owner, 0, 0, 0) if newest is None else (owner, HOUR, 0, newest)
        for answer in self.twice(lost, lambda: self.broker.trim(*arguments)):
            assert answer == self.model.trim(owner, newest)

    # --- the world ----------------------------------------------------------------------------------------------------

    @rule(hours=st.sampled_from([1, 3]))
    def time_passes(self, hours: int) -> None:
        self.shard.pass_time(hours * HOUR)
        for each in self.model.schedule.values():
            each.due -= hours * HOUR

    @rule(queue=st.sampled_from(QUEUES))
    def pause_or_resume(self, queue: str) -> None:
        if queue in self.model.paused:
            assert self.inspector.resume(queue)
        else:
            assert self.inspector.pause(queue)
        self.model.paused ^= {queue}

    @rule()
    def forget_scripts(self) -> None:
        self.shard.redis("SCRIPT", "FLUSH")

    @rule(pick=picks)
    @precondition(lambda self: self.model.lanes)
    def destroy_a_group(self, pick: int) -> None:
        lane = sorted(self.model.lanes)[pick % len(self.model.lanes)]
        self.shard.redis("XGROUP", "DESTROY", self.keys.lane(*lane), "workers")
        for entry in self.model.lanes[lane]:
            entry.holder, entry.deliveries = None, 0

    # --- what must be true --------------------------------------------------------------------------------------------

    @invariant()
    def agrees(self) -> None:
        """Redis holds what the model holds."""
        model, found = self.model, self.shard.contents()
        prefix = self.keys.lane_prefix
        assert {name for name in found if name.startswith(prefix)} == {self.keys.lane(*lane) for lane in model.lanes}
        for lane, entries in model.lanes.items():
            pairs = list(zip(found[self.keys.lane(*lane)], entries, strict=True))
            for (name, _), entry in pairs:
                entry.name = entry.name or name.decode()
            assert [
                (name.decode(), fields[b"i"], fields.get(b"r"), fields.get(b"n")) for (name, fields), _ in pairs
            ] == [(entry.name, entry.message.id, *run_and_attempt(entry.message)) for entry in entries]
            assert self.shard.pending(*lane) == {
                entry.name.encode(): (entry.holder.encode(), entry.deliveries) for entry in entries if entry.holder
            }
        for queue in QUEUES:
            listed = {self.keys.lane(*lane).encode(): lane[1] for lane in model.listed if lane[0] == queue}
            assert found.get(self.keys.queue(queue).lanes, {}) == listed
            due = {id: each.due for id, each in model.schedule.items() if each.lane[0] == queue}
            assert found.get(self.keys.queue(queue).scheduled, {}) == due
            assert set(found.get(self.keys.queue(queue).messages, {})) == set(due)
            if due:  # early at worst
                assert found[self.keys.due][queue.encode()] <= min(due.values())
        assert found.get(self.keys.ready, set()) == {queue.encode() for queue, _ in model.listed}

        stream = found.get(self.keys.outcomes, [])
        for (name, fields), ended in zip(stream, model.outcomes[model.trimmed :], strict=True):
            ended.name = ended.name or name.decode()
            assert (name.decode(), fields[b"i"]) == (ended.name, ended.id)
        statuses = [(ended.id, ended.run, ended.status) for ended in model.outcomes[model.trimmed :]]
        assert [(outcome.id, outcome.run, outcome.status) for outcome in self.shard.outcomes()] == statuses
        assert self.broker.recorder_lag() == len(model.outcomes) - model.recorded

        index = {index_field(id): place.location.encode() for id, place in model.index.items()}
        assert found.get(self.keys.index, {}) == index
        assert set(found.get(self.keys.cancels, {})) == model.cancels
        assert found.get(self.keys.totals, {}) == {
            name.encode(): str(count).encode() for name, count in model.totals.items()
        }
        owners = {self.keys.idempotency("t", key): each.owner for key, each in model.keys.items()}
        assert {name: value for name, value in found.items() if ":idempotency:" in name} == owners
        for key, each in model.keys.items():
            assert (self.shard.key_ttl(key) > 0) == each.kept
        assert found.get(self.keys.workers, {}) == {name.encode(): beats for name, beats in model.beats.items()}
        for name in model.beats:
            assert [each.decode() for each in found.get(self.keys.inbox(name), [])] == model.inbox.get(name, [])

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        """The guarantees, from what is in Redis alone."""
        found = self.shard.contents()
        places: Counter[bytes] = Counter()
        for name, kept in found.items():
            if name.startswith(self.keys.lane_prefix):
                places.update(fields[b"i"] for _, fields in kept)
            elif name.startswith(self.keys.scheduled_prefix) and not name.endswith(":messages"):
                places.update(kept.keys())
        for name, outcome in self.broker.read_outcomes("0-0", 10_000):
            assert outcome is not None
            self.ended[name] = (outcome.id, outcome.run)
        finished = {id for id, _ in self.ended.values()}
        for id in self.accepted - self.foreign:
            assert places[id] == 1 or (places[id] == 0 and id in finished)
        runs = Counter(run for run in self.ended.values() if run[0] not in self.foreign)
        assert set(runs.values()) <= {1}

    # --- the end ------------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        if sys.exc_info()[0] is None:
            self.drain()
        for hand in self.hands.values():
            hand.connection.disconnect()

    def drain(self) -> None:
        """Everything is run, recorded and trimmed; then nothing is left."""
        for queue in sorted(self.model.paused):
            self.pause_or_resume(queue)
        for number in range(len(self.hands)):
            self.declare_dead(number, None, running=True, lost=False)
            self.reclaim(number, lost=False)
        self.names += 1
        hand = self.hands["last"] = Hand(self.shard, "last", QUEUES)
        self.model.beats["last"] = 0
        while self.model.lanes or self.model.schedule:
            self.time_passes(3)
            self.do_claim(hand, 500, asleep=True, lost=False)
            own = [
                (delivery, entry) for name, delivery, entry in self.handed if name == "last" and entry.holder == "last"
            ]
            self.do_settle(
                hand, [(*each, "succeeded", 0) for each in own if each[1] in self.model.held_by("last")], False
            )
            self.agrees()
            self.nothing_is_lost_or_doubled()
        self.time_passes(3)  # for the due times of what was cancelled, too
        self.do_claim(hand, 1, asleep=False, lost=False)
        self.lease("r1", lost=False)
        owner = self.model.recorder or ""
        while self.model.recorded < len(self.model.outcomes):
            self.record(owner, 5, stale=False, lost=False)
        self.trim(owner, None, lost=False)
        last = list(self.hands).index("last")
        self.declare_dead(last, None, running=False, lost=False)
        self.reclaim(last, lost=False)
        self.agrees()
        self.nothing_is_lost_or_doubled()
        left = {
            name
            for name in self.shard.names()
            if not any(part in name for part in (":idempotency:", ":sleepers:", ":wake:"))
        }
        assert left <= {self.keys.outcomes, self.keys.recorder, self.keys.totals}
        assert all(self.shard.redis("PTTL", name) > 0 for name in set(self.shard.names()) - left)


def run_and_attempt(sent: Message) -> tuple[bytes | None, bytes | None]:
    """Fields r and n, which are left out where they say nothing."""
    return tuple(str(value).encode() if value else None for value in (sent.run - 1, sent.attempt))  # type: ignore[return-value]


def test_every_transition_in_any_order(broker: Broker) -> None:
    Machine.broker = broker
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=EXAMPLES or 40,
            stateful_step_count=50 if EXAMPLES else 40,
            derandomize=not EXAMPLES,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
