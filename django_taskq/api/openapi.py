"""The OpenAPI 3.1 document, made of the routes and of the structs that requests and responses go through."""

from __future__ import annotations

import functools
import uuid
from http import HTTPStatus
from typing import Any

import msgspec
from django.conf import settings

import django_taskq
from django_taskq.api.routes import ROUTES, Route
from django_taskq.api.schemas import Failure

REF = "#/components/schemas/{name}"
EVERY = (400, 401, 403, 500, 502, 503)  # what each route may answer
_PATH_SCHEMAS: dict[Any, dict[str, Any]] = {
    uuid.UUID: {"type": "string", "format": "uuid"},
    int: {"type": "integer", "minimum": 1, "maximum": 2**63 - 1},
    str: {"type": "string", "minLength": 1, "maxLength": 500},
}


def document(prefix: str) -> dict[str, Any]:
    """The description of the API that is mounted at `prefix`."""
    return {**_fixed(settings.SESSION_COOKIE_NAME), "servers": [{"url": prefix.rstrip("/") or "/"}]}


@functools.cache
def _fixed(cookie: str) -> dict[str, Any]:
    kinds = [kind for route in ROUTES for kind in (route.body, route.response) if kind is not None]
    _, components = msgspec.json.schema_components([*kinds, Failure], ref_template=REF)
    paths: dict[str, Any] = {}
    for route in ROUTES:
        paths.setdefault(f"/{route.path}", {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {"title": "django_taskq", "version": django_taskq.__version__, "license": {"name": "BSD-3-Clause"}},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {
                    "type": "apiKey",
                    "in": "cookie",
                    "name": cookie,
                    "description": "Each POST must also send Django's CSRF token, in the header X-CSRFToken.",
                },
            },
        },
        "security": [{"token": []}, {"session": []}],
    }


def _operation(route: Route) -> dict[str, Any]:
    needed = ", ".join(f"`django_taskq.{permission}`" for permission in route.permissions)
    operation: dict[str, Any] = {
        "operationId": route.name,
        "tags": [route.path.partition("/")[0]],
        "description": f"{route.description}\n\nNeeds {needed}.",
        "parameters": [*_in_path(route), *_in_query(route)],
        "responses": _responses(route),
    }
    if route.body is not None:
        operation["requestBody"] = {"required": True, "content": _content(route.body)}
    return operation


def _in_path(route: Route) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[kind]}
        for name, kind in route.parameters.items()
    ]


def _in_query(route: Route) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    _, components = msgspec.json.schema_components([route.query], ref_template=REF)
    schema = components[route.query.__name__]
    return [
        {"name": name, "in": "query", "required": False, "schema": of_field}
        for name, of_field in schema["properties"].items()
    ]


def _responses(route: Route) -> dict[str, Any]:
    success: dict[str, Any] = {"description": HTTPStatus(route.status).phrase, "content": _content(route.response)}
    if route.location:
        success["headers"] = {"Location": {"schema": {"type": "string"}}}
    responses = {str(route.status): success}
    posted = (413, 415) if route.method == "POST" else ()
    for status in sorted({*EVERY, *route.errors, *posted}):
        responses[str(status)] = {"description": HTTPStatus(status).phrase, "content": _content(Failure)}
    return responses


def _content(kind: Any) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": REF.format(name=kind.__name__)}}}
