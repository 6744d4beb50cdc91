"""Whoever holds places, moments and tries, makes room or fires ticks dies between two steps."""

from __future__ import annotations

import signal

from tests.chaos.catalogue import chaos
from tests.chaos.faults_of_processes import TWO_EACH, start_producer
from tests.chaos.load import MIX
from tests.chaos.run import Plan, Run

# Nearly every task has a limit.
LIMITED = {**MIX, "quick": 10, "limited": 60, "fair": 20, "guarded": 30, "halted": 20, "displaced": 20}
HOLDING = (
    "claim.after", "run.before", "run.after", "complete.before", "complete.after", "retry.before", "retry.after",
    "breaker.before", "breaker.after",
)  # fmt: skip
TICKING = ("fire.before", "fire.after", "follow.before", "follow.after", "sweep.before", "sweep.after")


@chaos("task processes that hold places and a breaker's try die at nine points, one after the other", Plan(
    arguments=TWO_EACH, mix=LIMITED, seconds=12.0, calls=900
))  # fmt: skip
def holders_killed(run: Run) -> None:
    for point in HOLDING:
        run.pause(0.1, 0.4)
        run.wait_fired(run.arm(point))


@chaos("whoever fires ticks and looks after limits dies at six points, one after the other", Plan(seconds=8.0))
def schedulers_killed(run: Run) -> None:
    for point in TICKING:
        run.wait_fired(run.arm(point))


@chaos("a producer is killed while it makes room in a full queue, three times", Plan(seconds=6.0))
def displacer_killed(run: Run) -> None:
    for number in range(1, 4):
        producer = start_producer(run, 100_000 * number)
        run.pause(0.1, 0.5)
        with run.fault("producer killed"):
            run.wait_fired(run.arm("displace.after"))
            code = producer.wait(30)
        if code != -signal.SIGKILL:
            run.problems.append(f"the producer was not killed: exit code {code}")
