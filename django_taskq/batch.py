"""`@task(batch=...)`: a function that takes many calls of its task at once. Each keeps its own id, retries and end."""

from __future__ import annotations

import datetime as dt
import inspect
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cached_property, reduce
from operator import or_
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeVar, Union, get_args, get_origin, overload

from django_taskq.context import TaskContext
from django_taskq.core.codec import CallCodec
from django_taskq.core.hints import UNHINTED, Converter, resolve
from django_taskq.core.ids import new_id
from django_taskq.core.message import Message
from django_taskq.core.signature import Parameters, resolved
from django_taskq.exceptions import InvalidBatchResult, InvalidTask, TaskqError
from django_taskq.moments import moment_of_ms
from django_taskq.options import BATCH_TIMEOUT

if TYPE_CHECKING:
    from django_taskq.task import AsyncTask, Task

T = TypeVar("T")
R = TypeVar("R")

ITEM = "item"  # the one parameter that callers of a batch task see


class Batching(NamedTuple):
    """When a batch starts: with so many calls, or when its first has waited for so many seconds."""

    size: int
    timeout: float


def batching_of(where: str, declared: Mapping[str, Any], *, takes_context: bool) -> Batching | None:
    """What a task's own options say about batches, None for tasks without; raises InvalidTask."""
    if declared.get("batch") is None:
        return None
    if takes_context:
        raise InvalidTask(f"{where}: with batch=... each call has its own context, call.context; drop takes_context.")
    return Batching(declared["batch"], declared.get("batch_timeout", BATCH_TIMEOUT))


class BatchCall(Generic[T]):
    """One call in a batch: what `delay(item)` was given, and how it ends if the function says so."""

    __slots__ = ("_context", "_end", "item")

    def __init__(self, item: T, context: TaskContext | None = None) -> None:
        """Tests make their own: `record.func([BatchCall(item), ...])`."""
        self.item = item
        self._context = context
        self._end: tuple[Any, BaseException | None] | None = None

    def __repr__(self) -> str:
        return f"<BatchCall {self.item!r}>"

    @property
    def context(self) -> TaskContext:
        """What `current_task()` is to other tasks; TaskqError for a call that a test has made."""
        if self._context is None:
            raise TaskqError("This BatchCall was not made by a worker: it has no context.")
        return self._context

    @property
    def id(self) -> str:
        """The call's id, a UUID string; '' for a call that a test has made."""
        return "" if self._context is None else self._context.id

    @property
    def attempt(self) -> int:
        """1 during the first attempt of this call, whatever the others are at."""
        return 1 if self._context is None else self._context.attempt

    @property
    def deadline(self) -> dt.datetime | None:
        """By when this call must have ended, for `using(deadline=...)` of a task that it needs; None: at any time."""
        return None if self._context is None else moment_of_ms(self._context.message.deadline)

    @property
    def error(self) -> BaseException | None:
        """What `fail()` was given."""
        return None if self._end is None else self._end[1]

    def succeed(self, result: Any = None) -> None:
        """This call has succeeded, whatever becomes of the rest of the batch. The last word counts."""
        self._end = (result, None)

    def fail(self, error: BaseException) -> None:
        """This call has failed as if it had been run alone and had raised this, `Retry` and `Discard` included."""
        if not isinstance(error, BaseException):
            raise TypeError(f"fail() takes an exception, not {error!r:.100}.")
        self._end = (None, error)


class BatchContext(TaskContext):
    """What middleware and `current_task()` see of a batch: its first call, with `calls` for all of them."""

    __slots__ = ("calls",)

    calls: Sequence[BatchCall[Any]]


def ends_of(
    calls: Sequence[BatchCall[Any]], returned: Any, error: BaseException | None
) -> list[tuple[Any, BaseException | None]]:
    """Result and error of each call, after the function `returned`, or raised `error`. Never raises.

    What a call was told by `succeed()` or `fail()` stays. The others end with the error that was raised; or with their
    place in the list that was returned, where an exception is a failure; or, where None was, as succeeded.
    """
    rest: Sequence[tuple[Any, BaseException | None]]
    if error is None and returned is not None:
        error = _misfit(calls, returned)
    if error is not None or returned is None:
        rest = [(None, error)] * len(calls)
    else:
        rest = [(None, each) if isinstance(each, BaseException) else (each, None) for each in returned]
    return [call._end or end for call, end in zip(calls, rest, strict=True)]


