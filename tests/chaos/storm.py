"""Many faults in one run, in any order and on top of each other."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable

from tests.chaos.catalogue import chaos
from tests.chaos.faults_at_points import IN_MAINTENANCE, IN_TASK_PROCESSES
from tests.chaos.faults_of_networks import BY_WORKERS
from tests.chaos.faults_of_processes import TWO_EACH, kill_machine, kill_task_process, stop
from tests.chaos.faults_of_servers import ALWAYS, fill_redis, freeze_redis, kill_redis, lock_database
from tests.chaos.load import MIX
from tests.chaos.run import Plan, Run

LIMIT = 6.0  # seconds; a busy machine must not look like a dead one
PLAN = Plan(
    arguments=TWO_EACH, seconds=12.0, calls=1000, mix={**MIX, "crashes": 0.3}, redis=ALWAYS, constants={"limit": LIMIT}
)


def stop_task_process(run: Run) -> None:
    pids = run.some_machine().task_pids()
    if pids:
        # Less than the limit, and yet: what else happens meanwhile may make it longer.
        with run.fault("task process stopped", pids={pids[0]}), contextlib.suppress(ProcessLookupError):
            stop(run, pids[0], 3.0)


def replace_machine(run: Run) -> None:
    machine = run.some_machine()
    run.add_machine()
    kill_machine(run, machine)


def retire_machine(run: Run) -> None:
    machine = run.some_machine()
    run.add_machine()
    with run.fault("SIGTERM"):
        machine.process.wait_until_ready()
        machine.process.terminate(60)


def kill_supervisor(run: Run) -> None:
    machine = run.some_machine()
    with run.fault("supervisor killed"):
        machine.process.kill()
    machine.expected_codes = {-signal.SIGKILL}
    run.add_machine()


def kill_maintenance(run: Run) -> None:
    pid = run.some_machine().maintenance_pid()
    with run.fault("maintenance killed"), contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def lose_replies(run: Run) -> None:
    for name in run.chance.sample(("enqueue", *BY_WORKERS), 4):
        run.cut(name, deliver=run.chance.random() < 0.7)


def kill_at_points(run: Run) -> None:
    for point in run.chance.sample([*IN_TASK_PROCESSES, *IN_MAINTENANCE], 3):
        run.arm(point)


def partition(run: Run) -> None:
    machine = run.some_machine()
    with run.fault("partition", machines={machine.number}), machine.proxy.blackhole():
        run.pause(3.0)


def slow_network(run: Run) -> None:
    for proxy in run.proxies():
        proxy.delay(0.01, 0.05)
    run.pause(1.0)
    for proxy in run.proxies():
        proxy.delay(0.0, 0.0)


def flush_scripts(run: Run) -> None:
    with run.server.client() as client:
        client.script_flush()


FAULTS: list[Callable[[Run], None]] = [
    stop_task_process, replace_machine, retire_machine, kill_supervisor, kill_maintenance, lose_replies, lose_replies,
    kill_at_points, kill_at_points, partition, slow_network, flush_scripts,
    lambda run: kill_task_process(run, run.some_machine()),
    lambda run: kill_redis(run),
    lambda run: freeze_redis(run, 2.0),
    lambda run: fill_redis(run, 1.0),
    lambda run: lock_database(run, 2.0),
    lambda run: [proxy.cut_all() for proxy in run.proxies()],
    lambda run: run.some_machine().proxy.half_open(),
]  # fmt: skip


@chaos("a storm: ten faults at random", PLAN)
def storm(run: Run) -> None:
    for fault in run.chance.sample(FAULTS, 10):
        run.pause(0.1, 0.8)
        fault(run)
