"""The one fast call, compared with redis-py's own, and what it does when Redis is not as it should be."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import redis

from django_taskq.broker import Accepted, Broker, Submission, get_broker, scripts
from django_taskq.broker import broker as broker_module
from django_taskq.broker.connection import Connections, retrying, run_script, run_scripts
from django_taskq.broker.errors import code_of
from django_taskq.core.ids import id_to_str, new_id
from django_taskq.core.message import Message
from django_taskq.exceptions import BrokerFull, BrokerRefused, BrokerUnavailable
from tests.broker.helpers import Hand, Shard, message
from tests.chaos.proxy import Cut, Proxy
from tests.servers import RedisServer, free_port, wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> float:
    """Seconds for which a producer repeats itself here."""
    monkeypatch.setattr(broker_module, "PRODUCER_PATIENCE", 0.3)
    return 0.3


@pytest.fixture
def proxy(redis_server: RedisServer, taskq_settings: SettingsWrapper) -> Iterator[Proxy]:
    """The broker is behind it."""
    proxy = Proxy("127.0.0.1", redis_server.port)
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "BROKER": f"redis://127.0.0.1:{proxy.port}/0"}
    yield proxy
    get_broker().connections.close()
    proxy.close()


def cut(proxy: Proxy, needle: bytes, *, deliver: bool) -> Cut:
    """The connection that sends this next is cut, before or after it has arrived."""
    cutting = Cut(needle, deliver)
    proxy.cut(cutting)
    return cutting


def submission(**values: Any) -> Submission:
    return Submission(message(**values), "default")


# --- the same as redis-py's public call -------------------------------------------------------------------------------


def lane_call(broker: Broker, *messages: Message) -> list[Any]:
    arguments: list[Any] = [*broker.lanes.head("default", 0), ""]
    for each in messages:
        arguments += broker.lanes.admission(Submission(each, "default"))
    return arguments


def public(client: redis.Redis, script: scripts.Script, arguments: list[Any] | tuple[Any, ...]) -> Any:
    client.script_load(script.source)
    return client.evalsha(script.sha, *arguments)


def test_replies_are_those_of_the_public_call(shard: Shard, hand: Hand) -> None:
    broker, keys = shard.broker, shard.keys
    ended, waiting, scheduled = shard.seed_ended(hand)[0], shard.seed_waiting()[0], shard.seed_scheduled()[0]
    find = (2, keys.index, keys.outcomes, keys.lane_prefix, keys.scheduled_prefix, ended, waiting, scheduled, new_id())
    taken = lane_call(broker, message(idempotency_key="k"))
    broker.connections.run(scripts.ENQUEUE, taken)
    calls: list[tuple[scripts.Script, Any]] = [
        (scripts.FIND, find),
        (scripts.ENQUEUE, lane_call(broker, message(idempotency_key="k"), message(idempotency_key="k"))),
        (scripts.LEASE, (2, keys.index, keys.recorder, "r", 60_000)),
        (scripts.LEASE, (2, keys.index, keys.recorder, "other", 60_000)),
        (scripts.ADVANCE, (2, keys.index, keys.recorder, "nobody", "0-0", "1-1", 1)),
        (scripts.PENDING, (1, keys.queue("default").lanes, "w1", 10)),
    ]
    with broker.connections.client() as client:
        for script, arguments in calls:
            expected = public(client, script, arguments)
            assert broker.connections.run(script, arguments) == expected
            assert run_scripts(hand.connection, [(script, arguments)] * 2) == [expected] * 2


@pytest.mark.parametrize("argument", [b"\x00\xff", "\udcff"[:0], "ü", 7, -1, 1.5, 0.1 + 0.2, "x" * 1_000_000, b"\r\n$"])
def test_arguments_are_sent_as_the_public_call_sends_them(shard: Shard, argument: Any) -> None:
    with shard.broker.connections.client() as client:
        client.execute_command("SET", "public", argument)
        shard.redis("SET", "fast", argument)
        assert shard.redis("GET", "fast") == client.get("public")


def test_errors_are_those_of_the_public_call(shard: Shard, hand: Hand) -> None:
    shard.redis("SET", shard.keys.index, "not a hash")
    arguments = lane_call(shard.broker, message())
    with shard.broker.connections.client() as client, pytest.raises(redis.exceptions.ResponseError) as expected:
        public(client, scripts.ENQUEUE, arguments)
    with pytest.raises(redis.exceptions.ResponseError) as found:
        run_script(hand.connection, scripts.ENQUEUE, arguments)
    assert (type(found.value), str(found.value)) == (type(expected.value), str(expected.value))
    with pytest.raises(BrokerRefused, match="WRONGTYPE") as typed:
        shard.broker.connections.run(scripts.ENQUEUE, arguments)
    assert type(typed.value.__cause__) is type(expected.value)


def test_a_full_redis_is_told_apart_on_every_server(shard: Shard, hand: Hand) -> None:
    shard.fill_memory()
    with pytest.raises(redis.exceptions.ResponseError) as caught:
        run_script(hand.connection, scripts.ENQUEUE, lane_call(shard.broker, message()))
    assert code_of(caught.value) == "OOM"
    with pytest.raises(BrokerFull):
        shard.redis("SET", "x", "y")
    shard.empty_memory()


def test_a_call_in_two_steps_gives_the_same_reply(shard: Shard) -> None:
    shard.redis("SCRIPT", "FLUSH")
    first, second = message(), message()
    replies = [
        shard.broker.connections.start(scripts.ENQUEUE, lane_call(shard.broker, each)) for each in (first, second)
    ]
    assert [reply() for reply in replies] == [[], []]
    assert [fields[b"i"] for _, fields in shard.lane()] == [first.id, second.id]
    shard.fill_memory()
    reply = shard.broker.connections.start(scripts.ENQUEUE, lane_call(shard.broker, message()))
    with pytest.raises(BrokerFull):
        reply()
    shard.empty_memory()


# --- scripts that Redis forgot ----------------------------------------------------------------------------------------


def test_a_forgotten_script_is_loaded_again(shard: Shard) -> None:
    ids = shard.seed_waiting()
    shard.redis("SCRIPT", "FLUSH")
    ids += shard.seed_waiting()
    assert [fields[b"i"] for _, fields in shard.lane()] == ids


def test_forgotten_scripts_of_a_pipeline_are_loaded_again_each_in_its_place(shard: Shard, hand: Hand) -> None:
    sent = [message(), message(), message()]
    keys = shard.keys
    lease = (2, keys.index, keys.recorder, "r", 60_000)
    shard.redis("SCRIPT", "FLUSH")
    replies = run_scripts(
        hand.connection,
        [(scripts.ENQUEUE, lane_call(shard.broker, sent[0])), (scripts.LEASE, lease)]
        + [(scripts.ENQUEUE, lane_call(shard.broker, each)) for each in sent[1:]],
    )
    assert replies == [[], b"0-0", [], []]
    assert len(shard.lane()) == 3


def test_one_call_that_is_refused_does_not_disturb_the_others_of_its_pipeline(shard: Shard, hand: Hand) -> None:
    shard.redis("SET", shard.keys.recorder, "not a hash")
    lease = (2, shard.keys.index, shard.keys.recorder, "r", 60_000)
    enqueue = [(scripts.ENQUEUE, lane_call(shard.broker, message())) for _ in range(2)]
    for _ in range(2):
        shard.redis("SCRIPT", "FLUSH")
        first, refused, second = run_scripts(hand.connection, [enqueue[0], (scripts.LEASE, lease), enqueue[1]])
        assert (first, second) == ([], [])
        assert isinstance(refused, redis.exceptions.ResponseError)
    assert run_scripts(hand.connection, []) == []
    assert run_script(hand.connection, *enqueue[0]) == []


# --- Redis refuses for a while ----------------------------------------------------------------------------------------


@contextmanager
def replica(client: redis.Redis, *, stale: bool) -> Iterator[None]:
    """A failover has made this server a replica, whose primary is away."""
    client.config_set("replica-serve-stale-data", "yes" if stale else "no")
    client.replicaof("127.0.0.1", str(free_port()))
    try:
        yield
    finally:
        client.replicaof("NO", "ONE")
        client.config_set("replica-serve-stale-data", "yes")


@contextmanager
def without_replicas(client: redis.Redis) -> Iterator[None]:
    client.config_set("min-replicas-to-write", 1)
    try:
        yield
    finally:
        client.config_set("min-replicas-to-write", 0)


def answers(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.exceptions.ResponseError:
        return False


@contextmanager
def busy(client: redis.Redis) -> Iterator[None]:
    """A script of somebody else's that does not end."""
    [before] = client.config_get("lua-time-limit").values()
    client.config_set("lua-time-limit", 10)
    sender = client.connection_pool.make_connection()
    sender.send_command("EVAL", "while true do end", 0)
    wait_for(lambda: not answers(client))
    try:
        yield
    finally:
        client.script_kill()
        wait_for(lambda: answers(client))
        sender.disconnect()
        client.config_set("lua-time-limit", before)


