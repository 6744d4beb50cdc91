"""Shares of a queue take turns: who has much waiting does not delay who has little."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_taskq.broker import Broker, Submission
from django_taskq.broker.delivery import Delivery
from django_taskq.broker.inspector import Inspector
from django_taskq.core.gates import concurrency_gate
from tests.broker.helpers import HOUR, Hand, Shard, id_of, message

IDLE = -1000  # as in lib/shares.lua


def send(shard: Shard, tenant: str, count: int = 1, priority: int = 0, **values: int) -> list[bytes]:
    """Messages of a tenant; '' for those without a share."""
    key = f"tenant:{tenant}" if tenant else ""
    return shard.send([Submission(message(priority=priority, fair_key=key), "mail", **values) for _ in range(count)])


def tenants(deliveries: list[Delivery]) -> str:
    return "".join(tenant_of(delivery) for delivery in deliveries)


def tenant_of(delivery: Delivery) -> str:
    fields = dict(zip(delivery.fields[::2], delivery.fields[1::2], strict=True))
    return fields.get(b"F", b":-").decode().partition(":")[2]


def test_each_share_has_a_lane_while_it_has_messages(shard: Shard, hand: Hand) -> None:
    send(shard, "a", 2)
    send(shard, "b")
    assert len(shard.lanes("mail")) == 2
    assert {place.share[0] for place in map(shard.keys.place, shard.lanes("mail")) if place} == {"f"}
    hand.settle_all(hand.claim())
    assert shard.lanes("mail") == {}
    assert set(shard.names()) <= {shard.keys.outcomes, shard.keys.index, shard.keys.totals} | {
        name for name in shard.names() if name.startswith((shard.keys.workers, shard.keys.worker_prefix))
    } | {name for name in shard.names() if name.startswith(shard.keys.stats_prefix)}


@pytest.mark.parametrize("most", [1, 2, 8, 50])
def test_a_single_task_is_not_behind_thousands_of_another_tenant(shard: Shard, hand: Hand, most: int) -> None:
    send(shard, "a", 3000)
    hand.claim(20)
    send(shard, "b")
    taken = tenants(hand.claim(most) + hand.claim(most))
    assert "b" in taken
    assert taken.index("b") <= most  # at the latest when the next claim begins


def test_one_at_a_time_they_take_turns(shard: Shard, hand: Hand) -> None:
    for tenant in "abc":
        send(shard, tenant, 30)
    taken = [tenants(hand.claim(1)) for _ in range(30)]
    assert all(set(taken[start : start + 3]) == set("abc") for start in range(0, 30, 3))


def test_a_large_claim_takes_from_all(shard: Shard, hand: Hand) -> None:
    send(shard, "a", 500)
    for tenant in "bcdefghij":
        send(shard, tenant, 3)
    taken = Counter(tenants(hand.claim(100)))
    assert taken == Counter({"a": 73} | dict.fromkeys("bcdefghij", 3))


def test_messages_of_one_share_keep_their_order(shard: Shard, hand: Hand) -> None:
    ids = send(shard, "a", 20)
    send(shard, "b", 20)
    taken = [delivery for _ in range(9) for delivery in hand.claim(4)]
    mine = [id_of(delivery) for delivery in taken if tenant_of(delivery) == "a"]
    assert mine == ids[: len(mine)]


def test_priorities_come_first(shard: Shard, hand: Hand) -> None:
    send(shard, "a", 3, priority=-100)
    send(shard, "b", 2, priority=100)
    send(shard, "a", 2, priority=100)
    send(shard, "c", priority=99)
    taken = tenants([delivery for _ in range(8) for delivery in hand.claim(1)])
    assert set(taken[:4]) == {"a", "b"}
    assert taken[4:] == "caaa"


def test_those_without_a_share_have_turns_like_a_share(shard: Shard, hand: Hand) -> None:
    send(shard, "", 100)
    send(shard, "a", 100)
    assert Counter(tenants([delivery for _ in range(20) for delivery in hand.claim(1)])) == {"-": 10, "a": 10}


def test_what_comes_back_or_is_promoted_has_its_turn_again(shard: Shard, hand: Hand) -> None:
    """Shares of which nothing waits any more are at the end of the list; each way back takes them from there."""
    send(shard, "a", 3)
    send(shard, "b", priority=5)
    first, second, third, other = sorted(hand.claim(), key=tenant_of)
    assert hand.claim() == []
    assert all(score <= IDLE for score in shard.lanes("mail").values())
    hand.release(first)
    assert [score <= IDLE for score in sorted(shard.lanes("mail").values())] == [True, False]
    assert tenants(hand.claim()) == "a"
    hand.claim()
    hand.retry(second, 0.001)
    shard.pass_time(10_000)
    assert tenants(hand.claim()) == "a"
    hand.claim()
    assert hand.die([third, other]) == 4
    assert all(score > IDLE for score in shard.lanes("mail").values())
    assert tenants(Hand(shard, "w2").claim()) == "baaa"


def test_a_requeued_task_goes_to_its_share(shard: Shard, hand: Hand) -> None:
    [id] = send(shard, "a")
    hand.bury(hand.claim()[0])
    assert shard.broker.requeue(message(id=id, run=2, fair_key="tenant:a"), "mail")
    assert shard.find(id).share == shard.broker.find([send(shard, "a")[0]])[0].share != ""


def test_a_scheduled_task_comes_to_its_share(shard: Shard, hand: Hand) -> None:
    [id] = send(shard, "a", delay=HOUR)
    assert (shard.find(id).state, shard.find(id).share[0]) == ("scheduled", "f")
    shard.pass_time()
    assert tenants(hand.claim()) == "a"


def test_a_lane_whose_group_is_gone_is_found_again(shard: Shard, hand: Hand) -> None:
    ids = send(shard, "a", 2)
    hand.claim()
    hand.claim()  # nothing waits: it stands at the end
    [lane] = shard.lanes("mail")
    shard.redis("XGROUP", "DESTROY", lane, "workers")
    assert [id_of(delivery) for delivery in hand.claim()] == ids


def test_an_idle_worker_sleeps_although_there_are_shares_that_others_hold(
    shard: Shard, hire: Callable[..., Hand]
) -> None:
    send(shard, "a", 3)
    hire("w1").claim()
    assert hire("w2").sleep().next_due is None


def test_of_thousands_of_tenants_a_claim_looks_at_some_and_none_is_forgotten(shard: Shard, hand: Hand) -> None:
    shard.send([Submission(message(fair_key=f"tenant:{number}"), "mail") for number in range(2000)])
    taken = [len(hand.claim(300)) for _ in range(7)]
    assert sum(taken) == 2000
    assert taken[:6] == [300] * 6
    while hand.ask().next_due is not None:  # all are held now, and it takes some looks to know
        pass
    [state] = Inspector(shard.broker).queues(["mail"])
    assert (state.ready + state.running, state.priorities) == (2000, state.priorities)
    send(shard, "new")
    assert tenants(hand.claim()) == "new"


def limited(shard: Shard, tenant: str, count: int) -> None:
    """Messages of which one may run at once for each tenant."""
    gates = msgspec.msgpack.encode([concurrency_gate(f"task:t:{tenant}", 1)])
    shard.send(
        [Submission(message(fair_key=f"tenant:{tenant}", gates=gates), "mail") for _ in range(count)],
    )


def test_tasks_with_limits_take_turns_too(shard: Shard, hand: Hand) -> None:
    limited(shard, "a", 3)
    limited(shard, "b", 2)
    first = hand.claim()
    assert sorted(tenants(first)) == ["a", "b"]
    assert hand.claim() == []
    hand.settle_all(first)
    assert sorted(tenants(hand.claim())) == ["a", "b"]


def test_whoever_has_thousands_that_may_not_start_delays_nobody(shard: Shard, hand: Hand) -> None:
    limited(shard, "a", 2000)
    assert tenants(hand.claim(1)) == "a"
    limited(shard, "b", 1)
    assert tenants(hand.claim(8) + hand.claim(8)) == "b"
    while hand.ask().next_due is not None:
        pass
    [state] = Inspector(shard.broker).queues(["mail"])
    assert state.ready == 0


# --- against a model --------------------------------------------------------------------------------------------------

ACTS = st.one_of(
    st.tuples(st.just("send"), st.sampled_from("abcd"), st.integers(1, 6)),
    st.tuples(st.just("claim"), st.just(""), st.integers(1, 9)),
    st.tuples(st.sampled_from(["complete", "release", "retry"]), st.just(""), st.integers(0, 9)),
)


class Line:
    """Who has how much waiting, and since when it has been somebody else's turn."""

    def __init__(self) -> None:
        self.waiting: Counter[str] = Counter()
        self.since: dict[str, int] = {}

    def add(self, tenant: str, count: int, now: int) -> None:
        if not self.waiting[tenant]:
            self.since[tenant] = now
        self.waiting[tenant] += count

    def take(self, most: int, counts: Counter[str], now: int) -> None:
        """Checks what a claim brought."""
        assert counts.total() == min(most, self.waiting.total())
        ready = [tenant for tenant in self.waiting if self.waiting[tenant]]
        passed_over = [tenant for tenant in ready if not counts[tenant]]
        assert all(self.since[other] >= self.since[tenant] for other in passed_over for tenant in counts)
        turn = max(1, most // max(1, len(ready)))
        for count in counts.values():
            unsatisfied = [other for other in ready if counts[other] < self.waiting[other]]
            assert all(count <= counts[other] + turn for other in unsatisfied)
        for tenant, count in counts.items():
            self.waiting[tenant] -= count
            self.since[tenant] = now


def test_any_order_of_events_leaves_nobody_out(broker: Broker, hire: Callable[..., Hand]) -> None:
    """A claim brings what waits, up to its budget, in turns; nobody is passed over whose turn was longer ago."""

    @settings(max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ACTS, max_size=30))
    def play(acts: list[tuple[str, str, int]]) -> None:
        broker.connections.execute("FLUSHDB")
        shard, hand, line = Shard(broker), hire(), Line()
        held: list[Delivery] = []
        due: list[str] = []  # retried at once: back in line with the next claim
        for now, (verb, tenant, number) in enumerate(acts, 1):
            if verb == "send":
                send(shard, tenant, number)
                line.add(tenant, number, now)
            elif verb == "claim":
                while due:
                    line.add(due.pop(), 1, now)
                deliveries = hand.claim(number)
                line.take(number, Counter(map(tenant_of, deliveries)), now)
                held += deliveries
            elif held:
                delivery = held.pop(number % len(held))
                if verb == "complete":
                    assert hand.complete(delivery) is None
                elif verb == "release":
                    hand.release(delivery)
                    line.add(tenant_of(delivery), 1, now)
                else:
                    assert hand.retry(delivery, 0) is None
                    due.append(tenant_of(delivery))
        rest = [delivery for _ in range(30) for delivery in hand.claim(9)]
        assert Counter(map(tenant_of, rest)) == +(line.waiting + Counter(due))
        hand.settle_all([*held, *rest])
        assert shard.lanes("mail") == {}

    play()
