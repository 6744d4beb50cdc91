"""The state machine of a task. docs/internals.md draws it; the scripts of broker/lua make each transition atomic."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """Where a task is in its life."""

    SCHEDULED = "scheduled"  # waits for its time: run_after, or the next attempt
    BLOCKED = "blocked"  # parked until a limit has room for it, or its task is resumed
    QUEUED = "queued"  # ready, in a lane of its queue
    RUNNING = "running"  # held by a worker
    SUCCEEDED = "succeeded"
    FAILED = "failed"  # has a dead letter
    CANCELLED = "cancelled"
    EXPIRED = "expired"  # not started before its `expires`
    DISCARDED = "discarded"  # the task, or its `discard_on`, said so


ENDED = frozenset({State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED, State.DISCARDED})

# transition -> (states it may leave, state it arrives in); one word for each, the same in the broker and its scripts
TRANSITIONS: dict[str, tuple[frozenset[State], frozenset[State]]] = {
    "enqueue": (frozenset(), frozenset({State.QUEUED, State.SCHEDULED})),
    "withdraw": (frozenset(), frozenset({State.CANCELLED, State.DISCARDED})),
    "promote": (frozenset({State.SCHEDULED}), frozenset({State.QUEUED})),
    "park": (frozenset({State.QUEUED}), frozenset({State.BLOCKED})),
    "unpark": (frozenset({State.BLOCKED}), frozenset({State.QUEUED})),
    "claim": (frozenset({State.QUEUED}), frozenset({State.RUNNING})),
    "complete": (
        frozenset({State.RUNNING}),
        frozenset({State.SUCCEEDED, State.CANCELLED, State.EXPIRED, State.DISCARDED}),
    ),
    "retry": (frozenset({State.RUNNING}), frozenset({State.SCHEDULED})),
    "bury": (frozenset({State.RUNNING}), frozenset({State.FAILED})),
    "release": (frozenset({State.RUNNING}), frozenset({State.QUEUED})),
    "reclaim": (frozenset({State.RUNNING}), frozenset({State.QUEUED})),
    "cancel": (frozenset({State.QUEUED, State.SCHEDULED, State.BLOCKED}), frozenset({State.CANCELLED})),
    "displace": (frozenset({State.QUEUED, State.SCHEDULED, State.BLOCKED}), frozenset({State.FAILED})),
    "requeue": (frozenset({State.FAILED}), frozenset({State.QUEUED})),
}
