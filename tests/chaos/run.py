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
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import redis
from django.test import override_settings

from django_taskq.broker import Broker
from django_taskq.broker.keys import Keys
from django_taskq.broker.scripts import Script
from django_taskq.conf import read_settings
from django_taskq.models import DeadTask, TaskResult
from tests.chaos import ledger, points
from tests.chaos.audit import Books, Fault, Report, audit
from tests.chaos.load import MIX, Load
from tests.chaos.proxy import Cut, Proxy
from tests.chaos.watch import Watcher
from tests.servers import REAPER, ROOT, RedisServer, WorkerProcess, wait_for

NAMESPACE = "chaos"
KEYS = Keys(NAMESPACE)
LIMIT = 15.0  # seconds without a beat until a worker is dead, unless the plan says otherwise
LAST_STEPS = 0.1  # seconds
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


class Machine:
    """One `manage.py taskq_worker`, its process group, and its way to Redis."""

    def __init__(self, run: Run, number: int) -> None:
        self.run, self.number = run, number
        self.proxy = Proxy("127.0.0.1", run.server.port, seed=run.seed + number)
        self.process = WorkerProcess(
            run.plan.arguments, run.books.directory / f"worker-{number}.log", run.environment(self), run.registered
        )
        self.expected_codes = {0}

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


class Run:
    """`with Run(...) as run: run.start() ... report = run.finish()`."""

    def __init__(self, directory: Path, database: str, plan: Plan, seed: int) -> None:
        self.plan, self.seed, self._database = plan, seed, database
        self.chance = random.Random(seed)
        self.books = ledger.Books(directory)
        self.machines: list[Machine] = []
        self.faults: list[Fault] = []
        self.problems: list[str] = []
        self._cuts: list[Cut] = []
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
        self.watcher = Watcher(self.server, KEYS.outcomes)
        for machine in started:
            machine.process.wait_until_ready(self.processes)
        self.load_thread = self.load.start()

    @property
    def processes(self) -> int:
        arguments = self.plan.arguments
        return int(arguments[arguments.index("--processes") + 1]) if "--processes" in arguments else 1

    def settings(self, proxy: Proxy) -> dict[str, Any]:
        return {
            "BROKER": f"redis://127.0.0.1:{proxy.port}/0", "NAMESPACE": NAMESPACE, "OUTCOME_WINDOW": 600,
            "QUEUES": {"default": {}, "bulk": {}},
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
            "TASKQ_TEST_TASKS": "tests.chaos.tasks,tests.chaos.injected",
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
        self._cuts.append(cut)
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

    # --- the account --------------------------------------------------------------------------------------------------

    def finish(self) -> Report:
        """Waits until nothing is left to do, stops the workers, and compares the books."""
        self.load_thread.join(120)
        if self.load.error is not None:
            raise self.load.error
        points.disarm(self.books)
        for cut in self._cuts:
            cut.hit.set()
        self._note_points()
        limit = self.plan.constants.get("limit", LIMIT)
        try:
            wait_for(self._nothing_left, self.plan.patience + limit, self._what_is_left, interval=0.1)
            wait_for(self._only_the_living, limit + 10, lambda: f"an end of {self._register()}", interval=0.1)
        except AssertionError as error:
            self.problems.append(str(error))
        for machine in self.alive():  # one that is still starting would not hear SIGTERM as a worker does
            machine.process.wait_until_ready()
        self._stop()
        forgets = any(fault.loses for fault in self.faults)
        gone = self.watcher.finish(forgets=forgets)
        if gone and not forgets and "window" not in self.plan.constants:
            self.problems.append(f"{len(gone)} outcomes have vanished from the stream")
        self.problems += self._left_behind()
        report = audit(self._read_books(), self.faults)
        report.seed = self.seed
        report.problems += self.problems
        return report

    def _nothing_left(self) -> bool:
        try:
            with self.server.client(socket_timeout=2) as client:
                locations = client.hvals(KEYS.index)
            return all(location[:1] == b"o" for location in locations) and self.broker.recorder_lag() == 0
        except (redis.RedisError, OSError):
            return False

    def _what_is_left(self) -> str:
        with self.server.client() as client:
            index = client.hgetall(KEYS.index)
            held = [location for location in index.values() if location[:1] != b"o"]
            return f"an end: {len(held)} of {len(index)} tasks are on their way, {held[:5]}; {self._register()}"

    def _register(self) -> dict[Any, float]:
        with self.server.client(decode_responses=True) as client:
            return dict(client.zrange(KEYS.workers, 0, -1, withscores=True))

    def _only_the_living(self) -> bool:
        """Whoever is gone has left the register."""
        alive = [machine.process.pid for machine in self.alive()]
        return all(any(f"-{pid}-" in name for pid in alive) for name in self._register())

    def _stop(self) -> None:
        """All at once, in good order."""
        for machine in self.alive():
            machine.process.signal(signal.SIGTERM)
        for machine in self.machines:
            try:
                code = machine.process.wait(20)
            except AssertionError:
                self.problems.append(f"machine {machine.number} did not stop within 20 s")
                continue
            if code not in machine.expected_codes:
                self.problems.append(f"machine {machine.number} ended with exit code {code}")

    def _left_behind(self) -> list[str]:
        """Trims what is recorded; then only what is documented to stay may be in Redis."""
        with self.server.client(decode_responses=True) as client:
            client.hdel(KEYS.recorder, "owner", "until")
            self.broker.recorder_lease("audit", 60_000)
            while self.broker.trim("audit", 0, 0, 0):
                continue
            permanent = {KEYS.totals, KEYS.recorder}
            left = [key for key in client.scan_iter(count=1000) if key not in permanent]
            left = [key for key in left if client.ttl(key) < 0]
            if KEYS.outcomes in left and not client.xlen(KEYS.outcomes):
                left.remove(KEYS.outcomes)
            return [f"left behind in Redis: {key} ({client.type(key)})" for key in left]

    def _note_points(self) -> None:
        """Faults that processes did to themselves (and tasks to theirs)."""
        limit = self.plan.constants.get("limit", LIMIT)
        for line in points.fired(self.books):
            # Its other threads go on between the line in the book and the signal.
            end, scope = line["at"] + LAST_STEPS, {}
            if line["action"] == "kill":
                scope = {"pids": frozenset({line["pid"]})}
            elif line["action"] == "kill machine":
                scope = {"machines": frozenset({line["machine"]})}
            elif line["action"] == "stop":
                end += line["seconds"]
                if line["seconds"] > limit - 2:
                    scope = {"machines": frozenset({line["machine"]})}
            self.faults.append(Fault(f"{line['action']} at {line['point']}", line["at"], end, **scope))

    def _read_books(self) -> Books:
        rows = TaskResult.objects.values_list("id", "run", "status", "reason", "attempts")
        return Books(
            sent=list(ledger.read(self.books.sent)),
            starts=self.books.starts(),
            ends=self.books.ends(),
            outcomes=list(self.watcher.seen.values()),
            rows=[(str(id), *rest) for id, *rest in rows],
            dead=[(str(id), run) for id, run in DeadTask.objects.values_list("task_id", "run")],
        )