STATES: dict[str, Callable[[redis.Redis], Any]] = {
    "READONLY": lambda client: replica(client, stale=True),
    "MASTERDOWN": lambda client: replica(client, stale=False),
    "NOREPLICAS": without_replicas,
    "BUSY": busy,
}


@pytest.mark.parametrize("code", STATES)
def test_a_redis_that_takes_no_writes_for_now_counts_as_away(
    broker: Broker, redis_server: RedisServer, impatient: float, code: str
) -> None:
    again = submission()
    with redis_server.client() as client:
        with STATES[code](client):
            started = time.monotonic()
            with pytest.raises(BrokerUnavailable) as caught:
                broker.enqueue([again])
            assert code_of(caught.value.__cause__) == code  # type: ignore[arg-type]
            assert caught.value.id == id_to_str(again.message.id)
            assert not isinstance(caught.value, BrokerFull)
            assert time.monotonic() - started < impatient + 2
        assert broker.enqueue([again]) == [Accepted(again.message.id, True)]


def test_a_producer_gets_through_once_writes_are_taken_again(broker: Broker, redis_server: RedisServer) -> None:
    with redis_server.client() as client:
        client.config_set("min-replicas-to-write", 1)
        timer = threading.Timer(0.3, lambda: client.config_set("min-replicas-to-write", 0))
        timer.start()
        again = submission()
        assert broker.enqueue([again]) == [Accepted(again.message.id, True)]
        timer.join()