def _misfit(calls: Sequence[BatchCall[Any]], returned: Any) -> InvalidBatchResult | None:
    if not isinstance(returned, list | tuple):
        return InvalidBatchResult(
            f"A batch returns None or a list with one result for each call, not {type(returned).__qualname__}."
        )
    if len(returned) != len(calls):
        return InvalidBatchResult(f"A batch of {len(calls)} calls returned {len(returned)} results.")
    return None


def call_here(task: Task[..., Any], item: Any) -> Any:
    """A batch of one, here and now: its result (a coroutine function's coroutine), or the error it ended with."""
    call = BatchCall(item, TaskContext(Message(new_id(), task.name), task, task.queue_name, None, 0))

    def ended(returned: Any) -> Any:
        ((result, error),) = ends_of([call], returned, None)
        if error is not None:
            raise error
        return result

    async def run() -> Any:
        return ended(await task.func([call]))

    return run() if task.is_async else ended(task.func([call]))


class BatchCodec(CallCodec):
    """For calls with one item each, of a function that takes a list of them."""

    def __init__(self, task: str, function: Callable[..., Any]) -> None:
        """Raises InvalidTask for a function that does not take exactly one argument."""
        super().__init__(task, function)
        declared = list(self.signature.parameters.values())
        if not declared or any(each.default is each.empty for each in declared[1:]) or declared[0].kind not in _FIRST:
            raise InvalidTask(
                f"Task {task} has batch=..., so its function takes one argument, a list of calls; it has "
                f"{self.signature}."
            )
        self._calls, self._returned = declared[0], self.signature.return_annotation
        self.signature = _signature(inspect.Signature.empty)

    @cached_property
    def parameters(self) -> Parameters:
        """Raises InvalidTask unless the function's parameter is a list[BatchCall[...]], or has no hint."""
        parameters = Parameters(self.task, self.function, _signature(self._item_hint()))
        if parameters.refers:
            raise InvalidTask(
                f"Task {self.task} has batch=..., so its calls cannot be given rows: each would need a query. Take the "
                "primary key, and read the rows of all calls at once."
            )
        return parameters

    @cached_property
    def result(self) -> Converter:
        """Of one call: `list[str | Exception]` makes it a str."""
        if self._returned is inspect.Signature.empty:
            return UNHINTED
        resolved(self.task, self.function, "return", self._returned)  # raises InvalidTask
        hint = resolve(self.function, "return", self._returned)
        inner = get_args(hint)
        if not isinstance(get_origin(hint), type) or not issubclass(get_origin(hint), Sequence) or not inner:
            return UNHINTED
        kinds = get_args(inner[0]) if get_origin(inner[0]) in (Union, UnionType) else inner[:1]
        kept = tuple(kind for kind in kinds if not (isinstance(kind, type) and issubclass(kind, BaseException)))
        return resolved(self.task, self.function, "return", reduce(or_, kept) if kept else NoneType)

    def _item_hint(self) -> Any:
        annotation = self._calls.annotation
        if annotation is inspect.Signature.empty:
            return annotation
        resolved(self.task, self.function, self._calls.name, annotation)  # raises InvalidTask
        hint = resolve(self.function, self._calls.name, annotation)
        inner = (get_args(hint) or (BatchCall,))[0]
        origin = get_origin(hint) or hint
        if origin is not list or (get_origin(inner) or inner) is not BatchCall:
            raise InvalidTask(
                f"Task {self.task} has batch=..., so its parameter {self._calls.name!r} is a list of calls: hint it "
                f"list[BatchCall[...]], with the type of what one call is given, not {hint!r}."
            )
        return (get_args(inner) or (inspect.Signature.empty,))[0]


_FIRST = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _signature(hint: Any) -> inspect.Signature:
    """What callers see."""
    return inspect.Signature([inspect.Parameter(ITEM, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=hint)])


class BatchDecorator(Protocol):
    """What `@task(batch=...)` applies to a function. Callers send one item each."""

    @overload
    def __call__(
        self, function: Callable[[list[BatchCall[T]]], Coroutine[Any, Any, None]], /
    ) -> AsyncTask[[T], Any]: ...
    @overload
    def __call__(
        self, function: Callable[[list[BatchCall[T]]], Coroutine[Any, Any, Sequence[R | BaseException]]], /
    ) -> AsyncTask[[T], R]: ...
    @overload
    def __call__(self, function: Callable[[list[BatchCall[T]]], None], /) -> Task[[T], Any]: ...
    @overload
    def __call__(self, function: Callable[[list[BatchCall[T]]], Sequence[R | BaseException]], /) -> Task[[T], R]: ...
