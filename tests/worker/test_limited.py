"""Limits across worker processes, by what tasks wrote down about themselves."""

from __future__ import annotations

import bisect
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from django_taskq import RateLimited
from django_taskq.broker import Broker, Submission, get_broker
from django_taskq.broker.declarations import Declarations
from django_taskq.core.gates import concurrency_gate, limit_name, pack_queue_gates
from django_taskq.exceptions import TaskFailed
from django_taskq.queue_options import QueueOptions
from django_taskq.worker.limit_sweeper import LimitSweeper
from tests.broker.helpers import Hand, Shard
from tests.broker.test_limits import gated
from tests.chaos import ledger as books
from tests.chaos import points
from tests.servers import wait_for
from tests.worker import limited
from tests.worker.conftest import Ledger, outcomes

if TYPE_CHECKING:
    from tests.conftest import StartWorker

TASKS = ["tests.worker.limited"]
PLACES_BEFORE = 5  # of a task that has limited.PLACES now


def most_within(moments: list[float], seconds: float) -> int:
    """The most in any half-open window of that length."""
    moments = sorted(moments)
    return max(bisect.bisect_left(moments, start + seconds) - at for at, start in enumerate(moments))


def most_at_once(lines: list[dict[str, Any]]) -> dict[str, int]:
    """By key."""
    running, most = Counter[str](), Counter[str]()
    for line in sorted(lines, key=lambda line: float(line["at"])):
        running[line["key"]] += 1 if line["event"] == "start" else -1
        most[line["key"]] = max(most[line["key"]], running[line["key"]])
    return most


@pytest.mark.long
def test_three_workers_keep_one_rate(worker: StartWorker, ledger: Ledger) -> None:
    """In any second, whatever else the machine does; and nearly as many as allowed where the workers start in time."""
    workers = [worker("--threads", "4", tasks=TASKS) for _ in range(3)]
    rates: list[float] = []
    while len(rates) < 3 and max(rates, default=0) < 98:
        before = 1_000 * len(rates)
        limited.hundred_a_second.delay_many([((ledger.path,), {})] * 1_000)
        time.sleep(10)  # to look at the ledger all the time takes a processor from them
        moments = sorted(line["at"] for line in ledger.wait(before + 1_000, timeout=30))
        assert most_within(moments, 1.0) <= 100
        rates.append(999 / (moments[-1] - moments[before]))
        print(f"{most_within(moments, 1.0)} in a second at most, {rates[-1]:.1f} a second")
    assert 98 <= max(rates) <= 100
    assert len({line["pid"] for line in ledger.read()}) > 1
    assert workers


@pytest.mark.long
def test_no_key_has_more_places_whoever_dies(worker: StartWorker, ledger: Ledger) -> None:
    first, second = (worker("--threads", "4", "--processes", "2", tasks=TASKS) for _ in range(2))
    calls = [((ledger.path, f"key{number % 3}", number), {}) for number in range(120)]
    handles = limited.one_of_few.delay_many(calls)
    ledger.wait(20)
    for child in first.children()[:2]:
        os.kill(child, signal.SIGKILL)
    ledger.wait(60)
    second.kill_tree()
    assert sorted(handle.get(timeout=40) for handle in handles) == list(range(120))
    lost = {line["number"] for line in ledger.events("start")} - {line["number"] for line in ledger.events("end")}
    assert lost == set()  # each ran to its end, after a death once more
    starts = Counter(line["number"] for line in ledger.events())
    whole = [line for line in ledger.read() if starts[line["number"]] == 1]
    assert max(most_at_once(whole).values()) <= limited.PLACES


@pytest.mark.long
def test_a_deployment_changes_how_many_run_of_what_waits_already(worker: StartWorker, ledger: Ledger) -> None:
    """Down from 2 with the first worker, and up with the second."""
    declarations = Declarations(get_broker().connections, get_broker().keys)
    lower = worker("--threads", "8", tasks=TASKS, env={"TASKQ_TEST_PLACES": "1"})
    wait_for(declarations.known)
    handles = [limited.one_of_few.delay(ledger.path, "a", number, seconds=0.4) for number in range(30)]
    ledger.wait(2)
    before = len(ledger.events())
    worker("--threads", "8", tasks=TASKS, env={"TASKQ_TEST_PLACES": "4"})
    for handle in handles:
        handle.get(timeout=20)
    lines = ledger.read()
    starts = [line for line in lines if line["event"] == "start"][:before]
    first = [line for line in lines if line["number"] in {start["number"] for start in starts}]
    assert most_at_once(first)["a"] == 1
    assert most_at_once(lines)["a"] == 4
    assert lower