def test_a_full_redis_is_not_waited_for(shard: Shard) -> None:
    shard.fill_memory()
    started = time.monotonic()
    with pytest.raises(BrokerFull, match="maxmemory"):
        shard.broker.enqueue([submission()])
    assert time.monotonic() - started < 0.5
    shard.empty_memory()


# --- connections that break -------------------------------------------------------------------------------------------


def kill_connections(server: RedisServer) -> None:
    with server.client() as client:
        client.execute_command("CLIENT", "KILL", "TYPE", "normal")


def test_a_dead_idle_connection_goes_unnoticed(shard: Shard, hand: Hand, redis_server: RedisServer) -> None:
    [id] = shard.seed_ended(hand, status="failed")
    [waiting] = shard.seed_waiting()
    calls: list[Callable[[], Any]] = [
        lambda: shard.broker.enqueue([submission()]),
        lambda: shard.broker.find([id]),
        lambda: shard.broker.cancel([waiting]),
        lambda: shard.broker.requeue(message(id=id, run=2), "default"),
        shard.broker.time,
    ]
    for call in calls:
        kill_connections(redis_server)
        started = time.monotonic()
        call()
        assert time.monotonic() - started < 0.5
    assert shard.states([id, waiting]) == ["queued", "cancelled"]


def test_many_dead_idle_connections_go_unnoticed(shard: Shard, redis_server: RedisServer) -> None:
    opened = [shard.broker.connections._take() for _ in range(5)]
    shard.broker.connections._idle.extend(opened)
    kill_connections(redis_server)
    assert shard.broker.enqueue([submission()])[0].created


