"""The parameters of a task's function, with the converter that each one's type hint asks for."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from inspect import Parameter
from typing import Any

from django_taskq.core.hints import UNHINTED, Converter, converter_for, resolve
from django_taskq.exceptions import InvalidTask

_BY_POSITION = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_BY_NAME = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def signature_of(task: str, function: Callable[..., Any], *, takes_context: bool) -> inspect.Signature:
    """The signature that callers see, with hints unresolved; InvalidTask if no parameter can take the context."""
    if sys.version_info >= (3, 14):
        from annotationlib import Format

        signature = inspect.signature(function, annotation_format=Format.FORWARDREF)
    else:
        signature = inspect.signature(function)
    if not takes_context:
        return signature
    parameters = list(signature.parameters.values())
    if not parameters or parameters[0].kind not in _BY_POSITION:
        raise InvalidTask(f"Task {task} has takes_context=True, but {signature} has no first parameter to take it.")
    return signature.replace(parameters=parameters[1:])


class Parameters:
    """The parameters of one signature, their hints resolved."""

    def __init__(self, task: str, function: Callable[..., Any], signature: inspect.Signature) -> None:
        """Raises InvalidTask, which names the parameter whose hint cannot be resolved."""
        self.positional: list[tuple[str, Converter]] = []
        self.rest: tuple[str, Converter] | None = None  # *args
        self.named: dict[str, Converter] = {}
        self.other: Converter | None = None  # **kwargs
        self.refers = False  # some of them travel by reference
        for parameter in signature.parameters.values():
            converter = resolved(task, function, parameter.name, parameter.annotation)
            if parameter.kind in _BY_POSITION:
                self.positional.append((parameter.name, converter))
            if parameter.kind in _BY_NAME:
                self.named[parameter.name] = converter
            if parameter.kind is Parameter.VAR_POSITIONAL:
                self.rest = (parameter.name, converter)
            if parameter.kind is Parameter.VAR_KEYWORD:
                self.other = converter
            self.refers = self.refers or converter.refers

    def of_call(self, count: int, names: tuple[str, ...]) -> list[tuple[str, Converter]]:
        """Label and converter of each argument of a call that fits the signature: `count` by position, then `names`."""
        found = self.positional[:count]
        if self.rest is not None:
            label, converter = self.rest
            found += [(f"{label}[{i}]", converter) for i in range(count - len(found))]
        return found + [(name, self.named.get(name) or self.other or UNHINTED) for name in names]


def resolved(task: str, function: Callable[..., Any], name: str, annotation: Any) -> Converter:
    """The converter for one annotation of the function (`return` is the result's); InvalidTask if it means nothing."""
    if annotation is inspect.Signature.empty:
        return UNHINTED
    try:
        return converter_for(resolve(function, name, annotation), refers=name != "return")
    except Exception as error:
        what = "return value" if name == "return" else f"parameter {name!r}"
        raise InvalidTask(
            f"Task {task}: the type hint of its {what} cannot be resolved: {error}. Import what it names at run time "
            "too (not only under TYPE_CHECKING), or drop the hint."
        ) from error
