"""What chaos adds to a worker's process: named points between any two steps, where the process may be made to die.

Imported with the tasks (TASKQ_TEST_TASKS), so that production code holds no hooks. Every script call has a point before
and after it, named after the script: `claim.after` lies between the reply and its first task, `complete.before` between
a task's end and its settlement. So have `dispatch`, `run` (a task's body, with its middleware), `commit` (the
recorder's transaction), `follow` (a periodic task's row learns of a tick) and `supervise` (the supervisor's wait for
something to happen).

A point is armed by a file of its name, from outside and at any time (points.py). Taking the file away decides which
process it hits: one file, one fault.
"""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.chaos import ledger

MACHINE = int(os.environ["CHAOS_MACHINE"])
BOOKS = ledger.Books(Path(os.environ["CHAOS_DIRECTORY"]))
PLACES = [str(BOOKS.directory / f"armed-{MACHINE}"), str(BOOKS.directory / "armed-any")]


def reached(*points: str) -> None:
    """Does what the points are armed with, if they are; each once."""
    for place in PLACES:
        for point in points:
            try:
                os.rename(f"{place}/{point}", taken := f"{place}/{point}.{os.getpid()}.{time.monotonic_ns()}")  # noqa: PTH104
            except FileNotFoundError:
                continue
            _act(point, **json.loads(Path(taken).read_text()))


def _act(point: str, action: str, seconds: float) -> None:
    ledger.append(
        BOOKS.faults, point=point, action=action, seconds=seconds, pid=os.getpid(), group=os.getpgrp(), machine=MACHINE
    )
    if action == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif action == "kill machine":
        os.killpg(os.getpgrp(), signal.SIGKILL)
    elif action == "stop":
        subprocess.Popen(["sh", "-c", f"sleep {seconds}; kill -CONT {os.getpid()}"])
        os.kill(os.getpid(), signal.SIGSTOP)
    elif action == "raise":
        raise RuntimeError(f"chaos at {point}")
    # A signal reaches the process, not this thread at once: it must not take another step meanwhile.
    time.sleep(seconds if action == "sleep" else 0.1)


def _around(module: str, path: str, points: Callable[..., Iterable[str]]) -> None:
    """Wraps a function, found by its name, with points before and after it."""
    *owners, name = path.split(".")
    owner = functools.reduce(getattr, owners, importlib.import_module(f"django_taskq.{module}"))
    inner = getattr(owner, name)

    @functools.wraps(inner)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        named = set(points(*args))
        reached(*(f"{point}.before" for point in named))
        result = inner(*args, **kwargs)
        if hasattr(result, "__await__"):
            return _awaited(result, named)
        reached(*(f"{point}.after" for point in named))
        return result

    _put(owner, name, inner, wrapper)


def _put(owner: Any, name: str, inner: Any, wrapper: Any) -> None:
    setattr(owner, name, wrapper)
    for other in list(sys.modules.values()):  # whoever imported it by its name
        if getattr(other, "__name__", "").startswith("django_taskq.") and vars(other).get(name) is inner:
            setattr(other, name, wrapper)


async def _awaited(result: Any, named: set[str]) -> Any:
    value = await result
    reached(*(f"{point}.after" for point in named))
    return value


NOTED = {b"tests.chaos.tasks.newsletter", b"tests.chaos.tasks.charges"}


def _note_claims() -> None:
    """What claims hand over of types whose limits the account looks at, and when: on Redis' clock."""
    connection = importlib.import_module("django_taskq.broker.connection")
    run_script = connection.run_script

    @functools.wraps(run_script)
    def noting(connection: Any, script: Any, *rest: Any) -> Any:
        reply = run_script(connection, script, *rest)
        if script.name == "claim" and reply[0] == 1:
            for _, _, verdict, entries in reply[3]:
                for _, fields in entries if verdict == 0 else ():
                    values = dict(zip(fields[::2], fields[1::2], strict=True))
                    if values.get(b"t") in NOTED:
                        ledger.append(BOOKS.handed, id=str(uuid.UUID(bytes=values[b"i"])), time=reply[1] / 1e6)
        return reply

    _put(connection, "run_script", run_script, noting)


def install() -> None:
    """Puts the points in, a clock that can be stepped, and the constants that a run shortens."""
    _note_claims()
    _around("broker.connection", "run_script", lambda connection, script, *rest: [script.name])
    _around("broker.connection", "run_scripts", lambda connection, calls: [script.name for script, _ in calls])
    _around("worker.distributor", "Distributor.give", lambda *_: ["dispatch"])
    _around("worker.pools", "ThreadPool.call", lambda *_: ["run"])
    _around("worker.loop", "LoopPool.call", lambda *_: ["run"])
    _around("worker.supervisor", "Supervisor._wait", lambda *_: ["supervise"])
    _around("bulk", "Writer._commit", lambda *_: ["commit"])
    _around("periodic.firing", "_follow", lambda *_: ["follow"])
    _bend_clock()
    shortened = json.loads(os.environ.get("CHAOS_CONSTANTS", "{}"))
    if "limit" in shortened:
        reclaimer = importlib.import_module("django_taskq.worker.reclaimer").Reclaimer
        reclaimer.__init__.__defaults__ = (shortened["limit"],)
    if "lease" in shortened:
        importlib.import_module("django_taskq.recorder").LEASE_MS = int(shortened["lease"] * 1000)
    if "window" in shortened:
        _shorten_window(int(shortened["window"] * 1000))


def _bend_clock() -> None:
    """This machine's clock is ahead by the seconds that a file says, from the moment it says so."""
    told, clock = BOOKS.directory / f"clock-{MACHINE}", time.time
    time.time = lambda: clock() + (float(told.read_text() or 0) if told.exists() else 0.0)


def _shorten_window(ms: int) -> None:
    """Below what the settings allow, so that outcomes are trimmed while the run lasts."""
    stream = importlib.import_module("django_taskq.broker.outcomes").OutcomeStream
    trim = stream.trim
    stream.trim = lambda self, owner, _: trim(self, owner, ms)


install()
