"""Processes that are killed, stopped, asked to stop, or brought down by a task."""

from __future__ import annotations

import os
import signal
import subprocess

from django_taskq.models import DeadTask
from tests.chaos import ledger
from tests.chaos.catalogue import chaos
from tests.chaos.load import MIX
from tests.chaos.machine import Machine
from tests.chaos.run import LIMIT, Plan, Run
from tests.servers import wait_for

TWO_EACH = ("--processes", "2", "--threads", "4")
STOPPED = LIMIT + 6.0  # seconds: longer than the limit


@chaos("nothing happens")
def nothing(run: Run) -> None:
    with run.fault("nothing"):
        run.pause(0.0)
    run.expect("the breaker did not open and close", lambda: run.watcher.breaker >= {"closed", "open"})
    run.expect("nothing was dropped", lambda: DeadTask.objects.filter(reason="dropped").exists())
    run.expect("nothing was paused", lambda: len(list(ledger.read(run.books.weather))) == 2)


def kill_task_process(run: Run, machine: Machine) -> None:
    pid = run.chance.choice(wait_for(machine.task_pids, 10, "a registered process"))
    with run.fault("task process killed", pids={pid}):
        os.kill(pid, signal.SIGKILL)


@chaos("kill -9 of a task process", Plan(arguments=TWO_EACH))
def child_killed(run: Run) -> None:
    run.pause(0.5, 2.0)
    kill_task_process(run, run.some_machine())


@chaos("kill -9 of five task processes, one after the other", Plan(arguments=TWO_EACH, seconds=5.0, calls=700))
def children_killed(run: Run) -> None:
    for _ in range(5):
        run.pause(0.3, 0.9)
        kill_task_process(run, run.some_machine())


@chaos("kill -9 of the only task process", Plan(machines=1))
def only_child_killed(run: Run) -> None:
    run.pause(0.5, 2.0)
    kill_task_process(run, run.machines[0])


@chaos("kill -9 of the maintenance process")
def maintenance_killed(run: Run) -> None:
    for machine in run.alive():
        run.pause(0.3, 0.9)
        pid = machine.maintenance_pid()
        with run.fault("maintenance killed"):
            os.kill(pid, signal.SIGKILL)


@chaos("kill -9 of a supervisor: its processes finish what they run")
def supervisor_killed(run: Run) -> None:
    run.pause(0.5, 2.0)
    machine = run.some_machine()
    with run.fault("supervisor killed"):
        machine.process.kill()
    machine.expected_codes = {-signal.SIGKILL}
    run.add_machine()


@chaos("a supervisor fails with an error of its own: its processes finish what they run")
def supervisor_fails(run: Run) -> None:
    run.pause(0.5, 2.0)
    machine = run.some_machine()
    machine.expected_codes = {1}
    with run.fault("supervisor fails"):
        run.wait_fired(run.arm("supervise.after", "raise", machine=machine))
    run.add_machine()
    machine.process.wait(10)


@chaos("a machine dies: kill -9 of the whole process tree")
def machine_killed(run: Run) -> None:
    run.pause(0.5, 2.0)
    kill_machine(run, run.some_machine())
    run.add_machine()


def kill_machine(run: Run, machine: Machine) -> None:
    with run.fault("machine killed", machines={machine.number}):
        machine.process.kill_tree()
    machine.expected_codes = {-signal.SIGKILL}


@chaos("every machine dies at once, others start")
def every_machine_killed(run: Run) -> None:
    run.pause(0.5, 2.0)
    with run.fault("all killed", machines={machine.number for machine in run.machines}):
        for machine in run.machines:
            machine.process.signal_group(signal.SIGKILL)
    for machine in run.machines:
        machine.expected_codes = {-signal.SIGKILL}
    run.pause(1.0)
    for _ in range(2):
        run.add_machine()


@chaos("a task process is stopped for 5 s (SIGSTOP)")
def child_stopped(run: Run) -> None:
    run.pause(0.5, 1.5)
    pid = run.chance.choice(run.some_machine().task_pids())
    with run.fault("task process stopped", until_end=True):
        stop(run, pid, 5.0)


@chaos("a task process is stopped for longer than the limit, then goes on", Plan(seconds=20.0, calls=1500))
def child_stopped_long(run: Run) -> None:
    run.pause(0.5, 1.5)
    pid = run.chance.choice(run.some_machine().task_pids())
    with run.fault("task process stopped", pids={pid}):
        stop(run, pid, STOPPED)


@chaos("a machine is stopped for longer than the limit, then goes on", Plan(seconds=20.0, calls=1500))
def machine_stopped_long(run: Run) -> None:
    run.pause(0.5, 1.5)
    machine = run.some_machine()
    with run.fault("machine stopped", machines={machine.number}):
        machine.process.freeze()
        run.pause(STOPPED)
        machine.process.thaw()


