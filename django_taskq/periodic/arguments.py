"""The arguments of periodic tasks, which are sealed at rest where their task encrypts.

A sealed value belongs to the periodic task of one name and to its task: in the row of another one, or in a message, it
cannot be opened. What code declares is kept with the row, sealed likewise.
"""

from __future__ import annotations

import copy
import json
from hashlib import blake2b
from typing import Any

from django_taskq.conf import get_settings
from django_taskq.core.sealing import Place, from_json, is_sealed_json
from django_taskq.exceptions import InvalidArguments, Undecryptable, Unsealed
from django_taskq.keyring import get_keyring
from django_taskq.opening import placeholder
from django_taskq.periodic_task import PeriodicTask
from django_taskq.redaction import redact_json
from django_taskq.sealed import open_pair, seal_pair
from django_taskq.task import Task

KIND = "periodic"
KEYED = "*"  # what a mark begins with that was made with a key

Arguments = tuple[str, str]  # JSON: an array, an object


def sealed(name: str, task: str, args: str, kwargs: str) -> Arguments:
    """As a row has them, of a task that encrypts. Raises KeyMissing."""
    first, second = seal_pair(_place(name, task), args.encode(), kwargs.encode())
    return first.decode(), second.decode()


def opened(name: str, task: str, args: str, kwargs: str) -> Arguments:
    """The inverse; what is plain stays. Raises KeyMissing, Undecryptable."""
    if not is_sealed_json(args):
        return args, kwargs
    first, second = open_pair(_place(name, task), args, kwargs)
    return first.decode(), second.decode()


def opened_row(row: PeriodicTask) -> PeriodicTask:
    """A copy with plain arguments, not to be saved; the row itself if they are. Raises KeyMissing, Undecryptable."""
    if not is_sealed_json(row.args):
        return row
    plain = copy.copy(row)
    plain.args, plain.kwargs = opened(row.name, row.task, row.args, row.kwargs)
    return plain


def readable(row: PeriodicTask) -> PeriodicTask:
    """The same, or the row as it is where it cannot be opened."""
    try:
        return opened_row(row)
    except Undecryptable:
        return row


def is_refused(row: PeriodicTask, task: Task[..., Any]) -> bool:
    """Whether its arguments are plain and should be sealed: anybody can write them who reaches the database."""
    return task.encrypt and not is_sealed_json(row.args) and not get_settings().encryption_accept_plain


def call_of(row: PeriodicTask, task: Task[..., Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What its task is sent with. Raises KeyMissing, Undecryptable, Unsealed, InvalidArguments."""
    if is_refused(row, task):
        raise Unsealed(
            f"{task.name} has encrypt=True, and the arguments of this periodic task are plain in the database. If they "
            "are from before it had, `manage.py taskq_encryption reseal` seals them; if not, somebody writes to it."
        )
    args, kwargs = opened(row.name, row.task, row.args, row.kwargs)
    try:
        return task.bind(args.encode(), kwargs.encode())
    except InvalidArguments:
        if not task.encrypt:
            raise
        raise InvalidArguments(f"{task.name}: the sealed arguments of this periodic task do not fit it.") from None


def shown(row: PeriodicTask, *, may: bool) -> Arguments:
    """As somebody sees them who `may` see arguments or not: opened, with secrets hidden; or a placeholder says why."""
    try:
        if is_sealed_json(row.args) and not may:
            raise Undecryptable
        args, kwargs = (redact_json(raw.encode()) for raw in opened(row.name, row.task, row.args, row.kwargs))
    except Undecryptable as error:
        text = json.dumps(placeholder(from_json(row.args), error if may else None))
        return text, text
    return args.decode("utf-8", "backslashreplace"), kwargs.decode("utf-8", "backslashreplace")


def marks(name: str, text: str) -> list[str]:
    """Short names of what code declares: one by each key that is here, and one that is made without, the last.

    Whoever has no key learns nothing from a keyed one: he cannot even try which arguments it stands for.
    """
    keyed: list[str] = []
    if get_settings().encryption_keys:
        try:
            keyed = [f"{KEYED}{mark}" for mark in get_keyring().marks(_id(name), text.encode())]
        except Undecryptable:  # a key cannot be read
            pass
    return [*keyed, blake2b(text.encode(), digest_size=8).hexdigest()]


def _place(name: str, task: str) -> Place:
    return Place(_id(name), task, KIND)


def _id(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
