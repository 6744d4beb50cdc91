"""Tasks of these tests, imported by their workers too: each shows one thing a task may do."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import threading
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from django_taskq import Discard, Retry, current_task, task
from django_taskq.context import TaskContext
from django_taskq.exceptions import TaskCancelled, TaskTimeout

SOON = 0.05  # seconds


def write(path: str, **values: Any) -> None:
    """Appends a line to a ledger, which a test reads with `ledger.read`."""
    line = json.dumps({"at": time.time(), "pid": os.getpid(), **values}) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


# --- what a task can know and return ----------------------------------------------------------------------------------


@task
def double(value: Decimal, when: datetime) -> tuple[Decimal, datetime]:
    return value * 2, when


@task
async def double_async(value: Decimal) -> Decimal:
    await asyncio.sleep(0)
    return value * 2


@task(takes_context=True)
def context_of(context: TaskContext, extra: str) -> dict[str, Any]:
    return {"id": context.id, "same": context is current_task(), "extra": extra}


@task(takes_context=True)
async def async_context_of(context: TaskContext) -> dict[str, Any]:
    await asyncio.sleep(0)
    return {"id": context.id, "same": context is current_task()}


def _about(context: TaskContext) -> dict[str, Any]:
    names = ("id", "name", "attempt", "run", "queue", "remaining", "retries_left", "headers", "losses")
    return {name: getattr(context, name) for name in names}


@task(max_retries=2, timeout=60, backoff=SOON)
def about_me(fail_until: int = 1) -> dict[str, Any]:
    context = current_task()
    if context.attempt < fail_until:
        raise ValueError("not yet")
    return _about(context)


@task
async def about_me_async() -> dict[str, Any]:
    await asyncio.sleep(0)
    return _about(current_task())


@task
def reports(path: str, gate: str, *progress: Any) -> None:
    """Says how far it is, and waits for the gate."""
    current_task().progress(*progress)
    write(path, event="start")
    while not Path(gate).exists():
        time.sleep(0.02)


@task
async def reports_async(path: str, gate: str, *progress: Any) -> None:
    current_task().progress(*progress)
    write(path, event="start")
    while not Path(gate).exists():  # noqa: ASYNC110, ASYNC240
        await asyncio.sleep(0.02)


@task
def unstorable(path: str) -> object:
    write(path)
    return threading.Lock()


@task
def large(size: int) -> str:
    return "x" * size


# --- ways to fail -----------------------------------------------------------------------------------------------------


class Unlucky(Exception):
    pass


class Hopeless(Exception):
    pass


@task(max_retries=3, backoff=[0.1, 0.3, 0.2])
def fails(path: str, times: int) -> int:
    """Fails so many times, then returns the number of its attempt."""
    attempt = current_task().attempt
    write(path, attempt=attempt)
    if attempt <= times:
        raise Unlucky(f"attempt {attempt}")
    return attempt


@task(max_retries=1)
def asks_again(path: str, delay: float) -> None:
    write(path)
    raise Retry(delay=delay, message="later, please")


@task
def discards(reason: str) -> None:
    raise Discard(reason)


@task(discard_on=Hopeless, retry_on=Unlucky, backoff=SOON, max_retries=1)
def picky(path: str, kind: str) -> None:
    write(path)
    raise {"hopeless": Hopeless, "unlucky": Unlucky, "other": KeyError}[kind](kind)


def _refuses(error: BaseException) -> Any:
    def refuse(*_: Any) -> Any:
        raise error

    return refuse


def hostile(kind: str) -> BaseException:
    """Made when it is needed: whoever looks at such an exception may die of it, a test runner too."""
    no_str, no_repr = _refuses(RuntimeError("no str for you")), _refuses(SystemExit("not even this"))
    values: dict[str, Any] = {
        "no str": {"__str__": no_str},
        "no repr": {"__str__": no_repr, "__repr__": no_repr},
        "str is no text": {"__str__": lambda _: 7},
        "strange notes": {"__notes__": property(no_repr)},
        "strange class": {"__class__": property(no_repr)},
        "no name": {},
    }[kind]
    meta: Any = type("Nameless", (type,), {"__getattribute__": no_repr}) if kind == "no name" else type
    error: BaseException = meta("Hostile", (Exception,), {"__module__": __name__, **values})("hostile")
    return error


def _in_a_circle() -> ValueError:
    first, second = ValueError("round"), KeyError("and round")
    first.__cause__, second.__cause__ = second, first
    return first


HOSTILE = ("no str", "no repr", "str is no text", "strange notes", "strange class", "no name")


def _recurse(depth: int) -> int:
    return _recurse(depth + 1) + 1


def _raise(kind: str) -> None:
    if kind == "recursion":
        _recurse(0)
    if kind in HOSTILE:
        raise hostile(kind)
    raise {
        "circle": _in_a_circle,
        "huge": lambda: ValueError("x" * 10_000_000),
        "exit": lambda: SystemExit(3),
        "interrupt": KeyboardInterrupt,
        "generator": GeneratorExit,
        "memory": MemoryError,
        "surrogates": lambda: type("Odd", (Exception,), {"__module__": "m\ud800"})("bad \ud800 text"),
        "nul": lambda: ValueError("a\0b"),
        "timeout": TaskTimeout,
        "cancelled error": asyncio.CancelledError,
        "group": lambda: BaseExceptionGroup("both", [ValueError("a"), KeyboardInterrupt()]),
        "stop": StopIteration,
        "unpicklable": lambda: type("Local", (Exception,), {"__reduce__": None})("local"),
        "discard": lambda: Discard("odd \ud800 reason " + "x" * 100_000),
        "discard int": lambda: Discard(7),  # type: ignore[arg-type]
    }[kind]()  # noqa: RSE102


@task(max_retries=0)
def raises(kind: str) -> None:
    _raise(kind)


@task(max_retries=1, backoff=SOON)
def raises_twice(kind: str) -> None:
    _raise(kind)


@task(max_retries=0)
def returns(kind: str) -> Any:
    """What cannot be a result, or hardly."""
    nested: list[Any] = []
    for _ in range(10_000):
        nested = [nested]
    no_repr = _refuses(SystemExit("not even this"))
    return {
        "nested": nested,
        "surrogate": "bad \ud800 text",
        "nul": "a\0b",
        "nan": float("nan"),
        "infinity": {"a": float("inf")},
        "huge integer": 10**5_000,
        "bytes": b"\xff\xfe",
        "object": type("Hostile", (), {"__repr__": no_repr, "__str__": no_repr, "__class__": property(no_repr)})(),
        "hostile dict": type("Bad", (dict,), {"items": no_repr, "__iter__": no_repr, "__len__": no_repr})(a=1),
        "keys": {(1, 2): 3},
        "generator": (number for number in range(3)),
        "exception": ValueError("returned, not raised"),
        "large": "x" * 3_000_000,
    }[kind]


@task(max_retries=0)
async def raises_async(kind: str) -> None:
    _raise(kind)


@task(max_retries=0)
async def raises_in_a_subtask(kind: str) -> None:
    async def inner() -> None:
        _raise(kind)

    await asyncio.create_task(inner())


# --- ways to take long ------------------------------------------------------------------------------------------------


@task(max_retries=0)
def works(path: str, seconds: float, name: str = "") -> str:
    """Python code that can be interrupted; writes how it starts and ends."""
    write(path, name=name, event="start", id=current_task().id, attempt=current_task().attempt)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            time.sleep(0.005)
    except BaseException as error:
        write(path, name=name, event=type(error).__name__, id=current_task().id)
        raise
    write(path, name=name, event="end", id=current_task().id)
    return name


@task(max_retries=0)
async def works_async(path: str, seconds: float, name: str = "") -> str:
    write(path, name=name, event="start", id=current_task().id)
    try:
        await asyncio.sleep(seconds)
    except BaseException as error:
        write(path, name=name, event=type(error).__name__, id=current_task().id)
        raise
    write(path, name=name, event="end", id=current_task().id)
    return name


@task(max_retries=0)
def loops() -> None:
    while True:
        pass


@task(max_retries=0)
def blocks(path: str, seconds: float, name: str = "") -> None:
    """In C, where no exception reaches it."""
    write(path, name=name, event="start", id=current_task().id)
    time.sleep(seconds)
    write(path, name=name, event="end", id=current_task().id)


@task(max_retries=0)
def stubborn(path: str, seconds: float) -> None:
    """Ignores its time limit."""
    end = time.monotonic() + seconds
    write(path, event="start", id=current_task().id)
    while time.monotonic() < end:
        try:
            time.sleep(0.01)
        except (TaskTimeout, TaskCancelled):
            write(path, event="ignored", id=current_task().id)
    write(path, event="end", id=current_task().id)


@task(max_retries=0)
async def stubborn_async(path: str, seconds: float) -> None:
    end = time.monotonic() + seconds
    write(path, event="start", id=current_task().id)
    while time.monotonic() < end:
        try:
            await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            write(path, event="ignored", id=current_task().id)
    write(path, event="end", id=current_task().id)


@task(max_retries=0)
async def blocks_the_loop(path: str, seconds: float) -> None:
    write(path, event="start", id=current_task().id)
    time.sleep(seconds)  # noqa: ASYNC251 - that is what it shows


@task(max_retries=0)
def hogs_the_gil(path: str, seconds: float) -> None:
    """One call of C that does not let go of the GIL."""
    write(path, event="start", id=current_task().id)
    ctypes.PyDLL(None).usleep(int(seconds * 1_000_000))
    write(path, event="end", id=current_task().id)


# --- ways to take others along ----------------------------------------------------------------------------------------


@task(max_retries=0)
def dies(path: str, how: str) -> None:
    context = current_task()
    write(path, event="start", id=context.id, losses=context.losses, attempt=context.attempt)
    if how == "each":
        how = ("exit", "segfault", "kill")[context.losses]
    if how == "exit":
        os._exit(0)
    elif how == "segfault":
        ctypes.string_at(0)
    else:
        os.kill(os.getpid(), signal.SIGKILL)


@task(max_retries=0)
def dies_once(path: str) -> int:
    """Kills its process at the first try and says at the next how many workers it has cost."""
    context = current_task()
    write(path, event="start", id=context.id, losses=context.losses, attempt=context.attempt)
    if not context.losses:
        os.kill(os.getpid(), signal.SIGKILL)
    return context.losses


@task(max_retries=0)
def leaves_a_thread(seconds: float) -> None:
    threading.Thread(target=time.sleep, args=(seconds,)).start()


@task
def time_left() -> float | None:
    return current_task().remaining


@task
def asks_a_child() -> tuple[float | None, str]:
    return current_task().remaining, time_left.using(inherit_deadline=True).delay().id


@task
def spawns(path: str, depth: int, width: int) -> None:
    """Sends more of itself."""
    write(path)
    if depth:
        spawns.delay_many([((path, depth - 1, width), {})] * width)


_hoard: list[bytes] = []


@task
def hoards(megabytes: int) -> int:
    _hoard.append(b"x" * (megabytes * 1_000_000))
    return os.getpid()


@task
def my_pid() -> int:
    return os.getpid()


@task
def appends(path: str, text: str) -> None:
    with Path(path).open("a") as file:
        file.write(text + "\n")


@task(max_retries=3, backoff=SOON)
def fails_when_cancelled(path: str) -> None:
    write(path, event="start")
    try:
        while True:
            time.sleep(0.005)
    except TaskCancelled:
        raise ValueError("one error leads to another") from None


@task(max_retries=0)
def spins(rounds: int) -> int:
    """Short, and nothing but Python: can be interrupted anywhere."""
    total = 0
    for number in range(rounds):
        total += number
    return total


@task(max_retries=0)
async def waits_for_a_thread(path: str, seconds: float) -> None:
    """A coroutine that waits for a thread that nobody can interrupt."""
    write(path, event="start")
    await asyncio.to_thread(time.sleep, seconds)


@task(max_retries=0)
def holds(path: str, gate: str, name: str = "") -> str:
    """Runs until the test opens the gate."""
    write(path, name=name, event="start", id=current_task().id)
    while not Path(gate).exists():
        time.sleep(0.005)
    write(path, name=name, event="end", id=current_task().id)
    return name


@task(max_retries=0)
async def holds_async(path: str, gate: str, name: str = "") -> str:
    write(path, name=name, event="start", id=current_task().id)
    while not os.path.exists(gate):  # noqa: ASYNC110, ASYNC240, PTH110 - a glance at a file does not block
        await asyncio.sleep(0.005)
    write(path, name=name, event="end", id=current_task().id)
    return name


@task(fair_key="tenant:{tenant}")
def of_tenant(path: str, tenant: str, number: int) -> None:
    time.sleep(0.005)
    write(path, tenant=tenant, number=number)


ran: list[int] = []  # numbers, for tests whose worker is in their own process
at_once: list[int] = []  # how many coroutines ran beside each


@task(max_retries=0)
def notes_number(number: int, seconds: float = 0) -> None:
    ran.append(number)
    if seconds:
        time.sleep(seconds)


_now = 0


@task(max_retries=0)
async def notes_number_async(number: int, seconds: float = 0) -> None:
    global _now
    _now += 1
    at_once.append(_now)
    ran.append(number)
    await asyncio.sleep(seconds)
    _now -= 1


@task(max_retries=0)
async def stops_the_loop() -> None:
    asyncio.get_running_loop().stop()


@task(max_retries=0)
def shows_environment(*names: str) -> list[str]:
    """Which of these variables a program that a task starts would see."""
    return [name for name in names if name in os.environ]


@task
def asks_for_a_retry() -> None:
    raise Retry(delay=60)
