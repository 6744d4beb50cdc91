"""The outcome: how a run ended, on its way from the settling script through the outcome stream to the database."""

from __future__ import annotations

import msgspec

from django_taskq.core.message import Attempt

# Why a worker makes a dead letter of a task (docs/errors.md). Producers have one more reason: `dropped`.
REASONS = (
    "failed", "timeout", "hard_timeout", "invalid_arguments", "unknown_task", "unknown_version", "malformed",
    "deadline", "worker_lost", "refused", "undecryptable", "unsealed",
)  # fmt: skip


class Outcome(msgspec.Struct, array_like=True):
    """Appending a field with a default is compatible in both directions; times are epoch seconds on Redis' clock."""

    id: bytes
    run: int
    status: str  # succeeded, failed, cancelled, expired, discarded
    recorded: bool  # False: nothing is written to the database; the id, the status and the result are all there is
    result: bytes | None = None  # JSON
    result_error: str = ""
    task: str = ""
    queue: str = ""
    priority: int = 0
    args: bytes = b"[]"
    kwargs: bytes = b"{}"
    attempts: int = 0
    losses: int = 0
    enqueued: float | None = None
    first_started: float | None = None
    started: float | None = None
    finished: float | None = None
    worker: str = ""
    worker_ids: list[str] = []
    error_class: str = ""
    error_message: str = ""
    traceback: str = ""
    reason: str = ""  # of a dead letter, or why it was cancelled, discarded or expired
    history: list[Attempt] = []
    idempotency_key: str = ""
    raw: bytes = b""  # dead letters: the message's fields, packed by pack_fields
    wait: float | None = None  # seconds from ready (sent, or due) to the first start; None: it never started
    log: str = ""  # the last lines that the last attempt logged, where TASKQ["CAPTURE_LOGS"] keeps them
    origin: str = ""  # of the message


encode_outcome = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Outcome).decode


def decode_outcome(blob: bytes) -> Outcome:
    """The outcome of a blob; msgspec.MsgspecError when it is not one."""
    return _decode(blob)
