"""Which keys are in use, and rows sealed again with the newest one, so that an old key can be taken away."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from django.db import router
from django.db.models import Model, QuerySet

from django_taskq import outbox
from django_taskq.broker import get_broker
from django_taskq.broker.stored import stored_messages
from django_taskq.conf import get_settings
from django_taskq.core.fields import pack_fields, unpack_fields
from django_taskq.core.message import Attempt
from django_taskq.core.sealing import PREFIX, Place, from_json, is_sealed, is_sealed_json, to_json
from django_taskq.exceptions import MalformedMessage, Undecryptable
from django_taskq.keyring import get_keyring
from django_taskq.models import DeadTask, OutboxEntry, TaskResult
from django_taskq.periodic import arguments
from django_taskq.periodic.declarations import is_sealed_declaration, opened_text, sealed_text
from django_taskq.periodic.sync import rows as periodic_rows
from django_taskq.periodic_task import PeriodicTask
from django_taskq.registry import lookup
from django_taskq.sealed import CALL, OF_ATTEMPT, TEXTS

BATCH = 100
_KEY = re.compile(re.escape(PREFIX).encode() + rb"([A-Za-z0-9_.-]{1,32}):")
_COLUMNS = ("args", *TEXTS, "result", "history", "declared")
_SAME: dict[type[Model], tuple[str, ...]] = {TaskResult: ("run",), PeriodicTask: ("args", "kwargs", "declared")}


@dataclass(slots=True)
class Resealed:
    """How many rows were sealed again, and how many could not be opened and stay as they were."""

    done: int = 0
    left: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def keys_in_redis() -> Counter[str]:
    """Key id -> messages and outcomes in Redis that need it. Raises BrokerUnavailable."""
    return _count(set(_KEY.findall(raw)) for raw in stored_messages(get_broker(), get_settings().queues))


def keys_in_database() -> Counter[str]:
    """Key id -> rows that need it."""
    return _count(_keys_of(row) for rows in _tables() for row in _in_order(rows))


def _count(found: Iterator[set[bytes]]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for keys in found:
        counts.update(key.decode() for key in keys)
    return counts


def reseal(progress: Callable[[int], object]) -> Resealed:
    """Seals every row with the first key that is sealed with another. May be repeated, and interrupted."""
    summary, first = Resealed(), get_keyring().first.encode()
    for rows in _tables():
        for row in _in_order(rows):
            if not _keys_of(row) - {first} and not _to_be_sealed(row):
                continue
            try:
                changes = _changes(row)
            except (Undecryptable, MalformedMessage, msgspec.MsgspecError) as error:
                summary.left += 1
                summary.reasons[type(error).__name__] += 1
                continue
            # Unless a later run has taken the row meanwhile, whose worker sealed it; or somebody has edited it.
            same = {name: getattr(row, name) for name in _SAME.get(type(row), ())}
            summary.done += rows.filter(pk=row.pk, **same).update(**changes)
            progress(1)
    return summary


def _tables() -> Iterator[QuerySet[Any]]:
    for model in (TaskResult, DeadTask):
        yield model._base_manager.using(router.db_for_write(model)).filter(args__startswith=f'"{PREFIX}')
    yield periodic_rows()
    for alias in get_settings().outbox_databases if outbox.in_use() else ():
        yield OutboxEntry.objects.using(alias)


def _in_order(rows: QuerySet[Any]) -> Iterator[Any]:
    """By primary key, so that what is added meanwhile does not matter."""
    batch: Sequence[Model] = list(rows.order_by("pk")[:BATCH])
    while batch:
        yield from batch
        batch = list(rows.order_by("pk").filter(pk__gt=batch[-1].pk)[:BATCH])


def _keys_of(row: Any) -> set[bytes]:
    if isinstance(row, OutboxEntry):
        return set(_KEY.findall(bytes(row.call)))
    found = {key for name in _COLUMNS for key in _KEY.findall(str(getattr(row, name, "") or "").encode())}
    return found | set(_KEY.findall(bytes(row.raw))) if isinstance(row, DeadTask) else found


def _to_be_sealed(row: Any) -> bool:
    """A periodic task whose arguments are from before its task had encrypt=True, which no worker sends."""
    if not isinstance(row, PeriodicTask) or is_sealed_json(row.args):
        return False
    task = lookup(row.task)
    return task is not None and task.encrypt


# --- one row ----------------------------------------------------------------------------------------------------------


def _changes(row: Any) -> dict[str, Any]:
    """The columns of a row, sealed with the first key. Raises Undecryptable."""
    if isinstance(row, OutboxEntry):
        submission = outbox.decode(bytes(row.call))
        message = submission.message
        message.args = _Again(message.id, message.task, message.run).json(CALL, message.args)
        return {"call": outbox.encode(submission)}
    if isinstance(row, PeriodicTask):
        return _periodic_changes(row)
    again = _Again((row.task_id if isinstance(row, DeadTask) else row.id).bytes, row.task, row.run)
    changes: dict[str, Any] = {
        "args": again.json(CALL, row.args.encode()).decode(),
        "history": json.dumps([again.attempt(attempt) for attempt in row.attempts_history]),
    }
    for name in TEXTS:
        if hasattr(row, name):
            changes[name] = again.text(name, getattr(row, name))
    if isinstance(row, DeadTask):
        changes["raw"] = again.raw(bytes(row.raw))
    elif row.result is not None:
        changes["result"] = again.json("result", row.result.encode()).decode()
    return changes


def _periodic_changes(row: PeriodicTask) -> dict[str, Any]:
    plain = arguments.opened_row(row)
    args, kwargs = arguments.sealed(row.name, row.task, plain.args, plain.kwargs)
    changes = {"args": args, "kwargs": kwargs}
    if is_sealed_declaration(row):
        changes["declared"] = sealed_text(row.name, opened_text(row))
    return changes


class _Again:
    """Seals the values of one run of one task again; what is not sealed stays as it is."""

    def __init__(self, id: bytes, task: str, run: int) -> None:
        self._id, self._task, self._run = id, task, run

    def text(self, kind: str, text: str) -> str:
        if not is_sealed(text):
            return text
        place, keyring = Place(self._id, self._task, kind, 0 if kind == CALL else self._run), get_keyring()
        return keyring.seal(place, keyring.open(place, text))

    def json(self, kind: str, raw: bytes) -> bytes:
        return to_json(self.text(kind, from_json(raw))) if is_sealed_json(raw) else raw

    def attempt(self, attempt: dict[str, Any]) -> dict[str, Any]:
        texts = {
            name: self.text(f"{name}.{attempt.get('number')}", str(attempt.get(name) or "")) for name in OF_ATTEMPT
        }
        return {**attempt, **texts}

    def raw(self, packed: bytes) -> bytes:
        """The message that a dead letter keeps."""
        fields = unpack_fields(packed)
        named = dict(zip(fields[::2], fields[1::2], strict=False))
        if b"a" in named:
            named[b"a"] = self.json(CALL, named[b"a"])
        if b"h" in named:
            history = [self.attempt(msgspec.structs.asdict(each)) for each in _history.decode(named[b"h"])]
            named[b"h"] = msgspec.json.encode([Attempt(**each) for each in history])
        return pack_fields([part for pair in named.items() for part in pair])


_history = msgspec.json.Decoder(list[Attempt])