def test_limits_in_code_and_settings_are_declared_for_what_waits(broker: Broker) -> None:
    shard, old = Shard(broker), PLACES_BEFORE
    gate = concurrency_gate(limit_name(limited.one_of_few.name, "a"), old)
    shard.send([Submission(gated(gate, task=limited.one_of_few.name), "default") for _ in range(9)])
    shard.seed_waiting(9, queue="mail")
    queue = QueueOptions(max_concurrency=1)
    hand = Hand(shard, gates=pack_queue_gates({"mail": queue}))
    running = [*hand.claim(), *hand.claim()]
    assert len(running) == old + 1
    LimitSweeper(broker, {"default": QueueOptions(), "mail": QueueOptions(max_concurrency=3)}).run_once()
    running += hand.claim()
    assert len(running) == old + 3
    hand.settle_all(running)
    assert len(hand.claim()) == limited.PLACES + 3
    known = Declarations(broker.connections, broker.keys).known()
    assert known[f"c:task:{limited.all_at_once.name}"].split()[1:] == ["1"]
    assert known[f"r:task:{limited.all_at_once.name}"].split()[1:] == ["5060", "0", "6000"]
    assert f"r:task:{limited.rarely.name}" not in known  # refused to producers


def test_declarations_are_made_again_where_somebody_deleted_them(broker: Broker) -> None:
    sweeper, declarations = LimitSweeper(broker, {}), Declarations(broker.connections, broker.keys)
    sweeper.run_once()
    known = declarations.known()
    broker.connections.execute("FLUSHDB")
    sweeper.run_once()
    assert declarations.known().keys() == known.keys()


def test_only_the_newest_call_survives(worker: StartWorker, ledger: Ledger) -> None:
    worker("--threads", "4", tasks=TASKS)
    first = limited.newest.delay(ledger.path, "a", 0, seconds=0.5)
    ledger.wait()
    others = [limited.newest.delay(ledger.path, "a", number) for number in range(1, 6)]
    others[-1].get(timeout=10)
    first.get(timeout=10)
    for replaced in others[:-1]:
        with pytest.raises(TaskFailed, match="newer call"):
            replaced.get(timeout=10)
        assert replaced.status == "discarded"
    assert [line["number"] for line in ledger.events()] == [0, 5]


def test_a_call_beyond_the_rate_is_refused(broker: object) -> None:
    for _ in range(2):
        limited.rarely.delay(7)
    with pytest.raises(RateLimited) as refusal:
        limited.rarely.delay(account_id=7)
    assert 0 < refusal.value.seconds <= 1_800
    limited.rarely.delay(8)


def test_what_waits_is_blocked_until_a_place_is_free(worker: StartWorker, ledger: Ledger) -> None:
    worker("--threads", "8", tasks=TASKS)
    handles = [limited.one_of_few.delay(ledger.path, "a", number, seconds=0.6) for number in range(3)]
    ledger.wait(2)
    wait_for(lambda: (handles[2].refresh(), handles[2].status)[1] == "blocked")
    assert handles[2].get(timeout=10) == 2


def test_calls_wait_while_what_they_need_is_down(worker: StartWorker, ledger: Ledger) -> None:
    worker("--threads", "4", tasks=TASKS)
    handles = [limited.needs_a_gate.delay(ledger.path, ledger.gate) for _ in range(6)]
    ledger.wait(2)
    time.sleep(1.0)
    assert len(ledger.events()) <= 6 + 3  # each once before it opened, and a probe every 0.4 s
    ledger.open_gate()
    for handle in handles:
        handle.get(timeout=10)


def test_a_task_that_meets_an_open_breaker_uses_no_attempt(worker: StartWorker, ledger: Ledger) -> None:
    worker("--threads", "2", tasks=TASKS)
    with pytest.raises(ZeroDivisionError), limited.guard:
        raise ZeroDivisionError
    handle = limited.guarded.delay(ledger.path)
    ledger.wait()
    wait_for(lambda: (handle.refresh(), handle.status)[1] == "scheduled")
    handle.get(timeout=10)
    assert [line["event"] for line in ledger.read()] == ["start", "start", "inside"]


POINTS = ("claim.after", "run.before", "run.after", "complete.before", "complete.after", "retry.before", "retry.after")


def test_a_holder_that_dies_between_two_steps_keeps_nobody_waiting(worker: StartWorker, tmp_path: Path) -> None:
    found = books.Books(tmp_path)
    points.prepare(found, 1)
    modules = [*TASKS, "tests.chaos.injected", "tests.worker.impatient"]
    worker("--threads", "2", tasks=modules, env={"CHAOS_MACHINE": "0", "CHAOS_DIRECTORY": str(tmp_path)})
    for point in POINTS:
        ledger = Ledger(tmp_path / f"ledger-{point}")
        armed = points.arm(found, point)
        handles = [limited.all_at_once.delay(ledger.path, number, int("retry" in point)) for number in range(4)]
        assert [handle.get(timeout=10) for handle in handles] == [0, 1, 2, 3], point
        assert not armed.exists(), point
        starts, ends = (Counter(line["number"] for line in ledger.events(event)) for event in ("start", "end"))
        whole = [line for line in ledger.read() if starts[line["number"]] == ends[line["number"]]]
        assert most_at_once(whole)[""] == 1, point
    connections, keys = get_broker().connections, get_broker().keys
    for name in (keys.limits, keys.holds, keys.parked("default"), keys.limit("task:" + limited.all_at_once.name)):
        assert connections.execute("EXISTS", name) == 0
    ids = [outcome.id for outcome in outcomes()]
    assert len(ids) == len(set(ids)) == 4 * len(POINTS)
