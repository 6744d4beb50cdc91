"""The end of a run: all work ends, the workers are stopped, what is left is looked at, the books are read."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Any

import redis

from django_taskq.broker.keys import index_field
from django_taskq.exceptions import BrokerUnavailable
from django_taskq.models import DeadTask, TaskResult
from django_taskq.periodic_task import PeriodicTask
from tests.chaos import ledger, points
from tests.chaos.audit import audit
from tests.chaos.evidence import Books, Fault, Report
from tests.chaos.machine import KEYS
from tests.chaos.watch import breaker_now
from tests.servers import group_alive, wait_for

if TYPE_CHECKING:
    from tests.chaos.run import Run

LAST_STEPS = 0.1  # seconds
LAST_TICK = 2.0  # seconds, after which a scheduler has seen that there are to be no more
TICKING = "tests.chaos.ticking.tick"
ONE_MORE = 300_000  # number of the call that closes the circuit breaker


def finish(run: Run) -> Report:
    run.load_thread.join(120)
    if run.load.error is not None:
        raise run.load.error
    points.disarm(run.books)
    for cut in run.cuts:
        cut.hit.set()
    run.weather.end()
    PeriodicTask.objects.update(enabled=False)
    silent = time.monotonic() + LAST_TICK
    forgets = any(fault.loses for fault in run.faults)
    try:
        patience = run.plan.patience + run.limit
        wait_for(
            lambda: time.monotonic() > silent and _nothing_left(run, forgets), patience, lambda: _what_is_left(run), 0.1
        )
        _close_breaker(run)
        wait_for(lambda: _only_the_living(run), run.limit + 10, lambda: f"an end of {_register(run)}", 0.1)
    except AssertionError as error:
        run.problems.append(str(error))
    for machine in run.alive():  # one that is still starting would not hear SIGTERM as a worker does
        machine.process.wait_until_ready()
    _stop(run)
    gone = run.watcher.finish(forgets=forgets)
    if gone and not forgets and "window" not in run.plan.constants:
        run.problems.append(f"{len(gone)} outcomes have vanished from the stream")
    run.problems += [f"left behind in a lane: the consumer {name}" for name in sorted(run.watcher.strays)]
    run.problems += [f"more holders than places: {limit}" for limit in sorted(run.watcher.crowded)]
    run.problems += _left_behind(run)
    run.problems += [problem for problem, holds in run.expectations if not holds()]
    _note_points(run)  # only now: tasks may bring down their process until the end
    report = audit(_read_books(run), run.faults)
    report.seed = run.seed
    report.problems += run.problems
    return report


def _close_breaker(run: Run) -> None:
    """A try that was never heard of again must not keep the breaker from closing: the next call does it."""
    with run.server.client(socket_timeout=2) as client:
        if breaker_now(client, KEYS) == "closed":
            return
        run.load.send("guarded", ONE_MORE, run.chance)
        wait_for(lambda: breaker_now(client, KEYS) == "closed", run.limit + 10, "a breaker that is closed again")
    wait_for(lambda: _nothing_left(run, forgets=False), 10, lambda: _what_is_left(run), 0.1)


def _nothing_left(run: Run, forgets: bool) -> bool:
    try:
        with run.server.client(socket_timeout=2) as client:
            index = client.hgetall(KEYS.index)
            under_way = {id: place for id, place in index.items() if place[:1] != b"o"}
            if forgets:
                _drop_forgotten(client, under_way)
            limited = client.exists(KEYS.limits, KEYS.holds)  # places of what Redis forgot are freed by a sweep
        return not under_way and not limited and run.broker.recorder_lag() == 0
    except (redis.RedisError, OSError, BrokerUnavailable):
        return False


def _drop_forgotten(client: redis.Redis, under_way: dict[bytes, bytes]) -> None:
    """Where a stream was deleted, the index still names its tasks, and requests to cancel them stay."""
    for id, place in list(under_way.items()):
        entry, _, suffix = place.partition(b" ")
        lane = KEYS.lane_prefix + (suffix.decode() or "default:0")
        if (
            place[:1] not in {b"s", b"p"}
            and not client.xrange(lane, entry, entry)
            and client.hget(KEYS.index, id) == place
        ):
            client.hdel(KEYS.index, id)
            client.hdel(KEYS.cancels, "", *(known for known in client.hkeys(KEYS.cancels) if index_field(known) == id))
            del under_way[id]


def _what_is_left(run: Run) -> str:
    with run.server.client() as client:
        index = client.hgetall(KEYS.index)
        held = [location for location in index.values() if location[:1] != b"o"]
        places = client.hlen(KEYS.holds)
        text = f"{len(held)} of {len(index)} tasks are on their way, {held[:5]}, {places} hold places"
        return f"an end: {text}; {_register(run)}"


def _register(run: Run) -> dict[Any, float]:
    with run.server.client(decode_responses=True) as client:
        return dict(client.zrange(KEYS.workers, 0, -1, withscores=True))


def _only_the_living(run: Run) -> bool:
    """Whoever is gone has left the register."""
    alive = [machine.process.pid for machine in run.alive()]
    return all(any(f"-{pid}-" in name for pid in alive) for name in _register(run))


def _stop(run: Run) -> None:
    """All at once, in good order, and nobody stays."""
    for machine in run.alive():
        machine.process.signal(15)
    for machine in run.machines:
        try:
            code = machine.process.wait(20)
        except AssertionError:
            run.problems.append(f"machine {machine.number} did not stop within 20 s")
            continue
        if code not in machine.expected_codes:
            run.problems.append(f"machine {machine.number} ended with exit code {code}")
        with contextlib.suppress(AssertionError):
            wait_for(lambda: not group_alive(machine.process.pid), 10)  # noqa: B023
            continue
        run.problems.append(f"processes of machine {machine.number} are left behind")


def _left_behind(run: Run) -> list[str]:
    """Trims what is recorded; then only what is documented to stay may be in Redis."""
    with run.server.client(decode_responses=True) as client:
        client.hdel(KEYS.recorder, "owner", "until")
        run.broker.recorder_lease("audit", 60_000)
        while run.broker.trim("audit", 0, 0, 0):
            continue
        permanent = {KEYS.totals, KEYS.recorder, KEYS.periodic, KEYS.breakers, KEYS.declared}
        left = [key for key in client.scan_iter(count=1000) if key not in permanent and client.ttl(key) < 0]
        left = [key for key in left if not key.startswith(KEYS.relay_prefix)]  # as the recorder's
        if KEYS.outcomes in left and not client.xlen(KEYS.outcomes):
            left.remove(KEYS.outcomes)
        plans = [field for field in client.hkeys(KEYS.declared) if field.startswith("pr:")]
        return [f"left behind in Redis: {key} ({client.type(key)})" for key in left] + [
            f"left behind: a plan that is to be changed, {field}" for field in plans
        ]


def _note_points(run: Run) -> None:
    """Faults that processes did to themselves (and tasks to theirs)."""
    for line in points.fired(run.books):
        # Its other threads go on between the line in the book and the signal.
        end, scope = line["at"] + LAST_STEPS, {}
        if line["action"] == "kill":
            scope = {"pids": frozenset({line["pid"]})}
        elif line["action"] == "kill machine":
            scope = {"machines": frozenset({line["machine"]})}
        elif line["action"] == "stop":
            end += line["seconds"]
            if line["seconds"] > run.limit - 2:
                scope = {"pids": frozenset({line["pid"]})}
        run.faults.append(Fault(f"{line['action']} at {line['point']}", line["at"], end, **scope))


def _read_books(run: Run) -> Books:
    rows = TaskResult.objects.exclude(task=TICKING).values_list("id", "run", "status", "reason", "attempts")
    ticks = TaskResult.objects.filter(task=TICKING).values_list("id", "status")
    return Books(
        sent=list(ledger.read(run.books.sent)),
        starts=run.books.starts(),
        ends=run.books.ends(),
        outcomes=list(run.watcher.seen.values()),
        rows=[(str(id), *rest) for id, *rest in rows],
        dead=[(str(id), run) for id, run in DeadTask.objects.values_list("task_id", "run")],
        handed=list(ledger.read(run.books.handed)),
        weather=list(ledger.read(run.books.weather)),
        ticks=[(str(id), status) for id, status in ticks],
    )
