"""What the search field of the lists understands: the id of a task, or an argument such as `user_id:42`.

Arguments are JSON in a text column, which no index helps to search. So the newest rows are searched only: the database
passes over those that do not contain the texts, the rest are parsed and compared here.
"""

from __future__ import annotations

import inspect
import json
import re
import uuid
from typing import Any, NamedTuple

from django.db.models import Q, QuerySet

from django_taskq.admin.paging import WINDOW, newest
from django_taskq.redaction import is_secret
from django_taskq.registry import all_tasks

MATCHES = 500  # the newest are shown
LONGEST = 1_000  # characters of a value
_ARGUMENT = re.compile(r"\s*([^\W\d]\w*)\s*[:=]\s*(.*?)\s*", re.DOTALL)
# Of such characters no encoder of JSON makes anything else.
_PLAIN = re.compile(r"[A-Za-z0-9_.@+ -]+")
_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class Argument(NamedTuple):
    """An argument by name, and its value: a text, or the JSON of something else."""

    name: str
    value: str

    @property
    def is_secret(self) -> bool:
        """Whether it is redacted in the records, so that there is nothing to find."""
        return is_secret(self.name)


def as_id(term: str) -> uuid.UUID | None:
    """The id, in whatever spelling; None for something else."""
    try:
        return uuid.UUID(term.strip())
    except ValueError:
        return None


def as_argument(term: str) -> Argument | None:
    """The argument, None for something else."""
    found = _ARGUMENT.fullmatch(term) if len(term) <= LONGEST and "\x00" not in term else None
    return Argument(found[1], _canonical(found[2])) if found is not None else None


def with_argument(rows: QuerySet[Any], wanted: Argument) -> QuerySet[Any]:
    """Those of the newest rows that were called with it, by name or by position; the newest MATCHES of them."""
    positions = _positions(wanted.name)
    by_name = Q(kwargs__contains=json.dumps(wanted.name, ensure_ascii=False))
    by_position = Q(task__in=positions)
    if _PLAIN.fullmatch(wanted.value):
        by_name &= Q(kwargs__contains=wanted.value)
        by_position &= Q(args__contains=wanted.value)
    candidates = newest(rows, WINDOW).filter(by_name | by_position if positions else by_name)
    columns = candidates.defer(None).values_list("pk", "task", "args", "kwargs")
    keys = []
    for key, task, args, kwargs in columns.iterator(chunk_size=1000):
        if _has(wanted, args, kwargs, positions.get(task)):
            keys.append(key)
            if len(keys) == MATCHES:
                break
    return rows.filter(pk__in=keys)


def _has(wanted: Argument, args: str, kwargs: str, position: int | None) -> bool:
    try:
        named = json.loads(kwargs)
        if isinstance(named, dict) and wanted.name in named:
            return _text(named[wanted.name]) == wanted.value
        values = json.loads(args) if position is not None else []
        return isinstance(values, list) and position is not None and _text(values[position]) == wanted.value
    except (ValueError, IndexError, RecursionError):
        return False


def _text(value: Any) -> str:
    """A text as it is, anything else as JSON without spaces."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def _canonical(typed: str) -> str:
    """What was typed: JSON as `_text` would have it, or the text itself."""
    try:
        return _text(json.loads(typed))
    except (ValueError, RecursionError):
        return typed


def _positions(name: str) -> dict[str, int]:
    """Known tasks with a parameter of that name, and where it is among their arguments."""
    found = {}
    for task in all_tasks():
        parameters = [each for each in task.codec.signature.parameters.values() if each.kind in _BY_POSITION]
        for position, parameter in enumerate(parameters):
            if parameter.name == name:
                found[task.name] = position
    return found
