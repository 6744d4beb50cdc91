"""Arguments and results as `django.tasks` has them: plain JSON values, whatever the function's type hints say.

Its own normalisation makes lists of sequences and text of bytes, and is otherwise looser than JSON: it lets NaN, keys
that are no strings and lone surrogates through. Those would arrive as something else, so they are refused here.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from django_taskq.core.codec import CallCodec
from django_taskq.exceptions import InvalidArguments, ResultError

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
_encode = msgspec.json.Encoder().encode
_decode_args = msgspec.json.Decoder(list[Any]).decode
_decode_kwargs = msgspec.json.Decoder(dict[str, Any]).decode


def plain(value: Any) -> Any:
    """The value in JSON's own types; TypeError or ValueError for what JSON cannot hold unchanged."""
    try:
        return _plain(value)
    except RecursionError:
        raise ValueError("Unsupported value: it is nested too deeply, or holds itself") from None


def _plain(value: Any) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError("Unsupported value: bytes that are not UTF-8") from None
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int):
        return int.__int__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"Unsupported value: {value!r}, which JSON does not have")
        return float.__float__(value)
    if isinstance(value, Mapping):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytearray | memoryview):
        return [_plain(item) for item in value]
    raise TypeError(f"Unsupported type: {type(value)}")


def _key(key: Any) -> str:
    if isinstance(key, bytes):
        return str(_plain(key))
    if not isinstance(key, str):
        raise TypeError(f"Unsupported type: {type(key)} as a key ({key!r:.50}); JSON's keys are strings")
    return _text(key)


def _text(value: str) -> str:
    text = str.__str__(value)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"Unsupported value: {text!r:.50} holds half of a surrogate pair") from None
    return text


class PlainCodec(CallCodec):
    """CallCodec without conversions. Hints are never resolved: they may name what only a type checker imports."""

    def __init__(self, task: str, function: Callable[..., Any], *, takes_context: bool = False) -> None:
        """As CallCodec. The signature is that of the outermost callable: a decorator may fill in parameters."""
        super().__init__(task, function, takes_context=takes_context)
        seen = inspect.signature(function, follow_wrapped=False)
        parameters = list(seen.parameters.values())
        if takes_context and parameters and parameters[0].kind in _BY_POSITION:
            parameters = parameters[1:]
        self.signature = seen.replace(parameters=parameters)

    def verify(self) -> None:
        """Nothing to resolve."""

    def encode(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> tuple[bytes, bytes]:
        """The call as a JSON array and object; TypeError or ValueError, as `django.tasks` raises them."""
        self._check_call(args, kwargs)
        encoded = []
        for what in (list(args), dict(kwargs)):
            try:
                encoded.append(_encode(plain(what)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"{self.task}: {error}") from None
        return encoded[0], encoded[1]

    def bind(self, args: bytes, kwargs: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call as it was sent; InvalidArguments for what is not JSON or does not fit the function."""
        try:
            values, named = tuple(_decode_args(args)), _decode_kwargs(kwargs)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise InvalidArguments(f"{self.task}: the arguments are not a JSON array and object: {error}") from error
        try:
            self._check_call(values, named)
        except TypeError as error:
            raise InvalidArguments(str(error)) from error
        return values, named

    def _check_call(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        try:
            self.signature.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.task}{self.signature}: {error}.") from None

    def encode_result(self, value: Any) -> bytes | None:
        """The result as JSON, None for None; TypeError or ValueError if JSON cannot hold it."""
        return None if value is None else _encode(plain(value))

    def decode_result(self, encoded: bytes | str | None) -> Any:
        """The result as JSON has it; ResultError if it is none."""
        try:
            return None if encoded is None else msgspec.json.decode(encoded)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ResultError(f"The result of {self.task} cannot be read: {error}") from error
