"""Schemathesis, which reads openapi.json and looks for answers that it does not describe."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import load_all_checks

from django_taskq.api import tokens
from django_taskq.broker import Broker
from testproject.wsgi import application
from tests.api.conftest import EVERYTHING, record, user_with
from tests.records.outcomes import failed

# The WSGI handler closes its connections after each request.
pytestmark = pytest.mark.django_db(transaction=True)


def test_it_finds_nothing(broker: Broker) -> None:
    record(*[failed() for _ in range(5)])
    token = tokens.create(user_with(*EVERYTHING), "fuzz")[1]
    headers = {"Authorization": f"Bearer {token}"}
    schema = schemathesis.openapi.from_wsgi("/taskq/openapi.json", application)
    load_all_checks()
    names = []
    for found in schema.get_all_operations():
        operation = found.ok()
        names.append(operation.label)
        _attack(operation, headers)
    assert len(names) == len({*names}) > 15


def _attack(operation: Any, headers: dict[str, str]) -> None:
    @settings(max_examples=15, deadline=None, database=None, suppress_health_check=list(HealthCheck), derandomize=True)
    @given(case=operation.as_strategy())
    def call(case: Any) -> None:
        case.call_and_validate(headers=headers)

    call()
