"""Processes that die, or stop, exactly between two steps of a transition (injected.py)."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from tests.chaos.catalogue import register
from tests.chaos.faults_of_processes import TWO_EACH, kill_machine
from tests.chaos.load import MIX
from tests.chaos.run import LIMIT, Plan, Run

TIMES = 3

IN_TASK_PROCESSES = {
    "claim.before": "taking up room for tasks and the claim",
    "claim.after": "the reply of a claim and its first task",
    "dispatch.after": "the claim and its tasks' start",
    "run.before": "a task's preparation and its body",
    "run.after": "the end of a task and its settlement",
    "complete.before": "the end of tasks and their settlement",
    "complete.after": "a settlement and its reply",
    "retry.before": "a failed attempt and its retry",
    "retry.after": "a retry and its reply",
    "bury.before": "a last failed attempt and its burial",
    "bury.after": "a burial and its reply",
    "release.before": "waiting for a thread and giving back what it cannot start",
    "release.after": "giving back what it cannot start and the reply",
    "register.before": "its start and its registration",
    "register.after": "the registration and the first claim",
    "pending.after": "hearing what it holds and taking it up",
}
IN_MAINTENANCE = {
    "lease.after": "the recorder's lease and its reading",
    "commit.before": "reading outcomes and committing them",
    "commit.after": "the commit and the cursor",
    "advance.after": "the cursor and trimming",
    "trim.after": "two trims",
}


def killed_at(point: str, action: str = "kill") -> Callable[[Run], None]:
    def act(run: Run) -> None:
        for _ in range(TIMES if action == "kill" else 1):
            run.pause(0.2, 0.6)
            run.wait_fired(run.arm(point, action))
        if action == "kill machine":
            for machine in run.machines:
                machine.expected_codes.add(-signal.SIGKILL)
            run.add_machine()

    return act


STARTING = Plan(arguments=("--threads", "4", "--max-tasks", "50"))  # new ones all the time
CROWDED = Plan(arguments=("--threads", "2"), mix={**MIX, "long": 4}, calls=250)
for point, between in IN_TASK_PROCESSES.items():
    plan = STARTING if point.startswith(("register", "pending")) else CROWDED if point.startswith("release") else Plan()
    register(f"killed-at-{point}", f"a task process dies between {between}", killed_at(point), plan)
for point, between in IN_MAINTENANCE.items():
    register(f"killed-at-{point}", f"the maintenance process dies between {between}", killed_at(point))
for point in ("claim.after", "complete.before"):
    between = IN_TASK_PROCESSES[point]
    register(f"machine-killed-at-{point}", f"a machine dies between {between}", killed_at(point, "kill machine"))

STOPPED = LIMIT + 5.0


def stopped_at(point: str) -> Callable[[Run], None]:
    def act(run: Run) -> None:
        run.pause(0.3, 1.0)
        run.wait_fired(run.arm(point, "stop", STOPPED))
        run.pause(STOPPED)

    return act


for point in ("claim.after", "complete.before", "complete.after", "commit.after"):
    register(
        f"stopped-at-{point}",
        f"a process stops for {STOPPED:.0f} s between {(IN_TASK_PROCESSES | IN_MAINTENANCE)[point]}, then goes on",
        stopped_at(point),
        Plan(seconds=STOPPED, calls=1500),
    )


def supervisor_dies_at(point: str) -> Callable[[Run], None]:
    def act(run: Run) -> None:
        run.pause(0.5, 1.5)
        machine = run.some_machine()
        machine.expected_codes = {-signal.SIGKILL}
        run.wait_fired(run.arm(point, machine=machine))
        run.add_machine()

    return act


for point, between in {"beat.before": "two beats", "beat.after": "a beat and its reply"}.items():
    register(f"killed-at-{point}", f"a supervisor dies between {between}", supervisor_dies_at(point))


def reclaim_interrupted(run: Run) -> None:
    """A task process dies, and its supervisor in the middle of handing on what it held."""
    machine = run.some_machine()
    point = run.chance.choice(["declare_dead.after", "reclaim.before", "reclaim.after", "forget.before"])
    run.pause(0.5, 1.5)
    armed = run.arm(point, machine=machine)
    pid = run.chance.choice(machine.task_pids())
    with run.fault("task process killed", pids={pid}):
        os.kill(pid, signal.SIGKILL)
    run.wait_fired(armed)
    machine.expected_codes = {-signal.SIGKILL}
    run.add_machine()


def reclaimer_killed(run: Run) -> None:
    """A machine dies, and the maintenance process of another in the middle of reclaiming what it held."""
    run.pause(0.5, 1.5)
    victim = run.some_machine()
    point = run.chance.choice(["declare_dead.after", "reclaim.before", "reclaim.after", "forget.before"])
    armed = [run.arm(point, machine=machine) for machine in run.alive() if machine is not victim]
    kill_machine(run, victim)
    run.wait_fired(armed[0], timeout=LIMIT + 10)


def dying_while_trimming(run: Run) -> None:
    """Outcomes are recorded, trimmed and their tasks requeued, while whoever does it dies at every step."""
    for point in ("requeue.after", "trim.after", "advance.after", "commit.after", "lease.after"):
        run.pause(0.8, 1.2)
        armed = run.arm(point)
        run.producer("requeue").wait(30)
        run.wait_fired(armed)
    run.load.stopping = True
    run.load_thread.join(60)
    run.pause(2.0)
    run.producer("requeue").wait(30)
    run.expect("no requeued task ran", lambda: any(start.run > 1 for start in run.books.starts()))


register(
    "dying-while-trimming", "outcomes are trimmed and tasks requeued, while whoever does it dies", dying_while_trimming,
    Plan(seconds=60.0, calls=4000, mix={**MIX, "fails_once": 10}, constants={"window": 1.0, "lease": 1.0}),
)  # fmt: skip
register(
    "reclaim-interrupted", "a task process dies, and its supervisor while handing on what it held", reclaim_interrupted,
    Plan(arguments=TWO_EACH),
)  # fmt: skip
register(
    "reclaimer-killed", "a machine dies, and the process that reclaims what it held in the middle of it",
    reclaimer_killed, Plan(mix=MIX, seconds=5.0),
)  # fmt: skip
