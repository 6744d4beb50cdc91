"""A task: a function that can be sent to a worker, with the signature it has."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Unpack, cast

from asgiref.sync import iscoroutinefunction
from django.conf import settings as django_settings
from django.core.signals import setting_changed

from django_taskq import options as task_options
from django_taskq import schedules
from django_taskq.batch import BatchCodec, batching_of, call_here
from django_taskq.breaker import Breaker
from django_taskq.conf import get_settings
from django_taskq.context import TaskContext
from django_taskq.core.backoff import Backoff
from django_taskq.core.call_key import CallKey, KeySource
from django_taskq.core.codec import CallCodec
from django_taskq.core.gates import TaskGates
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.exceptions import InvalidArguments, InvalidTask, ResultError
from django_taskq.rates import Rate
from django_taskq.registry import all_tasks
from django_taskq.route import route_for
from django_taskq.sender import P, R, Sender
from django_taskq.typed_options import CallOptions

if TYPE_CHECKING:
    from django_taskq.moments import Moment


class TaskCall(Sender[P, R]):
    """A task with some options changed: what `task.using(...)` returns."""

    def __init__(self, task: Task[P, R], overrides: Mapping[str, Any]) -> None:
        self.task = task
        self._overrides = overrides
        self._route = route_for(task, task.options, overrides)

    def __repr__(self) -> str:
        return f"<TaskCall {self.task.name} {self._overrides}>"

    def using(self, **options: Unpack[CallOptions]) -> TaskCall[P, R]:
        """The same with more options changed."""
        return TaskCall(self.task, self.task.check_overrides({**self._overrides}, options))


class Task(Sender[P, R]):
    """A function that workers run. Calling it runs it here; the options it was declared with are attributes."""

    queue_name: str
    priority: int
    run_after: Moment | None
    expires: Moment | None
    deadline: Moment | None
    inherit_deadline: bool
    max_retries: int
    backoff: Backoff
    retry_on: tuple[type[BaseException], ...]
    discard_on: tuple[type[BaseException], ...]
    row_gone: str  # "discard" or "fail"
    timeout: float | None  # seconds
    hard_timeout: float | None  # seconds
    idempotency_key: str | None
    idempotency_ttl: int  # seconds
    record: str  # "all" or "failures"
    enqueue_timeout: float | None  # seconds; None: that of the queue
    api: bool  # whether the JSON API may send it
    outbox: bool  # whether calls are written into the database and sent from there
    encrypt: bool  # whether arguments, results and errors are sealed
    batch: int | None  # calls
    batch_timeout: float  # seconds
    max_concurrency: int | None
    concurrency_key: KeySource | None
    fair_key: KeySource | None
    on_conflict: str  # "wait", "discard" or "replace"
    rate_limit: Rate | None
    rate_limit_key: KeySource | None
    rate_limit_burst: int | None
    rate_limit_mode: str  # "wait" or "refuse"
    circuit_breaker: Breaker | None  # with a name
    gates: TaskGates | None
    share_key: CallKey | None
    options: task_options.TaskOptions
    interface = "django_taskq"  # whose decorator made it

    def __init__(self, func: Callable[..., Any], *, takes_context: bool = False, **options: Any) -> None:
        """Raises InvalidTask for a function that no worker could find or run, and for options that make no sense."""
        self.module_path = f"{func.__module__}.{func.__qualname__}"
        self.name = task_options.parse_name(self.module_path, options.pop("name", self.module_path))
        where = f"Task {self.name}"
        self.func = func
        self.is_async = iscoroutinefunction(func)
        self.takes_context = takes_context
        self.schedules = schedules.parse(self.name, options.pop("cron", None), options.pop("every", None))
        self._declared = task_options.parse(where, options, allowed=task_options.OPTIONS)
        task_options.refuse_contradictions(where, self._declared)
        self.batching = batching_of(where, self._declared, takes_context=takes_context)
        self.codec = (
            BatchCodec(self.name, func) if self.batching else CallCodec(self.name, func, takes_context=takes_context)
        )
        self.bind = self.codec.bind
        functools.update_wrapper(self, func, updated=())
        if django_settings.configured:
            self._resolve()

    def __repr__(self) -> str:
        return f"<Task {self.name}>"

    def __reduce__(self) -> str:
        """Pickled and copied as functions are: by name."""
        return self.func.__qualname__

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Runs the function here and now, without the queue; a batch task's with one call."""
        if self.batching:
            return cast("R", call_here(self, *args, **kwargs))
        if self.takes_context:
            context = TaskContext(Message(new_id(), self.name), self, self.queue_name, None, 0)
            return cast("R", self.func(context, *args, **kwargs))
        return cast("R", self.func(*args, **kwargs))

    def using(self, **options: Unpack[CallOptions]) -> TaskCall[P, R]:
        """The task with other options for the calls sent through what is returned."""
        return TaskCall(self, self.check_overrides({}, options))

    def check_overrides(self, before: dict[str, Any], options: Mapping[str, Any]) -> dict[str, Any]:
        """`before` with the parsed options of a `using()`; raises InvalidTask or UnknownQueue."""
        where = f"{self.name}.using()"
        overrides = before | task_options.parse(where, options, allowed=task_options.CALL_OPTIONS)
        task_options.refuse_contradictions(where, {**self._declared, **overrides})
        if self.outbox:
            task_options.refuse_unrecorded(where, overrides)
            task_options.require_outbox(where, overrides.get("database"), get_settings())
        if "queue_name" in options:
            task_options.require_queue(where, overrides["queue_name"], get_settings())
        return overrides

    def verify(self) -> None:
        """What a first use would find: raises InvalidTask for options or type hints that cannot be resolved."""
        _ = self.options, self.codec.parameters, self.codec.result
        for schedule in self.schedules:
            try:
                self.codec.encode(schedule.args, schedule.kwargs)
            except InvalidArguments as error:
                raise InvalidTask(f"The arguments of its schedule do not fit: {error}") from error

    def encode_result(self, value: Any) -> bytes | None:
        """The result as JSON, None for None; ResultError if JSON or MAX_PAYLOAD_BYTES cannot hold it."""
        encoded = self.codec.encode_result(value)
        if encoded is not None and len(encoded) > (limit := get_settings().max_payload_bytes):
            raise ResultError(
                f"The result of {self.name} takes {len(encoded):,} bytes; TASKQ['MAX_PAYLOAD_BYTES'] allows {limit:,}."
            )
        return encoded

    def _resolve(self) -> None:
        """Fills in TASK_DEFAULTS and checks the queue. Every option becomes an attribute, for the hot paths."""
        options = task_options.resolve(self.name, self._declared, get_settings())
        self.gates = self._gates(options)
        source = options.fair_key
        self.share_key = None if source is None else CallKey(self.name, "fair_key", source, self.codec.signature)
        self._route = route_for(self, options, {})
        self.__dict__.update({option: getattr(options, option) for option in task_options.OPTIONS})
        self.circuit_breaker = options.circuit_breaker and options.circuit_breaker.named(self.name)
        self.options = options

    def _gates(self, options: task_options.TaskOptions) -> TaskGates | None:
        """None for most tasks: nothing asks before it runs."""
        breaker = options.circuit_breaker
        if options.max_concurrency is None and options.rate_limit is None and breaker is None:
            return None
        limits = {name: getattr(options, name) for name in task_options.LIMITS if name != "circuit_breaker"}
        guard = None if breaker is None else (breaker.named(self.name).name, breaker.cooldown_ms)
        return TaskGates(self.name, self.codec.signature, **limits, breaker=guard)

    def __getattr__(self, attribute: str) -> Any:
        """Resolves the options at first use, in a module that was imported before there were settings."""
        if attribute in _RESOLVED:
            self._resolve()
            return self.__dict__[attribute]
        raise AttributeError(f"{self!r} has no attribute {attribute!r}")

    def forget_settings(self) -> None:
        """Makes the next use read the settings again."""
        for attribute in _RESOLVED:
            self.__dict__.pop(attribute, None)


_RESOLVED = frozenset({*task_options.OPTIONS, "options", "gates", "share_key", "_route"})


class AsyncTask(Task[P, R]):
    """A coroutine function that workers run on their event loop."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:  # type: ignore[override]
        """The coroutine, to be awaited here."""
        return cast("Coroutine[Any, Any, R]", super().__call__(*args, **kwargs))


def _forget_settings(setting: str, **_: object) -> None:
    if setting in ("TASKQ", "USE_TZ"):
        for known in all_tasks():
            known.forget_settings()


setting_changed.connect(_forget_settings, dispatch_uid="django_taskq.task")