def test_after_a_restart_the_first_call_works(shard: Shard, redis_server: RedisServer) -> None:
    ids = shard.seed_waiting()
    redis_server.restart()
    ids += shard.seed_waiting()
    assert [fields[b"i"] for _, fields in shard.lane()] == ids


def test_a_restart_keeps_everything_where_it_was(shard: Shard, hand: Hand, redis_server: RedisServer) -> None:
    shard.seed_ended(hand, 2, "failed")
    held, returned, waiting = shard.seed_waiting(3, idempotency_key="", priority=3)
    shard.seed_scheduled(2)
    deliveries = hand.claim(2)
    hand.release(deliveries[1])
    assert shard.broker.cancel([held]) == [False]
    before, pending = shard.contents(), shard.pending(priority=3)
    redis_server.restart()
    shard.broker.time()
    assert (shard.contents(), shard.pending(priority=3)) == (before, pending)
    hand.connection = shard.broker.connections.open()
    hand.settle_all([deliveries[0], *hand.claim()])
    assert shard.states([held, returned, waiting]) == ["succeeded"] * 3


def test_without_redis_the_error_carries_the_id_after_the_patience(
    broker: Broker, redis_server: RedisServer, impatient: float
) -> None:
    first, again = submission(), submission()
    broker.enqueue([first])
    redis_server.stop()
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable, match="cannot be reached") as caught:
        broker.enqueue([again])
    took = time.monotonic() - started
    assert caught.value.id == id_to_str(again.message.id)
    assert 0.05 < took < impatient + 1.5
    redis_server.start()
    assert broker.enqueue([first, again]) == [Accepted(each.message.id, True) for each in (first, again)]


def test_redis_comes_back_within_the_patience(broker: Broker, redis_server: RedisServer) -> None:
    broker.time()
    redis_server.stop()
    back = threading.Timer(0.2, redis_server.start)
    back.start()
    again = submission()
    assert broker.enqueue([again]) == [Accepted(again.message.id, True)]
    back.join()


def test_a_silent_redis_is_given_up_and_what_it_was_sent_counts_once(
    redis_server: RedisServer, taskq_settings: SettingsWrapper, impatient: float
) -> None:
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "BROKER_OPTIONS": {"socket_timeout": 0.1}}
    shard = Shard(get_broker())
    shard.seed_waiting()
    again = submission()
    redis_server.freeze()
    with pytest.raises(BrokerUnavailable):
        shard.broker.enqueue([again])
    redis_server.thaw()
    assert shard.broker.enqueue([again]) == [Accepted(again.message.id, True)]
    assert len(shard.lane()) == 2


