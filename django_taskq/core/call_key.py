"""A key that groups calls of a task, made from their arguments by the producer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from inspect import Parameter, Signature
from string import Formatter
from typing import Any

from django_taskq.exceptions import InvalidArguments, InvalidTask

KeySource = str | Callable[..., object]

LONGEST_KEY = 255  # characters
_FIRST_NAME = re.compile(r"[^.\[]*")


def parse_key(value: Any) -> KeySource | None:
    """The value of an option that takes a key; ValueError."""
    if value is None or callable(value):
        return value  # type: ignore[no-any-return]
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError("must be a format string like 'account:{account_id}', a callable or None")
    return value


class CallKey:
    """A format string over the call's parameters by name, or a callable that gets them as keyword arguments."""

    def __init__(self, task: str, option: str, source: KeySource, signature: Signature) -> None:
        """Raises InvalidTask for a format string that names no parameters, or ones that the function has not."""
        self._where, self._source, self._signature = f"{task}: {option}", source, signature
        self._rest = {each.name: each.kind for each in signature.parameters.values()}
        if isinstance(source, str):
            try:
                names = [_FIRST_NAME.match(name)[0] for _, name, _, _ in Formatter().parse(source) if name is not None]  # type: ignore[index]
            except ValueError as error:
                raise InvalidTask(f"Task {task}: option {option}={source!r} is no format string: {error}.") from error
            for name in names:
                if name not in self._rest:
                    raise InvalidTask(
                        f"Task {task}: option {option}={source!r} names {name!r}, which is no parameter of {signature}."
                    )

    def __call__(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> str:
        """The key of one call; InvalidArguments, which names the task, if there is none to be had."""
        try:
            bound = self._signature.bind(*args, **kwargs)
            bound.apply_defaults()
            named: dict[str, Any] = {}
            for name, value in bound.arguments.items():
                named |= value if self._rest[name] is Parameter.VAR_KEYWORD else {name: value}
            if isinstance(self._source, str):
                key = self._source.format_map(dict(bound.arguments) | named)
            else:
                key = str(self._source(**named))
        except Exception as error:
            raise InvalidArguments(
                f"{self._where} fails for these arguments: {type(error).__name__}: {error}"
            ) from error
        if not 0 < len(key) <= LONGEST_KEY or not key.isprintable():
            raise InvalidArguments(
                f"{self._where} gives {key!r:.80} for these arguments; a key has 1 to {LONGEST_KEY} printable "
                "characters."
            )
        return key
