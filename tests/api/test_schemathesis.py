"""Schemathesis reads openapi.json, tries what it describes and what it does not, and finds nothing."""

from __future__ import annotations

import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import Status, events, from_schema

from django_taskq.api import tokens
from django_taskq.api.routes import ROUTES
from django_taskq.broker import Broker
from testproject.wsgi import application
from tests.api.conftest import EVERYTHING, record, user_with
from tests.records.outcomes import failed

# What a schema cannot say: whether a cursor is one, whether a filter was given, whether arguments fit their task.
CONFIG = """
seed = 1
continue-on-failure = true
headers = {{ Authorization = "Bearer {token}" }}

[phases.fuzzing]
generation.max-examples = 3

[checks.ignored_auth]  # test_auth.py does that; here it trips over an argument that its WSGI client does not know
enabled = false

[phases.stateful]
enabled = false

[[operations]]
include-name-regex = "GET /(queues|workers|breakers|periodic|dead)$|POST /dead/(requeue|discard)$|POST /tasks$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404", "422"]

[[operations]]
include-name-regex = "GET /(queues/.*/tasks|limits/.*/waiting)$"
checks.positive_data_acceptance.expected-statuses = ["2xx", "400", "404"]
"""


@pytest.mark.long
@pytest.mark.timeout(300)  # a thousand requests: seconds alone, minutes on a machine that is busy
@pytest.mark.django_db(transaction=True)  # the WSGI handler closes its connections after each request
def test_it_finds_nothing(broker: Broker) -> None:
    record(*[failed() for _ in range(5)])
    token = tokens.create(user_with(*EVERYTHING), "fuzz")[1]
    config = SchemathesisConfig.from_str(CONFIG.format(token=token))
    schema = schemathesis.openapi.from_wsgi("/taskq/openapi.json", application, config=config)
    tested, problems = set(), []
    for event in from_schema(schema).execute():
        if isinstance(event, events.NonFatalError):
            problems.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.ScenarioFinished) and event.status is not Status.SKIP:
            tested.add(event.label)
            problems += _failures(event)
    assert not problems, "\n\n".join(problems)
    assert tested == {f"{route.method} /{route.path}" for route in ROUTES}


def _failures(scenario: events.ScenarioFinished) -> list[str]:
    return [
        f"{scenario.label}: {check.name}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
        for checks in scenario.recorder.checks.values()
        for check in checks
        if check.failure_info is not None
    ]