@chaos("a supervisor is stopped for longer than the limit, then goes on", Plan(seconds=20.0, calls=1500))
def supervisor_stopped_long(run: Run) -> None:
    run.pause(0.5, 1.5)
    machine = run.some_machine()
    with run.fault("supervisor stopped", machines={machine.number}):
        stop(run, machine.process.pid, STOPPED)


def stop(run: Run, pid: int, seconds: float) -> None:
    os.kill(pid, signal.SIGSTOP)
    run.pause(seconds)
    os.kill(pid, signal.SIGCONT)


@chaos("SIGTERM: what runs is finished, the rest goes to others")
def sigterm(run: Run) -> None:
    run.pause(0.5, 2.0)
    machine = run.some_machine()
    run.add_machine()
    with run.fault("SIGTERM"):
        machine.process.terminate()


LONG = {**MIX, "long": 10}


@chaos("SIGTERM, and tasks that outlast --shutdown-timeout", Plan(
    arguments=("--threads", "4", "--shutdown-timeout", "1"), mix=LONG, calls=200
))  # fmt: skip
def sigterm_over_the_grace(run: Run) -> None:
    run.pause(1.0, 2.0)
    machine = run.some_machine()
    run.add_machine()
    with run.fault("SIGTERM over the grace", machines={machine.number}):
        machine.process.terminate()


@chaos("SIGTERM twice", Plan(mix=LONG, calls=200))
def sigterm_twice(run: Run) -> None:
    run.pause(1.0, 2.0)
    machine = run.some_machine()
    run.add_machine()
    with run.fault("SIGTERM twice", machines={machine.number}):
        machine.process.signal(signal.SIGTERM)
        run.pause(0.2)
        machine.process.terminate()


@chaos("tasks that bring down their process: os._exit, segmentation fault, kill -9", Plan(
    arguments=TWO_EACH, mix={**MIX, "crashes": 2}, seconds=6.0
))  # fmt: skip
def crashing_tasks(run: Run) -> None:
    run.pause(0.0)  # the load does it


@chaos("processes are replaced all the time (--max-tasks 40)", Plan(arguments=("--threads", "4", "--max-tasks", "40")))
def recycled(run: Run) -> None:
    run.expect("no process was replaced", lambda: len({start.pid for start in run.books.starts()}) > 2)


@chaos("processes are replaced for their memory (--max-memory 150)", Plan(
    arguments=("--threads", "4", "--max-memory", "150"), mix={**MIX, "grows": 5}
))  # fmt: skip
def recycled_for_memory(run: Run) -> None:
    run.expect("no process was replaced", lambda: len({start.pid for start in run.books.starts()}) > 2)


@chaos("a task holds the interpreter's lock for longer than the limit: nobody takes its process for dead", Plan(
    arguments=TWO_EACH, calls=900, seconds=20.0, patience=90.0
))  # fmt: skip
def lock_held(run: Run) -> None:
    run.pause(0.5, 1.5)
    with run.fault("lock held"):
        run.load.send("hogs", 200_000, run.chance)
        run.load_thread.join(60)


@chaos("a machine's clock is put an hour ahead, another's an hour back, and both right again", Plan(seconds=6.0))
def clocks_stepped(run: Run) -> None:
    for seconds in (3600.0, -3600.0, 0.0):
        run.pause(0.8, 1.2)
        with run.fault("clock"):
            for machine, sign in zip(run.machines, (1, -1), strict=True):
                machine.step_clock(sign * seconds)


@chaos("a producer is killed between the sending and the answer")
def producer_killed(run: Run) -> None:
    producer = start_producer(run, 100_000)
    run.pause(0.1, 0.5)
    with run.fault("producer killed"):
        run.wait_fired(run.arm("enqueue.after"))
        code = producer.wait(30)
    if code != -signal.SIGKILL:
        run.problems.append(f"the producer was not killed: exit code {code}")


def start_producer(run: Run, first: int) -> subprocess.Popen[bytes]:
    """Another producer, which has begun; its calls are numbered from `first`."""
    producer = run.producer(str(run.seed + 1), "1000", "10", str(first))
    wait_for(lambda: any(line["number"] > first for line in ledger.read(run.books.sent)), 20, "the other producer")
    return producer


@chaos("whoever requeues dead letters is killed between Redis and the row, then requeues again", Plan(
    mix={**MIX, "fails_once": 5}
))  # fmt: skip
def requeue_killed(run: Run) -> None:
    run.pause(1.0, 1.5)
    with run.fault("requeue killed"):
        for _ in range(3):
            armed = run.arm("requeue.after")
            run.producer("requeue").wait(30)
            run.wait_fired(armed)
    run.load_thread.join(60)
    run.expect("no requeued task ran", lambda: any(start.run > 1 for start in run.books.starts()))
    both = [run.producer("requeue"), run.producer("requeue")]
    for process in both:
        if code := process.wait(30):
            run.problems.append(f"requeueing ended with exit code {code}")