def test_a_patient_call_is_made_once_more_at_least(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def attempt() -> None:
        calls.append(time.monotonic())
        raise BrokerUnavailable

    with pytest.raises(BrokerUnavailable):
        retrying(attempt, 0.4)
    assert calls[1] - calls[0] < 0.05
    assert 3 <= len(calls) <= 9
    calls.clear()
    with pytest.raises(BrokerUnavailable):
        retrying(attempt, -1)
    assert len(calls) == 1


# --- lost replies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("deliver", [True, False])
@pytest.mark.parametrize("delay", [None, 60_000])
def test_an_enqueue_whose_reply_was_lost_makes_one_task(proxy: Proxy, deliver: bool, delay: int | None) -> None:
    shard = Shard(get_broker())
    for number in range(3):
        sent = [Submission(message(), "default", delay=delay) for _ in range(2)]
        cutting = cut(proxy, sent[0].message.id, deliver=deliver)
        assert shard.broker.enqueue(sent) == [Accepted(each.message.id, True) for each in sent]
        assert cutting.hit.is_set()
        assert len(shard.lane()) + len(shard.scheduled()) == 2 * (number + 1)


@pytest.mark.parametrize("deliver", [True, False])
def test_an_idempotent_enqueue_whose_reply_was_lost_is_its_own_first(proxy: Proxy, deliver: bool) -> None:
    shard = Shard(get_broker())
    first, second = message(idempotency_key="k"), message(idempotency_key="k")
    cut(proxy, first.id, deliver=deliver)
    assert shard.broker.enqueue([Submission(first, "default")]) == [Accepted(first.id, True)]
    cut(proxy, second.id, deliver=deliver)
    assert shard.broker.enqueue([Submission(second, "default")]) == [Accepted(first.id, False)]
    assert len(shard.lane()) == 1


@pytest.mark.parametrize("deliver", [True, False])
def test_a_requeue_whose_reply_was_lost_makes_one_run(proxy: Proxy, deliver: bool) -> None:
    shard, again = Shard(get_broker()), message(run=2)
    cut(proxy, again.id, deliver=deliver)
    shard.broker.requeue(again, "default")
    assert len(shard.lane()) == 1


def test_a_claim_is_not_repeated_and_what_it_was_handed_is_found(proxy: Proxy) -> None:
    shard = Shard(get_broker())
    hand = Hand(shard)
    assert hand.claim() == []
    ids = shard.seed_waiting(3)
    cutting = cut(proxy, b"w1", deliver=True)
    with pytest.raises(redis.exceptions.ConnectionError):
        hand.claim()
    assert cutting.hit.is_set()
    hand.connection = shard.broker.connections.open()
    assert hand.claim() == []
    pending = hand.deliveries.pending(hand.connection)
    fetched = [hand.deliveries.fetch(hand.connection, *item, 0.0) for item in pending]
    assert [delivery.fields[1] for delivery in fetched if delivery] == ids
    hand.settle_all([delivery for delivery in fetched if delivery])
    assert shard.ended() == [(id, "succeeded") for id in ids]


def test_a_pipeline_that_breaks_raises_and_may_be_sent_again(proxy: Proxy) -> None:
    shard = Shard(get_broker())
    hand = Hand(shard)
    for priority in range(3):
        shard.seed_waiting(2, priority=priority)
    calls = [call for call, _ in hand.deliveries.settle_calls([hand.completing(each) for each in hand.claim()])]
    assert len(calls) == 3
    cut(proxy, b"w1", deliver=True)
    with pytest.raises(redis.exceptions.ConnectionError):
        run_scripts(hand.connection, calls)
    hand.connection = shard.broker.connections.open()
    run_scripts(hand.connection, calls)
    assert len(shard.outcomes()) == 6
    assert shard.names("queue:*") == []


# --- threads, interrupts, forks ---------------------------------------------------------------------------------------


def test_threads_share_connections_and_no_reply(shard: Shard) -> None:
    problems: list[BaseException] = []

    def work() -> None:
        try:
            for _ in range(50):
                [id] = shard.seed_waiting()
                assert shard.find(id).message == Message(id, "t")
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert problems == []
    assert len(shard.lane()) == 400
    assert 1 <= len(shard.broker.connections._idle) <= 9


def test_threads_that_notice_a_dead_redis_together_do_not_stumble(shard: Shard) -> None:
    connections, problems = shard.broker.connections, []
    unconnected = [connections.location.new_connection() for _ in range(500)]
    barrier = threading.Barrier(4)

    def work() -> None:
        barrier.wait()
        try:
            connections.close()
        except BaseException as error:
            problems.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(25):
            connections._idle.extend(unconnected)
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert problems == []


class Interrupted(BaseException):
    pass


def test_an_interrupted_call_leaves_no_reply_for_the_next(shard: Shard) -> None:
    def interrupt(*_: object) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGUSR1, interrupt)
    try:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        with pytest.raises(Interrupted):
            shard.redis("BLPOP", "nothing", 1)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert shard.redis("ECHO", "mine") == b"mine"


