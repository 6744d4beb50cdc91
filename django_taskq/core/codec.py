"""Between a call and its JSON, by the function's signature and type hints. No pickle, anywhere.

Both directions are hot. What was learnt about the shape of one call (how many arguments, which names) is kept for the
next, so that signature and hints are consulted only for a shape not seen before. Shapes are kept by adding to sets and
dicts, so threads need no lock.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import msgspec

from django_taskq.core.fidelity import non_finite
from django_taskq.core.hints import Converter
from django_taskq.core.references import encode_reference
from django_taskq.core.signature import Parameters, resolved, signature_of
from django_taskq.exceptions import InvalidArguments, ResultError

# So many shapes of calls are remembered; `*args` and `**kwargs` have no end of them.
_REMEMBERED = 256

_ADVICE = "Pass plain JSON values (an id instead of an object), or give the parameter a type hint to convert it by."


def _base_value(value: Any) -> Any:
    """A str, int or float of a subclass (Django's SafeString, numpy's float64) as what it is at heart."""
    for base in (str, int, float):
        if isinstance(value, base):
            return getattr(base, f"__{base.__name__}__")(value)
    raise TypeError(f"objects of type {type(value).__qualname__} are not JSON")


def _reference_or_base_value(value: Any) -> Any:
    reference = encode_reference(value)
    return _base_value(value) if reference is None else reference


_encode = msgspec.json.Encoder(enc_hook=_reference_or_base_value).encode
_encode_result = msgspec.json.Encoder(enc_hook=_base_value).encode
_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class CallCodec:
    """Encodes the calls and results of one function, and decodes them again. Hints are resolved at the first call."""

    refers = False  # known to be otherwise once the hints are resolved, before the first call is bound

    def __init__(self, task: str, function: Callable[..., Any], *, takes_context: bool = False) -> None:
        """`takes_context`: the worker fills in the first parameter. Raises InvalidTask if there is none."""
        self.task = task
        self.function = function
        self.signature = signature_of(task, function, takes_context=takes_context)
        self._shapes: set[tuple[Any, ...]] = set()  # (number of arguments, *names): fits the signature
        self._carried: set[tuple[Any, ...]] = set()  # (*types, *names, *types): and needs no look at the values
        self._array_decoders: dict[int, Callable[[bytes], tuple[Any, ...]]] = {}
        self._decode_args: Callable[[bytes], tuple[Any, ...]] = msgspec.json.Decoder(tuple[()]).decode
        self._decode_named: dict[str, Callable[[Any], Any]] = {}

    @cached_property
    def parameters(self) -> Parameters:
        """Raises InvalidTask when a hint cannot be resolved."""
        parameters = Parameters(self.task, self.function, self.signature)
        self.refers = parameters.refers
        return parameters

    @cached_property
    def result(self) -> Converter:
        """Raises InvalidTask when the return hint cannot be resolved."""
        return resolved(self.task, self.function, "return", self.signature.return_annotation)

    # --- calls, on the producer's side --------------------------------------------------------------------------------

    def encode(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[bytes, bytes]:
        """The call as a JSON array and a JSON object; InvalidArguments unless the worker will get what was given."""
        try:
            encoded = (_encode(args) if args else b"[]", _encode(kwargs) if kwargs else b"{}")
        except Exception as error:
            self._check_shape(len(args), tuple(kwargs))
            raise self._not_json(args, kwargs, error) from error
        types = (*map(type, args), *kwargs, *map(type, kwargs.values()))
        if types not in self._carried:
            self._verify(args, kwargs, encoded, types)
        return encoded

    def _verify(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], encoded: tuple[bytes, bytes], types: tuple[Any, ...]
    ) -> None:
        """Decodes the call as the worker will, and compares; or learns that calls of these types need none of that."""
        self._check_shape(len(args), tuple(kwargs))
        values = (*args, *kwargs.values())
        parameters = self.parameters.of_call(len(args), tuple(kwargs))
        if all(type(value) in converter.accepts for value, (_, converter) in zip(values, parameters, strict=True)):
            _remember(self._carried, types)
            return
        decoded_args, decoded_kwargs = self.bind(*encoded)
        decoded = (*decoded_args, *decoded_kwargs.values())
        for (label, converter), value, arrived in zip(parameters, values, decoded, strict=True):
            if lost := converter.lost(label, value, arrived):
                raise InvalidArguments(f"{self.task}: {lost}. {_ADVICE}")

    def _not_json(self, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception) -> InvalidArguments:
        """Names the argument that the encoder refused."""
        parameters = self.parameters.of_call(len(args), tuple(kwargs))
        for (label, _), value in zip(parameters, (*args, *kwargs.values()), strict=True):
            try:
                _encode(value)
            except Exception as reason:  # noqa: BLE001  (a property of the caller's object may raise anything)
                problem = "nested too deeply, or holds itself" if isinstance(reason, RecursionError) else str(reason)
                return InvalidArguments(f"{self.task}: {label} ({type(value).__name__}): {problem}. {_ADVICE}")
        return InvalidArguments(f"{self.task}: the arguments cannot be encoded as JSON: {error}. {_ADVICE}")

    def lost(self, name: str, value: Any) -> str | None:
        """What the trip through JSON would do to a value of a named parameter, in words; None if nothing."""
        converter = self.parameters.named[name]
        try:
            return converter.lost(name, value, converter.decode(_encode(value)))
        except Exception as error:  # noqa: BLE001  (a value's own conversion may raise anything)
            return f"{name} ({type(value).__name__}) cannot be sent: {error}"

    # --- calls, on the worker's side ----------------------------------------------------------------------------------

    def bind(self, args: bytes, kwargs: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The arguments, each of its parameter's type; InvalidArguments unless they fit signature and hints."""
        try:
            # The guess: as many arguments as last time.
            values = self._decode_args(args)
            named = {}
            if kwargs != b"{}":
                named = {name: self._decode_named[name](raw) for name, raw in _decode_object(kwargs).items()}
            if (len(values), *named) in self._shapes:
                return values, named
        except Exception:  # noqa: BLE001, S110  (whatever it is, the careful way finds it again and explains it)
            pass
        return self._bind_carefully(args, kwargs)

    def _bind_carefully(self, args: bytes, kwargs: bytes) -> tuple[tuple[Any, ...], dict[str, Any]]:
        try:
            raw_values, raw_named = _decode_array(args), _decode_object(kwargs)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise InvalidArguments(f"{self.task}: the arguments are not a JSON array and object: {error}") from error
        count, names = len(raw_values), tuple(raw_named)
        self._check_shape(count, names)
        parameters = self.parameters.of_call(count, names)
        decoded = []
        for (label, converter), raw in zip(parameters, (*raw_values, *raw_named.values()), strict=True):
            try:
                decoded.append(converter.decode(raw))
            except Exception as error:
                problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
                raise InvalidArguments(f"{self.task}: {label}: {problem}") from error
        self._learn(parameters[:count], names)
        return tuple(decoded[:count]), dict(zip(names, decoded[count:], strict=True))

    def _learn(self, by_position: list[tuple[str, Converter]], names: tuple[str, ...]) -> None:
        """Prepares `bind` for more calls of this shape."""
        for name in names:
            if name in self.parameters.named:
                self._decode_named[name] = self.parameters.named[name].decode
        count = len(by_position)
        if count not in self._array_decoders and len(self._array_decoders) < _REMEMBERED:
            hints = tuple(converter.hint for _, converter in by_position)
            self._array_decoders[count] = msgspec.json.Decoder(tuple[hints]).decode  # type: ignore[valid-type]
        self._decode_args = self._array_decoders.get(count, self._decode_args)

    def _check_shape(self, count: int, names: tuple[str, ...]) -> None:
        """InvalidArguments unless `count` arguments and those of these names fit the signature."""
        if (count, *names) in self._shapes:
            return
        try:
            self.signature.bind(*(None,) * count, **dict.fromkeys(names))
        except TypeError as error:
            raise InvalidArguments(f"{self.task}{self.signature}: {error}.") from error
        _remember(self._shapes, (count, *names))

    # --- results ------------------------------------------------------------------------------------------------------

    def encode_result(self, value: Any) -> bytes | None:
        """The result as JSON, None for None; ResultError if JSON cannot hold it."""
        if value is None:
            return None
        try:
            encoded = _encode_result(value)
        except RecursionError as error:
            raise ResultError(f"The result of {self.task} is nested too deeply, or holds itself.") from error
        except Exception as error:
            raise ResultError(f"The result of {self.task} ({type(value).__name__}) is not JSON: {error}") from error
        if b"null" in encoded and (number := non_finite(value)) is not None:
            raise ResultError(f"The result of {self.task} holds {number!r}, which JSON does not have.")
        return encoded

    def decode_result(self, encoded: bytes | str | None) -> Any:
        """The result, converted by the function's return hint; ResultError if it does not fit it."""
        if encoded is None:
            return None
        try:
            return self.result.decode(encoded)
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            raise ResultError(f"The result of {self.task} does not fit its return hint: {error}") from error


def _remember(shapes: set[tuple[Any, ...]], shape: tuple[Any, ...]) -> None:
    if len(shapes) >= _REMEMBERED:
        shapes.clear()
    shapes.add(shape)
