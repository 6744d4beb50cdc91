"""What tests ask about calls that stayed in this process, and how they have them run."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from django_taskq.broker import get_broker
from django_taskq.core.ids import id_to_str
from django_taskq.core.states import State
from django_taskq.handle import TaskHandle
from django_taskq.moments import parse_moment
from django_taskq.registry import lookup
from django_taskq.sealed import opened_message
from django_taskq.task import Task
from django_taskq.testing.calls import LocalCall
from django_taskq.testing.local import LocalBroker

TOLERANCE = 1_000  # ms between a run_after that is a span and when it was sent
LIMIT = 1_000  # calls

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class EnqueuedTask:
    """One call that was sent. `args` and `kwargs` are what the function is given."""

    def __init__(self, call: LocalCall) -> None:
        self._call = call
        message = call.message
        self.id = id_to_str(message.id)
        self.name = message.task
        self.queue_name = call.submission.queue
        self.priority = message.priority
        self.headers = dict(message.headers)
        self.idempotency_key = message.idempotency_key or None
        self.args, self.kwargs = self._arguments()

    def _arguments(self) -> Arguments:
        task, message = self.task, opened_message(self._call.message)
        return ((), {}) if task is None else task.bind(message.args, message.kwargs)

    @property
    def task(self) -> Task[..., Any] | None:
        """None where it is not registered (any more)."""
        return lookup(self.name)

    @property
    def status(self) -> State:
        """The state it is in now."""
        return self._call.state

    @property
    def handle(self) -> TaskHandle[Any]:
        """As `delay()` returned it."""
        return self._call.handle

    @property
    def run_after(self) -> dt.datetime | None:
        """The earliest start that was asked for; None: at once."""
        due = self._call.first_due
        return None if due is None else dt.datetime.fromtimestamp(due / 1000, dt.UTC)

    def __repr__(self) -> str:
        if self.task is None or self.task.codec.refers:  # a row's own repr() may ask the database
            given = [self._call.message.args.decode(), self._call.message.kwargs.decode()]
        else:
            given = [*map(repr, self.args), *(f"{name}={value!r}" for name, value in self.kwargs.items())]
        about = [f"queue_name={self.queue_name!r}"]
        if self.priority:
            about.append(f"priority={self.priority}")
        if self.run_after is not None:
            about.append(f"run_after={self.run_after.isoformat(timespec='seconds')}")
        return f"{self.name}({', '.join(given)})  {' '.join(about)}  {self.status}"

    def __str__(self) -> str:
        text = repr(self)
        return text if len(text) <= 300 else f"{text[:297]}..."


def enqueued(task: Task[..., Any] | None = None) -> list[EnqueuedTask]:
    """What was sent since the test began, in that order, whether it has been run or not."""
    return [EnqueuedTask(call) for call in _local().calls() if task is None or call.message.task == task.name]


def clear_enqueued() -> None:
    """Forgets what was sent."""
    _local().clear()


def assert_enqueued(
    task: Task[..., Any],
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue_name: str | None = None,
    priority: int | None = None,
    run_after: dt.datetime | dt.timedelta | float | None = None,
    count: int | None = None,
) -> list[EnqueuedTask]:
    """Calls of `task` like that were sent: at least one, or exactly `count`. Returns them.

    What is left out may be anything. `args` and `kwargs` are the whole call, however its arguments were passed. Raises
    AssertionError, which lists what was sent, and InvalidArguments for arguments that the task does not take.
    """
    if count == 0:
        raise ValueError("count=0: use assert_not_enqueued().")
    found, asked = _search(task, args, kwargs, queue_name, priority, run_after)
    if len(found) == count or (found and count is None):
        return found
    how_many = "No call" if not found else f"{len(found)} calls instead of {count}"
    raise AssertionError(f"{how_many} of {task.name}{asked} {'was' if not found else 'were'} enqueued.\n{_listed()}")


def assert_not_enqueued(
    task: Task[..., Any] | None = None,
    *,
    args: Sequence[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    queue_name: str | None = None,
    priority: int | None = None,
    run_after: dt.datetime | dt.timedelta | float | None = None,
) -> None:
    """No call of `task` like that was sent; without `task`, nothing was. Raises AssertionError."""
    found: list[EnqueuedTask]
    if task is None:
        if (args, kwargs, queue_name, priority, run_after) != (None,) * 5:
            raise ValueError("assert_not_enqueued() without a task takes no other arguments.")
        found, asked, name = enqueued(), "", "any task"
    else:
        found, asked = _search(task, args, kwargs, queue_name, priority, run_after)
        name = task.name
    if found:
        raise AssertionError(f"{len(found)} call(s) of {name}{asked} enqueued.\n{_listed()}")


def run_enqueued(
    task: Task[..., Any] | None = None, *, scheduled: bool = True, limit: int = LIMIT
) -> list[TaskHandle[Any]]:
    """Runs what waits, and what that sends, until nothing is left; returns the handles in the order of the runs.

    The highest priority comes first, then what was sent first; calls of a batch task are run together, as many as its
    `batch`. `scheduled=False` leaves out what is not due. What is put off is left `scheduled` for another
    `run_enqueued()`. Raises AssertionError after `limit` calls: tasks that send themselves would never end.
    """
    local = _local()
    handles: list[TaskHandle[Any]] = []
    put_off: set[bytes] = set()
    while batch := _next(local, task, put_off, scheduled=scheduled):
        if len(handles) + len(batch) > limit:
            raise AssertionError(f"run_enqueued() has run {len(handles)} calls, and {batch[0].message.task} waits.")
        local.run(batch)
        put_off.update(call.id for call in batch if call.waits)
        handles += [call.handle for call in batch]
    return handles


def _next(local: LocalBroker, task: Task[..., Any] | None, put_off: set[bytes], *, scheduled: bool) -> list[LocalCall]:
    """What is run next: one call, or those of a batch."""
    waiting = [
        call
        for call in local.calls()
        if call.waits
        and call.id not in put_off
        and (task is None or call.message.task == task.name)
        and (scheduled or call.state is State.QUEUED)
    ]
    waiting.sort(key=lambda call: (-call.message.priority, call.number))
    if not waiting:
        return []
    first = lookup(waiting[0].message.task)
    if first is None or first.batching is None:
        return waiting[:1]
    together = [call for call in waiting if call.message.task == first.name]
    return together[: first.batching.size]


# --- matching ---------------------------------------------------------------------------------------------------------

Test = Callable[[EnqueuedTask], bool]


def _search(
    task: Task[..., Any],
    args: Sequence[Any] | None,
    kwargs: Mapping[str, Any] | None,
    queue_name: str | None,
    priority: int | None,
    run_after: Any,
) -> tuple[list[EnqueuedTask], str]:
    """The calls, and what was asked for, in words."""
    tests = list(_tests(task, args, kwargs, queue_name, priority, run_after))
    asked = ", ".join(words for words, _ in tests)
    found = [each for each in enqueued(task) if all(test(each) for _, test in tests)]
    return found, f" with {asked}" if asked else ""


def _tests(
    task: Task[..., Any], args: Any, kwargs: Any, queue_name: Any, priority: Any, run_after: Any
) -> Iterator[tuple[str, Test]]:
    if args is not None or kwargs is not None:
        wanted = _bound(task, *task.bind(*task.codec.encode(tuple(args or ()), dict(kwargs or {}))))
        words = " and ".join(
            f"{name}={given!r}" for name, given in (("args", args), ("kwargs", kwargs)) if given is not None
        )
        yield words, lambda each: _bound(task, each.args, each.kwargs) == wanted
    if queue_name is not None:
        yield f"queue_name={queue_name!r}", lambda each: each.queue_name == queue_name
    if priority is not None:
        yield f"priority={priority}", lambda each: each.priority == priority
    moment = parse_moment(run_after)
    if moment is not None:
        yield f"run_after={run_after!r}", lambda each: _starts(each._call, moment.ms, relative=moment.relative)


def _starts(call: LocalCall, ms: int, *, relative: bool) -> bool:
    if call.first_due is None:
        return False
    exact = relative and call.submission.delay  # both are spans
    return abs(call.first_due - (call.sent + ms if relative else ms)) <= (0 if exact else TOLERANCE)


def _bound(task: Task[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments by the names of their parameters, with defaults."""
    bound = task.codec.signature.bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _listed() -> str:
    everything = enqueued()
    if not everything:
        return "Nothing was."
    lines = [f"  {number}. {each}" for number, each in enumerate(everything, 1)]
    more = [f"  ... and {len(lines) - 20} more"] if len(lines) > 20 else []
    return "\n".join(["Enqueued were:", *lines[:20], *more])


def _local() -> LocalBroker:
    broker = get_broker()
    if not isinstance(broker, LocalBroker):
        raise ImproperlyConfigured(
            "TASKQ['MODE'] is 'broker': tasks go to Redis, and what was sent is not remembered here. Use the fixture "
            "`taskq`, TaskqTestCase, or override_taskq(MODE='collect')."
        )
    return broker
