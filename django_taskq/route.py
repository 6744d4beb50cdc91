"""Where the calls of a task go, and what each of them has from its options: worked out once, not at every call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django_taskq.core.states import State
from django_taskq.moments import Moment

if TYPE_CHECKING:
    from django_taskq.core.call_key import CallKey
    from django_taskq.core.gates import TaskGates
    from django_taskq.options import TaskOptions
    from django_taskq.task import Task

# What the worker takes from the message where the call says otherwise than the task.
_CARRIED = ("max_retries", "timeout", "hard_timeout", "record")

NOW = Moment(0, relative=True)


@dataclass(frozen=True, slots=True)
class Route:
    """All that the calls of a task, or of one `task.using(...)`, have in common."""

    task: Task[..., Any]
    queue: str
    priority: int
    delay: int | None = None  # ms from the moment of sending
    due: int | None = None  # epoch ms
    expires_in: int | None = None  # ms from the moment of sending
    deadline_in: int | None = None  # ms from the moment of sending
    inherits: bool = False  # the deadline of the task that sends it
    more: dict[str, Any] = field(default_factory=dict)  # fields of the message that most do without
    database: str | None = None  # None: `default`, or for the outbox the one with an open transaction
    patience: float | None = None  # seconds to wait for room in a full queue; None: as the queue says
    gates: TaskGates | None = None
    share_key: CallKey | None = None
    first_state: State | None = State.QUEUED  # None: not known without asking, because `due` may be past
    outbox: bool = False


def route_for(task: Task[..., Any], options: TaskOptions, overrides: Mapping[str, Any]) -> Route:
    """The route of a call, from the task's options and what `using()` was given, both checked already."""

    def chosen(option: str) -> Any:
        return overrides.get(option, getattr(options, option))

    start: Moment | None = chosen("run_after")
    end: Moment | None = chosen("expires")
    more: dict[str, Any] = {}
    last: Moment | None = chosen("deadline")
    if end is not None and not end.relative:
        more["expires"] = end.ms
    if last is not None and not last.relative:
        more["deadline"] = last.ms
    if key := chosen("idempotency_key"):
        more |= {"idempotency_key": key, "idempotency_ttl": chosen("idempotency_ttl")}
    if carried := {option: overrides[option] for option in _CARRIED if option in overrides}:
        more["options"] = carried
    if options.outbox:  # the relay relies on records, whatever the worker's settings say
        more["options"] = {**carried, "record": "all"}
    return Route(
        task=task,
        queue=chosen("queue_name"),
        priority=chosen("priority"),
        delay=start.ms if start is not None and start.relative else None,
        due=start.ms if start is not None and not start.relative else None,
        expires_in=end.ms if end is not None and end.relative else None,
        deadline_in=last.ms if last is not None and last.relative else None,
        inherits=chosen("inherit_deadline"),
        more=more,
        database=overrides.get("database"),
        patience=chosen("enqueue_timeout"),
        outbox=options.outbox,
        gates=task.gates,
        share_key=task.share_key,
        first_state=State.QUEUED if start is None or start == NOW else State.SCHEDULED if start.relative else None,
    )
