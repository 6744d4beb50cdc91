"""What stands for a machine in a run: a worker with all its processes, and its own way to Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django_taskq.broker.keys import Keys
from tests.chaos.proxy import Proxy
from tests.servers import WorkerProcess, wait_for

if TYPE_CHECKING:
    from tests.chaos.run import Run

NAMESPACE = "chaos"
KEYS = Keys(NAMESPACE)


class Machine:
    """One `manage.py taskq_worker`, its process group, and its way to Redis."""

    def __init__(self, run: Run, number: int) -> None:
        self.run, self.number = run, number
        self.proxy = Proxy("127.0.0.1", run.server.port, seed=run.seed + number)
        self.process = WorkerProcess(
            run.plan.arguments, run.books.directory / f"worker-{number}.log", run.environment(self), run.registered
        )
        self.expected_codes = {0}

    def step_clock(self, seconds: float) -> None:
        """Its wall clock is ahead by so much from now on (injected.py)."""
        (self.run.books.directory / f"clock-{self.number}").write_text(str(seconds))

    def workers(self) -> dict[str, int]:
        """Its registered task processes: worker id -> process id."""
        with self.run.server.client(decode_responses=True) as client:
            return {name: int(pid) for name in self.process.ids if (pid := client.hget(KEYS.worker(name), "pid"))}

    def task_pids(self) -> list[int]:
        return list(self.workers().values())

    def maintenance_pid(self) -> int:
        """The child that is registered as no worker; waits for it where it is being replaced."""
        return wait_for(
            lambda: next((pid for pid in self.process.children() if pid not in self.task_pids()), 0), 5, "maintenance"
        )
