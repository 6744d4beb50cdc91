"""A request's path, query string and body as the types that its route declares, or an ApiError that says why not."""

from __future__ import annotations

import re
import uuid
from functools import cache
from typing import Any

import msgspec
from django.http import HttpRequest
from msgspec import inspect

from django_taskq.api.errors import ApiError, not_found
from django_taskq.api.routes import Route
from django_taskq.conf import get_settings

ROOM = 65_536  # bytes that a body may take beside the arguments
MOST_KEY = 2**63 - 1
LONGEST_NAME = 500  # characters: of a limit, which names a task and a key
_decode = msgspec.json.Decoder().decode
_NUMBER = re.compile(r"-?[0-9]{1,20}")


class NoQuery(msgspec.Struct, forbid_unknown_fields=True):
    """For routes that take none: a parameter that is not known is refused, not passed over."""


def arguments(request: HttpRequest, route: Route, path: dict[str, str]) -> dict[str, Any]:
    """What the route's handler is called with, the actor apart."""
    found = {name: _from_path(path[name], kind) for name, kind in route.parameters.items()}
    query = _from_query(request, route.query or NoQuery)
    if route.query is not None:
        found["query"] = query
    if route.method not in ("GET", "HEAD"):
        body = _from_body(request, route.body)
        if route.body is not None:
            found["body"] = body
    return found


def refuse_multipart(request: HttpRequest) -> None:
    """Before anything (the check of the CSRF token, for one) looks for form fields in the body and uses it up."""
    if request.content_type == "multipart/form-data":
        raise _not_json()


def _from_path(text: str, kind: Any) -> Any:
    if kind is uuid.UUID:
        try:
            return msgspec.convert(text, uuid.UUID)
        except msgspec.ValidationError:
            raise not_found(f"{text!r} is not the id of a task (a UUID).", "unknown_task") from None
    if kind is int:
        if not re.fullmatch(r"[0-9]{1,19}", text) or int(text) > MOST_KEY:
            raise not_found(f"{text!r} is not the id of a dead letter (a number).", "unknown_dead_letter")
        return int(text)
    if len(text) > LONGEST_NAME or not text.isprintable():
        raise not_found("Nothing has such a name.")
    return text


def _from_query(request: HttpRequest, kind: Any) -> Any:
    values: dict[str, Any] = {}
    numbers = _whole_numbers(kind)
    for name, given in request.GET.lists():
        if len(given) > 1:
            raise ApiError(400, "invalid_query", f"The query names {name!r} twice.")
        values[name] = int(given[0]) if name in numbers and _NUMBER.fullmatch(given[0]) else given[0]
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ApiError(400, "invalid_query", f"The query is wrong: {error}") from error


def _from_body(request: HttpRequest, kind: Any) -> Any:
    raw = _read(request)
    if not raw:
        if kind is None:
            return None
        raise ApiError(400, "invalid_body", "This needs a body of JSON.")
    if request.content_type != "application/json":
        raise _not_json()
    try:
        value = _decode(raw)
        if isinstance(value, dict):
            for name in _whole_numbers(kind or NoQuery):
                number = value.get(name)
                if isinstance(number, float) and number.is_integer():  # JSON Schema calls 3.0 an integer
                    value[name] = int(number)
        return msgspec.convert(value, kind or NoQuery)
    except msgspec.ValidationError as error:
        raise ApiError(400, "invalid_body", f"The body is wrong: {error}") from error
    except (ValueError, RecursionError) as error:
        raise ApiError(400, "invalid_json", f"The body is not JSON: {error}") from error


def _read(request: HttpRequest) -> bytes:
    """The body. What says that it is too large is not read; what does not say how long it is goes no further."""
    limit = get_settings().max_payload_bytes + ROOM
    announced = request.META.get("CONTENT_LENGTH") or ""
    if not re.fullmatch(r"[0-9]+", announced) or (len(announced) < 20 and int(announced) <= limit):
        raw = request.body
        if len(raw) <= limit:
            return raw
    raise ApiError(413, "payload_too_large", f"The body is larger than {limit:,} bytes.")


def _not_json() -> ApiError:
    return ApiError(415, "unsupported_media_type", "Send JSON, as Content-Type: application/json.")


@cache
def _whole_numbers(kind: Any) -> frozenset[str]:
    """The fields of a struct that take integers."""
    found = set()
    for field in _fields(kind):
        kinds = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        if any(isinstance(one, inspect.IntType) for one in kinds):
            found.add(field.name)
    return frozenset(found)


def _fields(kind: Any) -> tuple[inspect.Field, ...]:
    info = inspect.type_info(kind)
    return info.fields if isinstance(info, inspect.StructType) else ()