def test_a_refused_command_leaves_no_reply_for_the_next(shard: Shard) -> None:
    with pytest.raises(BrokerRefused):
        shard.redis("NONSENSE")
    assert shard.redis("ECHO", "mine") == b"mine"


def in_child(check: Callable[[], bool]) -> bool:
    """Whether check() is true in a forked child."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of forking beside threads
        pid = os.fork()
    if not pid:
        try:
            os._exit(0 if check() else 1)
        except BaseException:
            os._exit(2)
    return os.waitpid(pid, 0)[1] == 0


def test_a_forked_child_uses_connections_of_its_own(shard: Shard) -> None:
    mine = shard.redis("CLIENT", "ID")
    assert get_broker() is shard.broker

    def check() -> bool:
        return get_broker().connections.execute("CLIENT", "ID") != mine and bool(shard.seed_waiting())

    assert all(in_child(check) for _ in range(3))
    assert shard.redis("CLIENT", "ID") == mine
    assert len(shard.lane()) == 3


def test_parent_and_child_talk_at_the_same_time(shard: Shard) -> None:
    shard.seed_waiting()

    def check() -> bool:
        for _ in range(200):
            [id] = shard.seed_waiting(priority=1)
            if shard.find(id).message != Message(id, "t", priority=1):
                return False
        return True

    def work() -> None:
        for _ in range(200):
            [id] = shard.seed_waiting()
            assert shard.find(id).message == Message(id, "t")

    thread = threading.Thread(target=work)
    thread.start()
    assert in_child(check)
    thread.join()
    assert (len(shard.lane()), len(shard.lane(priority=1))) == (201, 200)


# --- the process-wide broker ------------------------------------------------------------------------------------------


def test_there_is_one_broker_until_the_settings_change(taskq_settings: SettingsWrapper) -> None:
    first = get_broker()
    assert get_broker() is first
    first.time()
    connection = first.connections._idle[0]
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "NAMESPACE": "other"}
    second = get_broker()
    assert second is not first
    assert second.keys.index == "{other}:index"
    assert connection._sock is None
    taskq_settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
    assert get_broker() is not second


def test_namespaces_do_not_see_each_other(taskq_settings: SettingsWrapper) -> None:
    [id] = Shard(get_broker()).seed_waiting()
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "NAMESPACE": "other"}
    other = Shard(get_broker())
    assert other.find(id).state is None
    assert other.names() == []


def test_nothing_is_connected_before_the_first_call(settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "BROKER": "redis://127.0.0.1:1/0"}
    with pytest.raises(BrokerUnavailable):
        get_broker().connections.execute("PING")


def test_a_listener_of_a_redis_that_goes_away_says_so(broker: Broker, redis_server: RedisServer) -> None:
    with broker.listen(new_id()) as listener:
        stopping = threading.Timer(0.05, redis_server.stop)
        stopping.start()
        with pytest.raises(BrokerUnavailable):
            listener.wait(10)
    stopping.join()


def test_every_script_loads_on_this_server(broker: Broker) -> None:
    for script in scripts.ALL:
        assert broker.connections.execute("SCRIPT", "LOAD", script.source).decode() == script.sha


def test_connections_are_closed_on_demand(redis_server: RedisServer, broker: Broker) -> None:
    connections: Connections = broker.connections
    broker.time()
    connections.close()
    assert not connections._idle
    assert broker.time() > 0
