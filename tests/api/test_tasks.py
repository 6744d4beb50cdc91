"""Looking at tasks, sending and cancelling them."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from django.contrib.admin.models import ADDITION, LogEntry

from django_taskq import get_task
from django_taskq.broker import Broker
from django_taskq.core.ids import id_from_str, new_id
from django_taskq.core.outcome import Outcome
from tests.api.conftest import Api, ready, record
from tests.api.tasks import internal, remind
from tests.broker.helpers import Hand, Shard
from tests.records.outcomes import failed, settle, succeeded

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db
REMIND = "tests.api.tasks.remind"


def test_a_task_that_opted_in_is_sent(api: Api, broker: Broker) -> None:
    sent = api.post("tasks", {"task": REMIND, "args": [7], "kwargs": {"due": "2026-12-01", "template": "x"}})
    assert (sent.status, sent.body["created"]) == (202, True)
    assert sent.headers["Location"] == f"/taskq/tasks/{sent.body['id']}"
    [found] = broker.find([id_from_str(sent.body["id"])])
    assert found.message is not None
    assert (found.message.task, found.message.args) == (REMIND, b"[7]")
    assert found.message.kwargs == b'{"due":"2026-12-01","template":"x"}'
    shown = api.get(f"tasks/{sent.body['id']}").body
    assert (shown["state"], shown["task"], shown["queue"], shown["attempts"]) == ("queued", REMIND, "default", 0)
    assert shown["args"] == [7]
    [entry] = LogEntry.objects.all()
    assert (entry.action_flag, entry.object_id, entry.user) == (ADDITION, sent.body["id"], api.user)
    assert entry.change_message.startswith("Sent. (API token test (")


def test_others_cannot_be_sent_and_cannot_be_told_from_tasks_that_do_not_exist(api: Api, broker: Broker) -> None:
    answers = [api.post("tasks", {"task": name, "args": [1]}) for name in (internal.name, "os.system", "x" * 200)]
    assert {(answer.status, answer.code) for answer in answers} == {(404, "unknown_task")}
    assert len({answer.body["error"]["message"].replace(name, "") for answer, name in zip(
        answers, (internal.name, "os.system", "x" * 200), strict=True)}) == 1  # fmt: skip
    assert ready(broker) == 0


@pytest.mark.parametrize(
    "call",
    [
        {"args": []},
        {"args": [7, "2026-12-01", 1]},
        {"args": ["seven", "2026-12-01"]},
        {"args": [7, "tomorrow"]},
        {"args": [7, "2026-12-01"], "kwargs": {"user": 1}},
        {"args": [7, "2026-12-01"], "kwargs": {"template": None}},
    ],
)
def test_arguments_that_do_not_fit_are_refused_before_anything_is_sent(
    api: Api, broker: Broker, call: dict[str, object]
) -> None:
    answer = api.post("tasks", {"task": REMIND, **call})
    assert (answer.status, answer.code) == (422, "invalid_arguments")
    assert ready(broker) == 0


def test_the_context_is_filled_in_by_the_worker(api: Api, broker: Broker) -> None:
    assert api.post("tasks", {"task": "tests.api.tasks.with_context", "args": [1]}).status == 202


def test_options_of_a_call(api: Api, broker: Broker) -> None:
    call = {"task": "tests.api.tasks.echo", "priority": 5}
    later = api.post("tasks", {**call, "run_after": 60, "expires": 120, "deadline": 180})
    [found] = broker.find([id_from_str(later.body["id"])])
    assert (found.state, found.priority) == ("scheduled", 5)
    assert found.message is not None
    assert (found.message.deadline or 0) - (found.message.expires or 0) == 60_000
    due = datetime.now(UTC) + timedelta(hours=1)
    shown = api.get(f"tasks/{api.post('tasks', {**call, 'run_after': due.isoformat()}).body['id']}").body
    assert abs(datetime.fromisoformat(shown["due_at"]) - due) < timedelta(seconds=0.01)


def test_a_full_queue_is_said_at_once(api: Api, broker: Broker, settings: SettingsWrapper) -> None:
    queue = {"max_length": 1, "enqueue_timeout": 30}
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": queue}}
    assert api.post("tasks", {"task": "tests.api.tasks.echo"}).status == 202
    answer = api.post("tasks", {"task": "tests.api.tasks.echo"})
    assert (answer.status, answer.code, answer.headers["Retry-After"]) == (429, "queue_full", "5")
    assert api.get("queues/default").body["max_length"] == 1


@pytest.mark.parametrize(
    ("option", "status", "code"),
    [
        ({"queue": "nowhere"}, 404, "unknown_queue"),
        ({"run_after": 60, "expires": 30}, 422, "invalid_options"),
        ({"idempotency_key": "a\nb"}, 422, "invalid_options"),
        ({"priority": 101}, 400, "invalid_body"),
        ({"run_after": -1}, 400, "invalid_body"),
        ({"run_after": "soon"}, 400, "invalid_body"),
        ({"run_after": "2026-12-01T00:00:00"}, 400, "invalid_body"),  # in which time zone?
        ({"timeout": 1}, 400, "invalid_body"),
        ({"max_retries": 99}, 400, "invalid_body"),
        ({"args": {}}, 400, "invalid_body"),
        ({"task": ""}, 400, "invalid_body"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    api: Api, broker: Broker, option: dict[str, object], status: int, code: str
) -> None:
    answer = api.post("tasks", {"task": "tests.api.tasks.echo", **option})
    assert (answer.status, answer.code) == (status, code)


def test_an_idempotency_key_answers_with_the_first_task(api: Api, broker: Broker) -> None:
    call = {"task": "tests.api.tasks.echo", "idempotency_key": "order-7"}
    first, second = (api.post("tasks", call).body for _ in range(2))
    assert first == {**second, "created": True}
    assert second["created"] is False
    assert ready(broker) == 1


def test_arguments_may_be_as_large_as_anywhere(api: Api, broker: Broker) -> None:
    call = {"task": "tests.api.tasks.echo", "args": ["x" * (1024 * 1024 - 10)]}
    assert api.post("tasks", call).status == 202
    too_large = api.post("tasks", {**call, "kwargs": {"more": "x" * 100}})
    assert (too_large.status, too_large.code) == (413, "payload_too_large")
    assert api.post("tasks", {**call, "args": ["x" * 1_200_000]}).code == "payload_too_large"


def test_an_ended_task_is_shown_from_redis_and_from_the_records(api: Api, broker: Broker) -> None:
    outcome = failed(kwargs=b'{"to":"ada","password":"hunter2"}', result=None)
    path = f"tasks/{uuid.UUID(bytes=outcome.id)}"
    settle(broker, outcome)
    fresh = api.get(path).body
    broker.connections.execute("FLUSHALL")
    assert api.get(path).code == "unknown_task"
    record(outcome)
    recorded = api.get(path).body
    assert fresh == recorded
    assert (recorded["state"], recorded["error_class"]) == ("failed", "smtplib.SMTPServerDisconnected")
    assert recorded["kwargs"] == {"to": "ada", "password": "[redacted]"}
    assert recorded["history"][0]["how"] == "retry"
    assert recorded["duration"] == 1.5


def test_the_result_is_shown(api: Api, broker: Broker) -> None:
    outcome = succeeded(result=b'{"sent":[1,2],"token":"t0p"}')
    record(outcome)
    shown = api.get(f"tasks/{uuid.UUID(bytes=outcome.id)}").body
    assert shown["result"] == {"sent": [1, 2], "token": "[redacted]"}


def test_an_outcome_that_no_row_will_hold_is_shown_while_redis_has_it(api: Api, broker: Broker) -> None:
    outcome = Outcome(new_id(), 1, "succeeded", recorded=False, result=b"7")
    settle(broker, outcome)
    shown = api.get(f"tasks/{uuid.UUID(bytes=outcome.id)}").body
    assert (shown["state"], shown["result"], shown["finished_at"]) == ("succeeded", 7, None)


def test_arguments_and_results_need_their_own_permission(caller: Callable[..., Api], broker: Broker) -> None:
    outcome = succeeded(kwargs=b'{"to":"ada@example.com"}', result=b'"grace@example.com"', log="a line")
    record(outcome)
    waiting = remind.delay(7, due=datetime(2026, 12, 1).date())  # noqa: DTZ001
    reader = caller("view_taskresult")
    for id in (str(uuid.UUID(bytes=outcome.id)), waiting.id):
        shown = reader.get(f"tasks/{id}")
        assert shown.status == 200
        assert not {"args", "kwargs", "result", "log"} & set(shown.body)
    allowed = caller("view_taskresult", "view_arguments")
    assert allowed.get(f"tasks/{waiting.id}").body["args"] == [7]
    assert allowed.get(f"tasks/{uuid.UUID(bytes=outcome.id)}").body["log"] == "a line"


def test_what_cannot_be_read_is_shown_all_the_same(api: Api, broker: Broker) -> None:
    for args in (b"[" * 3000 + b"]" * 3000, b"not json", b"", b'["\\ud800"]', b'["\xff"]', b"[1e999]"):
        outcome = succeeded(args=args)
        record(outcome)
        answer = api.get(f"tasks/{uuid.UUID(bytes=outcome.id)}")
        assert answer.status == 200
        settle(broker, outcome)
        assert api.get(f"tasks/{uuid.UUID(bytes=outcome.id)}").status == 200


def test_a_message_that_cannot_be_read_is_shown_as_far_as_it_goes(api: Api, broker: Broker) -> None:
    [id] = Shard(broker).seed_scheduled(1, priority=5)
    broker.connections.execute("DEL", broker.keys.queue("default").messages)
    shown = api.get(f"tasks/{uuid.UUID(bytes=id)}").body
    assert (shown["state"], shown["queue"], shown["task"]) == ("scheduled", "default", "")
    assert "args" not in shown


def test_a_waiting_task_is_cancelled_once(api: Api, broker: Broker) -> None:
    handle = internal.delay(1)
    done = api.post(f"tasks/{handle.id}/cancel")
    assert (done.status, done.body) == (200, {"id": handle.id, "outcome": "cancelled"})
    again = api.post(f"tasks/{handle.id}/cancel")
    assert (again.status, again.code) == (409, "task_ended")
    assert get_task(handle.id).status == "cancelled"
    assert [entry.object_repr for entry in LogEntry.objects.all()] == [f"task {handle.id}"]


def test_the_worker_of_a_running_task_is_asked(api: Api, hand: Hand) -> None:
    handle = internal.delay(1)
    hand.claim()
    assert api.get(f"tasks/{handle.id}").body["state"] == "running"
    assert api.post(f"tasks/{handle.id}/cancel").body["outcome"] == "requested"


@pytest.mark.parametrize("id", ["1", "nonsense", "%00", "..", "01a203ef-8483-73c4-ac30-02a4ebd2c2d8", "é", "x" * 500])
def test_an_unknown_id_is_not_found(api: Api, broker: Broker, id: str) -> None:
    for answer in (api.get(f"tasks/{id}"), api.post(f"tasks/{id}/cancel")):
        assert answer.status == 404
