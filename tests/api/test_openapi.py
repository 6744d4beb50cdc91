"""The document says what the server does: both are made of one table."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.test import Client

from django_taskq.api.routes import ROUTES, Route
from tests.api.test_auth import each_route


@pytest.fixture
def document() -> dict[str, Any]:
    response = Client().get("/taskq/openapi.json")
    assert (response.status_code, response["Content-Type"]) == (200, "application/json")
    found: dict[str, Any] = response.json()
    return found


def test_every_route_is_described_and_nothing_else(document: dict[str, Any]) -> None:
    described = {(method.upper(), path[1:]) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    assert document["openapi"].startswith("3.1.")


@each_route
def test_a_route_is_described_by_its_structs(document: dict[str, Any], route: Route) -> None:
    operation = document["paths"][f"/{route.path}"][route.method.lower()]
    answer = operation["responses"][str(route.status)]["content"]["application/json"]["schema"]
    assert answer == {"$ref": f"#/components/schemas/{route.response.__name__}"}
    for permission in route.permissions:
        assert f"`django_taskq.{permission}`" in operation["description"]
    names = {parameter["name"] for parameter in operation["parameters"] if parameter["in"] == "query"}
    assert names == set(route.query.__struct_fields__ if route.query else ())
    assert {p["name"] for p in operation["parameters"] if p["in"] == "path"} == set(re.findall(r"{(\w+)}", route.path))
    assert ("requestBody" in operation) == (route.body is not None)


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    named = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert named == set(document["components"]["schemas"])


def test_what_is_hidden_or_clamped_is_not_demanded(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    assert not {"args", "kwargs", "result"} & set(schemas["Task"]["required"])
    assert "raw" not in schemas["DeadLetterDetail"]["properties"]
    assert schemas["Submission"]["additionalProperties"] is False
