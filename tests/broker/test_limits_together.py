"""Limits of several kinds on one task, a bounded queue beside them, and Redis restarted in the middle."""

from __future__ import annotations

import threading
import time

from django_taskq.broker import Broker, Submission
from django_taskq.core.fields import unpack_fields
from django_taskq.core.gates import concurrency_gate, rate_gate
from django_taskq.core.message import Message
from django_taskq.exceptions import TaskqError
from django_taskq.queue_options import DROP_OLDEST, QueueOptions
from django_taskq.rates import Rate
from tests.broker.helpers import Hand, Shard, id_of
from tests.broker.test_limits import gated, holders, nothing_is_held, sweep
from tests.broker.test_limits import send as send_limited
from tests.broker.test_rate import drain, most_in_a_window
from tests.broker.test_rate import send as send_rated
from tests.servers import RedisServer, wait_for

FAST = Rate(20, 0.1)
PLACES = 3


def test_a_rate_places_and_a_fair_key_all_hold(shard: Shard, hand: Hand) -> None:
    """No more run at once than there are places, no window has more starts, and of both tenants each call runs once."""
    gates = (concurrency_gate("task:t", PLACES), rate_gate("task:t", FAST, 1))

    def send(tenant: str, count: int) -> list[bytes]:
        return shard.send([Submission(gated(*gates, fair_key=tenant), "default") for _ in range(count)])

    a, b = send("a", 40), send("b", 3)
    started: list[tuple[float, bytes]] = []
    deadline = time.monotonic() + 20
    while len(started) < 43 and time.monotonic() < deadline:
        claim = hand.ask()
        assert len(claim.deliveries) <= PLACES
        assert len(holders(shard, "task:t")) <= PLACES
        started += [(claim.time, id_of(each)) for each in claim.deliveries]
        hand.settle_all(claim.deliveries)
    assert sorted(id for _, id in started) == sorted(a + b)
    assert most_in_a_window([moment for moment, _ in started], FAST.seconds) <= FAST.count
    assert nothing_is_held(shard)


def test_dropping_the_oldest_races_with_producers_and_claims(broker: Broker) -> None:
    """Each call ends once: run, or dropped for room. Nobody has a place when all is over."""
    limit, per_producer = 10, 150
    bounded = {"mail": QueueOptions(limit, DROP_OLDEST)}
    shard = Shard(Broker(broker.connections, broker.keys, bounded))
    sent: list[bytes] = []
    faults: list[BaseException] = []
    producing = threading.Event()

    def produce(number: int) -> None:
        own = Shard(Broker(broker.connections, broker.keys, bounded))
        gate = concurrency_gate(f"task:t:{number}", 1)
        try:
            for _ in range(per_producer):
                sent.extend(own.send([Submission(gated(gate), "mail")]))
        except BaseException as fault:
            faults.append(fault)

    def work(number: int) -> None:
        hand = Hand(shard, f"w{number}", queues=["mail"])
        try:
            while True:
                deliveries = hand.claim(4)
                hand.settle_all(deliveries)
                if not deliveries and not producing.is_set() and not shard.redis("EXISTS", shard.keys.parked("mail")):
                    return
        except BaseException as fault:
            faults.append(fault)

    producing.set()
    producers = [threading.Thread(target=produce, args=(number,)) for number in range(2)]
    workers = [threading.Thread(target=work, args=(number,)) for number in range(2)]
    for thread in [*producers, *workers]:
        thread.start()
    for thread in producers:
        thread.join(30)
    producing.clear()
    for thread in workers:
        thread.join(30)
    assert faults == []
    outcomes = shard.outcomes()
    assert sorted(outcome.id for outcome in outcomes) == sorted(sent)
    assert {(outcome.status, outcome.reason) for outcome in outcomes} <= {("succeeded", ""), ("failed", "dropped")}
    assert nothing_is_held(shard)
    assert shard.lanes("mail") == {}


def test_who_was_held_back_for_longest_makes_room_when_nothing_is_ready(broker: Broker) -> None:
    shard = Shard(Broker(broker.connections, broker.keys, {"mail": QueueOptions(3, DROP_OLDEST)}))
    hand = Hand(shard)
    gate = concurrency_gate("task:t", 1)

    def send(**values: bytes) -> bytes:
        return shard.send([Submission(gated(gate, **values), "mail")])[0]

    running = send()
    [delivery] = hand.claim()
    blocked = [send(args=b'["x"]'), send(), send()]
    assert hand.claim() == []
    newest = send()
    assert shard.states([running, *blocked, newest]) == ["running", "failed", "blocked", "blocked", "queued"]
    [outcome] = shard.outcomes()
    again = Message.decode(unpack_fields(outcome.raw))
    assert (outcome.reason, again.id, again.args) == ("dropped", blocked[0], b'["x"]')
    hand.complete(delivery)
    [delivery] = hand.claim()
    assert id_of(delivery) == blocked[1]
    for _ in range(3):
        hand.complete(delivery)
        [delivery] = hand.claim() or [delivery]
    assert nothing_is_held(shard)


def test_limits_are_the_same_after_redis_was_restarted(shard: Shard, hand: Hand, redis_server: RedisServer) -> None:
    held = send_limited(shard, 4, most=2)
    rated = send_rated(shard, 3, "1/h", limit="task:r", task="r")
    running = {id_of(each): each for each in hand.claim()}
    assert list(running) == [*held[:2], rated[0]]
    before = shard.contents()
    redis_server.restart()
    wait_for(lambda: answers(shard))
    after = shard.contents()
    assert after == before
    other = Hand(shard, "w2")
    assert other.claim() == []
    hand = Hand(shard, "w1", registered=False)
    assert hand.complete(running[held[0]]) is None
    assert [id_of(each) for each in other.claim()] == [held[2]]
    hand.die([running[held[1]]])
    [lost] = other.claim()
    assert (id_of(lost), lost.losses, holders(shard)) == (held[1], 1, set(held[1:3]))
    assert other.complete(lost) is None
    assert [id_of(each) for each in other.claim()] == [held[3]]
    assert shard.states(rated) == ["scheduled"] * 3
    assert sweep(shard) == (0, 0)


def answers(shard: Shard) -> bool:
    try:
        return bool(shard.redis("PING"))
    except TaskqError:
        return False


def test_the_plan_goes_on_where_it_was_when_redis_comes_back(
    shard: Shard, hand: Hand, redis_server: RedisServer
) -> None:
    """What was due meanwhile does not start all at once."""
    sent = send_rated(shard, 20, "20/s")
    assert [id_of(each) for each in hand.claim()] == sent[:1]
    redis_server.restart()
    wait_for(lambda: answers(shard))
    handed = drain(Hand(shard, "w2"), 10, until=19)
    assert [id for _, id in handed if id in sent[1:]]
    assert {id for _, id in handed} == set(sent[1:])
    assert most_in_a_window([moment for moment, _ in handed], 0.5) <= 11
