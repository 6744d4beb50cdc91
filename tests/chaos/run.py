"""One run: a Redis, machines with workers, a load, one fault in the middle, the end, the account."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import redis
from django.test import override_settings

from django_taskq.broker import Broker
from django_taskq.broker.scripts import Script
from django_taskq.conf import read_settings
from django_taskq.models import DeadTask, TaskResult
from django_taskq.periodic_task import PeriodicTask
from tests.chaos import account, ledger, points
from tests.chaos.evidence import Fault, Report
from tests.chaos.load import MIX, Load
from tests.chaos.machine import KEYS, NAMESPACE, Machine
from tests.chaos.proxy import Cut, Proxy
from tests.chaos.tasks import NARROW
from tests.chaos.watch import Watcher
from tests.chaos.weather import Weather
from tests.servers import REAPER, ROOT, RedisServer, wait_for

LIMIT = 15.0  # seconds without a beat until a worker is dead, unless the plan says otherwise
PRODUCER = -1  # number of the machine where extra producers run


@dataclass(frozen=True)
class Plan:
    """What a run consists of. `constants`: limit, lease, window (seconds), as injected.py shortens them."""

    machines: int = 2
    arguments: tuple[str, ...] = ("--processes", "1", "--threads", "4")
    redis: dict[str, str] = field(default_factory=lambda: {"appendfsync": "everysec"})
    calls: int = 450
    seconds: float = 3.0
    mix: dict[str, float] = field(default_factory=lambda: MIX)
    constants: dict[str, float] = field(default_factory=dict)
    pace: float = 1.0  # of the pauses between faults
    patience: float = 60.0  # seconds it may take to end everything, beyond the limit


class Run:
    """`with Run(...) as run: run.start() ... report = run.finish()`."""

    def __init__(self, directory: Path, database: str, plan: Plan, seed: int) -> None:
        self.plan, self.seed, self._database = plan, seed, database
        self.chance = random.Random(seed)
        self.books = ledger.Books(directory)
        self.machines: list[Machine] = []
        self.faults: list[Fault] = []
        self.problems: list[str] = []
        self.expectations: list[tuple[str, Callable[[], bool]]] = []
        self.cuts: list[Cut] = []
        self._stack = contextlib.ExitStack()

    # --- beginning and end --------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        points.prepare(self.books, self.plan.machines)
        (self.books.directory / "redis").mkdir()
        self.server = RedisServer(self.books.directory / "redis", config=self.plan.redis)
        self._stack.callback(self.server.close)
        self.server.start()
        self.proxy = Proxy("127.0.0.1", self.server.port, seed=self.seed)
        self._stack.callback(self.proxy.close)
        self._stack.enter_context(override_settings(TASKQ=self.settings(self.proxy)))
        self.broker = Broker.from_settings(read_settings({"NAMESPACE": NAMESPACE, "BROKER": self.server.url}))
        TaskResult.objects.all().delete()
        DeadTask.objects.all().delete()
        PeriodicTask.objects.all().delete()
        return self

    def __exit__(self, *_: object) -> None:
        self.load.stopping = True
        for machine in self.machines:
            machine.process.signal_group(signal.SIGCONT)
            machine.process.close(1)
            machine.proxy.close()
        self.broker.connections.close()
        self._stack.close()
        self.books.close()

    def start(self) -> None:
        """Machines, then the load."""
        started = [self.add_machine() for _ in range(self.plan.machines)]
        plan = self.plan
        self.load = Load(self.books, self.seed, plan.calls, plan.seconds, plan.mix)
        self.watcher = Watcher(self.server, KEYS)
        for machine in started:
            machine.process.wait_until_ready(self.processes)
        self.load_thread = self.load.start()
        self.weather = Weather(self.broker, self.load)

    @property
    def limit(self) -> float:
        """Seconds without a beat until a worker is dead."""
        return self.plan.constants.get("limit", LIMIT)

    @property
    def processes(self) -> int:
        arguments = self.plan.arguments
        return int(arguments[arguments.index("--processes") + 1]) if "--processes" in arguments else 1

    def settings(self, proxy: Proxy) -> dict[str, Any]:
        return {
            "BROKER": f"redis://127.0.0.1:{proxy.port}/0", "NAMESPACE": NAMESPACE, "OUTCOME_WINDOW": 600,
            "QUEUES": {"default": {}, "bulk": {}, "narrow": NARROW},
        }  # fmt: skip

    def environment(self, machine: Machine | None) -> dict[str, str]:
        """For a child: this run's broker, database and books."""
        proxy, number = (machine.proxy, machine.number) if machine else (self.proxy, PRODUCER)
        (self.books.directory / f"armed-{number}").mkdir(exist_ok=True)
        return {
            "DJANGO_SETTINGS_MODULE": "tests.settings",
            "DATABASE_URL": self._database,
            "DATA_DIR": str(self.books.directory / "data"),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TASKQ_TEST_SETTINGS": json.dumps(self.settings(proxy)),
            "TASKQ_TEST_TASKS": "tests.chaos.tasks,tests.chaos.ticking,tests.chaos.injected",
            "CHAOS_DIRECTORY": str(self.books.directory),
            "CHAOS_MACHINE": str(number),
            "CHAOS_CONSTANTS": json.dumps(self.plan.constants),
        }

    def registered(self) -> list[str]:
        try:
            with self.server.client(decode_responses=True, socket_timeout=2) as client:
                return [name for name, beats in client.zrange(KEYS.workers, 0, -1, withscores=True) if beats >= 0]
        except (redis.RedisError, OSError):
            return []

    # --- while it lasts -----------------------------------------------------------------------------------------------

    def add_machine(self) -> Machine:
        machine = Machine(self, len(self.machines))
        self.machines.append(machine)
        return machine

    def alive(self) -> list[Machine]:
        return [machine for machine in self.machines if machine.process.alive]

    def some_machine(self) -> Machine:
        return self.chance.choice(self.alive())

    def pause(self, least: float, most: float | None = None) -> None:
        """Exactly so many seconds, or some at random, between faults."""
        time.sleep(least if most is None else self.plan.pace * self.chance.uniform(least, most))

    def arm(self, point: str, action: str = "kill", seconds: float = 0.0, machine: Machine | None = None) -> Path:
        return points.arm(self.books, point, action, seconds=seconds, machine=machine.number if machine else None)

    def cut(self, script: str, *, deliver: bool) -> Cut:
        """Cuts the connection on which somebody next calls a script, before or after the call has arrived."""
        cut = Cut(Script(script).sha.encode(), deliver)
        self.cuts.append(cut)
        for proxy in self.proxies():
            proxy.cut(cut)
        return cut

    def proxies(self) -> list[Proxy]:
        """Every way to Redis: the producer's and the machines'."""
        return [self.proxy, *(machine.proxy for machine in self.machines)]

    def wait_fired(self, *armed: Path, timeout: float = 20) -> None:
        wait_for(lambda: not any(path.exists() for path in armed), timeout, f"somebody at {armed}")

    @contextlib.contextmanager
    def fault(self, name: str, **scope: Any) -> Iterator[Fault]:
        """Notes that a fault lasts as long as the block."""
        scope = {key: frozenset(value) if key in {"pids", "machines"} else value for key, value in scope.items()}
        fault = Fault(name, time.monotonic(), float("inf"), **scope)
        self.faults.append(fault)
        yield fault
        fault.end = time.monotonic()

    def producer(self, *arguments: str) -> subprocess.Popen[bytes]:
        """A producer in a process of its own (load.py)."""
        with (self.books.directory / "producer.log").open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tests.chaos.load", str(self.books.directory), *arguments],
                env={**os.environ, **self.environment(None)}, cwd=ROOT, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        REAPER.watch(process.pid)
        return process

    def heard(self, *codes: str) -> None:
        """A problem unless Redis has answered somebody with each of these errors since it was started."""
        with self.server.client() as client:
            told = {name.removeprefix("errorstat_") for name in client.info("errorstats")}
            if client.info("server")["redis_version"].startswith("6."):  # there, all errors of a script are ERR
                told |= {*codes} if "ERR" in told else set()
        self.problems += [f"nobody heard {code}, only {sorted(told)}" for code in codes if code not in told]

    def expect(self, problem: str, holds: Callable[[], bool]) -> None:
        """A problem unless it holds when all is over: a fault that nobody noticed proves nothing."""
        self.expectations.append((problem, holds))

    def finish(self) -> Report:
        """Waits until nothing is left to do, stops the workers, and compares the books (account.py)."""
        return account.finish(self)
