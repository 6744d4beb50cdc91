"""displace: the oldest tasks of a full queue make room and become dead letters; nothing is dropped silently."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_taskq.broker import Broker, Submission, scripts
from django_taskq.core.fields import unpack_fields
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Message
from django_taskq.exceptions import BrokerFull, QueueFull
from django_taskq.queue_options import DROP_OLDEST, QueueOptions
from tests.broker.helpers import HOUR, Hand, Shard, id_of, message, send_twice

LIMIT = 3


def dropping(broker: Broker, limit: int = LIMIT) -> Shard:
    return Shard(Broker(broker.connections, broker.keys, {"mail": QueueOptions(limit, DROP_OLDEST)}))


@pytest.fixture
def full(broker: Broker) -> Shard:
    """A shard whose queue `mail` takes three tasks, and drops the oldest for a fourth."""
    return dropping(broker)


def send(shard: Shard, count: int = 1, **values: Any) -> list[bytes]:
    return shard.seed_waiting(count, "mail", **values)


def dropped(shard: Shard) -> list[bytes]:
    outcomes = shard.outcomes()
    assert all((each.status, each.reason, each.recorded) == ("failed", "dropped", True) for each in outcomes)
    return [each.id for each in outcomes]


def test_with_room_it_is_an_enqueue_like_any_other(full: Shard, hand: Hand) -> None:
    first, second = send(full, 2)
    assert (dropped(full), full.states([first, second])) == ([], ["queued", "queued"])
    assert [id_of(each) for each in hand.claim()] == [first, second]


def test_the_oldest_makes_room_and_becomes_a_dead_letter(full: Shard) -> None:
    first, *others = send(full, 3, args=b'["x"]', headers={"trace": "t"})
    sent = message(args=b"[2]")
    full.send([Submission(sent, "mail")])
    assert dropped(full) == [first]
    assert full.states([first, *others, sent.id]) == ["failed", "queued", "queued", "queued"]
    [outcome] = full.outcomes()
    assert (outcome.task, outcome.queue, outcome.args, outcome.attempts) == ("t", "mail", b'["x"]', 0)
    assert outcome.error_message == "Dropped to make room: queue 'mail' had reached max_length=3."
    again = Message.decode(unpack_fields(outcome.raw))
    assert (again.id, again.args, again.headers) == (first, b'["x"]', {"trace": "t"})
    assert {name: full.totals()[name] for name in ("mail:failed", "mail:dead:dropped")} == {
        "mail:failed": 1,
        "mail:dead:dropped": 1,
    }


def test_ready_ones_go_first_those_of_the_lowest_priority_before_others(full: Shard) -> None:
    [high], [low] = send(full, priority=5), send(full, priority=-5)
    [later] = full.seed_scheduled(1, "mail")
    send(full, priority=9)
    assert dropped(full) == [low]
    send(full, priority=9)
    assert dropped(full) == [low, high]
    assert full.find(later).state == "scheduled"


def test_of_scheduled_ones_the_soonest_goes(full: Shard) -> None:
    later, sooner, between = (full.seed_scheduled(1, "mail", delay=hours * HOUR)[0] for hours in (3, 1, 2))
    send(full)
    assert dropped(full) == [sooner]
    assert full.states([later, between]) == ["scheduled", "scheduled"]


def test_lanes_of_one_priority_are_one_line(full: Shard) -> None:
    ids = []
    for share in ("fzz", "", "faa"):
        ids += full.send([Submission(message(), "mail", share=share)])
        time.sleep(0.002)  # a lane's ids tell milliseconds apart
    for count in (1, 2, 3):
        send(full, priority=1)
        assert dropped(full) == ids[:count]


def test_what_a_worker_holds_is_never_dropped(full: Shard, hand: Hand) -> None:
    held = send(full, 2)
    hand.claim()
    [first, *_] = send(full, 3)
    send(full)
    assert dropped(full) == [first]
    assert full.states(held) == ["running", "running"]


def test_what_came_back_from_a_worker_is_older_than_what_none_has_had(full: Shard, hand: Hand) -> None:
    first, second, third = send(full, 3)
    hand.release(*hand.claim(2))
    send(full, 2)
    assert dropped(full) == [first, second]
    assert [id_of(each) for each in hand.claim(1)] == [third]


def test_a_dropped_tasks_key_is_free_again(full: Shard) -> None:
    [first] = send(full, idempotency_key="k")
    send(full, 3)
    assert dropped(full) == [first]
    [second] = send(full, idempotency_key="k")
    assert second != first


def test_a_batch_drops_as_many_as_it_needs(broker: Broker) -> None:
    shard = dropping(broker, 300)
    before, batch = send(shard, 300), send(shard, 250)
    assert dropped(shard) == before[:250]
    assert set(shard.states(before[250:] + batch)) == {"queued"}


def test_a_batch_that_can_never_fit_drops_nothing(full: Shard) -> None:
    ids = send(full, 3)
    with pytest.raises(QueueFull, match="no room for 4 at once"):
        send(full, 4)
    assert full.states(ids) == ["queued"] * 3


def test_where_nothing_can_be_dropped_the_queue_is_full(full: Shard) -> None:
    for _ in range(3):  # without an index entry: not the producer's to end
        full.seed_bare("i", message().id, "t", "t", queue="mail")
    full.redis("ZADD", full.keys.queue("mail").lanes, 0, full.keys.lane("mail", 0))
    with pytest.raises(QueueFull) as caught:
        send(full)
    assert (caught.value.depth, len(full.lane("mail"))) == (3, 3)


def test_a_full_memory_refuses_before_anything_is_dropped(full: Shard) -> None:
    ids = send(full, 3)
    full.fill_memory()
    with pytest.raises(BrokerFull):
        send(full)
    full.empty_memory()
    assert (full.states(ids), dropped(full)) == (["queued"] * 3, [])


# --- who dies, who comes second ---------------------------------------------------------------------------------------


def calls_of(shard: Shard, sent: Message) -> list[Any]:
    """The arguments of the second call, which a producer makes that has been told what would go."""
    calls: list[Any] = []

    def send(arguments: list[Any]) -> Any:
        calls.append(arguments)
        if len(calls) == 2:
            raise InterruptedError
        return shard.broker.connections.run(scripts.DISPLACE, arguments)

    head, admission = shard.broker.lanes.head("mail", 0), shard.broker.lanes.admission(Submission(sent, "mail"))
    with pytest.raises(InterruptedError):
        shard.broker.overflow.make_room(head, admission, send, shard.broker.time)
    return calls


def test_a_producer_that_dies_between_the_calls_has_changed_nothing(full: Shard) -> None:
    ids, before = send(full, 3), full.contents()
    calls_of(full, message())
    assert full.contents() == before
    assert full.states(ids) == ["queued"] * 3


def test_a_call_whose_reply_is_lost_may_be_repeated(full: Shard) -> None:
    first, *_ = send(full, 3)
    sent = message()
    [_, arguments] = calls_of(full, sent)
    assert send_twice(full, scripts.DISPLACE, arguments) == ([1, [0], []], [1, [], []])
    assert (dropped(full), full.find(sent.id).state) == ([first], "queued")


def test_a_task_that_a_worker_took_meanwhile_stays(full: Shard, hand: Hand) -> None:
    first, second, _ = send(full, 3)
    [_, arguments] = calls_of(full, message())
    hand.claim(1)  # which makes room
    assert full.broker.connections.run(scripts.DISPLACE, arguments) == [1, [], []]
    [_, arguments] = calls_of(full, message())
    hand.claim(1)
    send(full)
    accepted, gone, depth, new, oldest = full.broker.connections.run(scripts.DISPLACE, arguments)
    assert (accepted, gone, depth, new, len(oldest)) == (0, [], 3, 1, 1)
    assert full.states([first, second]) == ["running", "running"]
    assert dropped(full) == []


def test_a_task_of_another_queue_is_none_of_its_business(full: Shard) -> None:
    [other] = full.seed_waiting(1)
    send(full, 3)
    [_, arguments] = calls_of(full, message())
    at = arguments.index(1, 18)  # one is offered: its id and its location follow
    arguments[at + 1 : at + 3] = [other, full.location(other)]
    assert full.broker.connections.run(scripts.DISPLACE, arguments)[:2] == [0, []]
    assert full.find(other).state == "queued"


def test_many_producers_at_once_lose_nothing(full: Shard) -> None:
    sent: list[bytes] = []

    def produce() -> None:
        for _ in range(20):
            sent.extend(send(full))

    threads = [threading.Thread(target=produce) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    states = Counter(full.states(sent))
    assert states == {"queued": 3, "failed": 77}
    assert len(set(dropped(full))) == len(dropped(full)) == 77


def test_the_log_and_the_listener_learn_of_each(
    full: Shard, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[bytes, str]] = []
    monkeypatch.setattr("django_taskq.broker.overflow._listener", lambda sent, queue: told.append((sent.id, queue)))
    first, *_ = send(full, 3)
    send(full)
    assert told == [(first, "mail")]
    assert f"t {id_to_str(first)} dropped: queue mail is full" in caplog.text


# --- against a model --------------------------------------------------------------------------------------------------

ACTS = st.one_of(
    st.tuples(st.just("send"), st.integers(1, 3), st.sampled_from([0, 0, 5])),
    st.tuples(st.just("claim"), st.integers(1, 3), st.just(0)),
    st.tuples(st.sampled_from(["complete", "release", "retry", "cancel"]), st.integers(0, 5), st.just(0)),
)


class Line:
    """The queue as a plain list: what waits, in the order in which it would be dropped."""

    def __init__(self, limit: int, *, drops: bool) -> None:
        self.limit, self.drops = limit, drops
        self.waiting: list[tuple[int, int, bytes]] = []  # priority, age, id; those scheduled come last
        self.held: list[bytes] = []
        self.places: dict[bytes, tuple[int, int]] = {}
        self.gone: list[bytes] = []

    def send(self, ids: list[bytes], priority: int) -> bool:
        excess = len(self.waiting) + len(ids) - self.limit
        if excess > 0 and (not self.drops or len(ids) > self.limit):
            return False
        for _ in range(max(0, excess)):
            self.waiting.sort()
            self.gone.append(self.waiting.pop(0)[2])
        for id in ids:
            self.put(id, (priority, len(self.places)))
        return True

    def put(self, id: bytes, place: tuple[int, int]) -> None:
        self.places[id] = place
        self.waiting.append((*place, id))

    def take(self, id: bytes) -> None:
        self.waiting = [each for each in self.waiting if each[2] != id]


def answer(shard: Shard, messages: list[Message]) -> int | None:
    """The depth at which the queue refused them; None where it did not."""
    try:
        shard.send([Submission(each, "mail") for each in messages])
    except QueueFull as error:
        return error.depth
    return None


@pytest.mark.parametrize("drops", [False, True])
def test_any_order_of_events_against_a_plain_list(broker: Broker, hire: Callable[..., Hand], drops: bool) -> None:
    @settings(max_examples=40, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(ACTS, max_size=25))
    def play(acts: list[tuple[str, int, int]]) -> None:
        broker.connections.execute("FLUSHDB")
        options = QueueOptions(4, DROP_OLDEST) if drops else QueueOptions(4)
        shard = Shard(Broker(broker.connections, broker.keys, {"mail": options}))
        hand, line = hire(), Line(4, drops=drops)
        held = []
        for verb, number, priority in acts:
            if verb == "send":
                messages = [message(priority=priority) for _ in range(number)]
                expected = line.send([each.id for each in messages], priority)
                assert answer(shard, messages) == (None if expected else len(line.waiting))
            elif verb == "claim":
                for delivery in hand.claim(number):
                    held.append(delivery)
                    line.take(id_of(delivery))
            elif verb == "cancel":
                if line.waiting:
                    id = line.waiting[number % len(line.waiting)][2]
                    assert shard.broker.cancel([id]) == [True]
                    line.take(id)
            elif held:
                delivery = held.pop(number % len(held))
                id = id_of(delivery)
                if verb == "complete":
                    assert hand.complete(delivery) is None
                elif verb == "release":
                    hand.release(delivery)
                    line.put(id, line.places[id])
                else:
                    assert hand.retry(delivery, 3600 + len(line.places)) is None
                    line.put(id, (1000, len(line.places) + len(line.gone)))
            assert [each.id for each in shard.outcomes() if each.reason == "dropped"] == line.gone
            found = {each.state for each in broker.find([id for _, _, id in line.waiting])} if line.waiting else set()
            assert found <= {"queued", "scheduled"}

    play()
