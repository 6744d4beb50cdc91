"""Decisions about whatever a filter chooses: counted, confirmed, in slices that may be repeated and interrupted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_taskq.admin import bulk
from django_taskq.broker import Broker
from django_taskq.models import DeadTask
from django_taskq.signals import operator_action
from tests.records.outcomes import NOW, failed
from tests.servers import RedisServer
from tests.web.conftest import Allowed, record

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/deadtask/"
REQUEUE, DISCARD = f"{LIST}bulk/requeue/", f"{LIST}bulk/discard/"


@pytest.fixture(autouse=True)
def small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two dead letters each."""
    monkeypatch.setattr("django_taskq.requeue.BATCH", 2)
    monkeypatch.setattr(bulk, "SLICE", 0.0)


@pytest.fixture
def actions() -> Iterator[list[tuple[str, str, int]]]:
    """What operator_action said: who did it is in the log."""
    heard: list[tuple[str, str, int]] = []

    def hear(sender: str, target: str, count: int, **_: Any) -> None:
        heard.append((sender, target, count))

    operator_action.connect(hear)
    yield heard
    operator_action.disconnect(hear)


def token(content: str) -> str | None:
    found = re.search(r'name="run" value="([^"]+)"', content)
    return found and found[1]


def begin(client: Client, url: str) -> str:
    content = client.get(url, follow=True).content.decode()
    found = token(content)
    assert found is not None
    return found


def finish(client: Client, url: str) -> tuple[str, int]:
    """Presses until there is no button, and how often that was."""
    run: str | None = begin(client, url)
    presses, content = 0, ""
    while run is not None and presses < 20:
        content = " ".join(client.post(url, {"run": run}).content.decode().split())
        run, presses = token(content), presses + 1
    return content, presses


def states() -> dict[str, int]:
    found = DeadTask.objects.values_list("state", flat=True)
    return {state: list(found).count(state) for state in set(found)}


def sent(broker: Broker) -> int:
    return int(broker.connections.execute("XLEN", broker.keys.lane("default", 0)))


def test_first_it_says_what_and_how_many(admin: Client) -> None:
    record(*[failed(task="shop.other") for _ in range(7)], failed())
    content = " ".join(admin.get(f"{REQUEUE}?task=shop.other").content.decode().split())
    assert "Requeue 7 dead letters?" in content
    assert "<dt>Task</dt><dd>shop.other</dd>" in content
    assert content.count("smtplib.SMTPServerDisconnected") == bulk.SAMPLES
    assert states() == {"dead": 8}
    assert "Nothing is dead here" in admin.get(f"{REQUEUE}?task=shop.none").content.decode()


def test_all_that_match_are_requeued_slice_by_slice(
    admin: Client, broker: Broker, actions: list[tuple[str, str, int]]
) -> None:
    record(*[failed(task="shop.other") for _ in range(4)], failed(task="shop.other", raw=b""), failed())
    content, presses = finish(admin, f"{REQUEUE}?task=shop.other")
    assert "Finished." in content
    assert "5 of 5 looked at. 4 requeued." in content
    assert "&times; Its message is malformed" in content
    assert (states(), sent(broker), presses) == ({"dead": 2, "requeued": 4}, 4, 4)
    [entry] = LogEntry.objects.all()
    assert (entry.object_repr, entry.change_message) == ("4 dead letters", "Requeued 4 of 5. task=shop.other")
    assert actions == [("requeue", "", 2)] * 2


def test_all_that_match_are_discarded(admin: Client, actions: list[tuple[str, str, int]]) -> None:
    record(*[failed() for _ in range(5)])
    content, _presses = finish(admin, DISCARD)
    assert "5 discarded." in content
    assert states() == {"discarded": 5}
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Discarded 5 of 5."]
    assert sum(count for _action, _target, count in actions) == 5


def test_what_fails_after_it_was_confirmed_is_left_alone(admin: Client, broker: Broker) -> None:
    record(*[failed() for _ in range(3)])
    run: str | None = begin(admin, REQUEUE)
    record(failed())
    while run:
        run = token(admin.post(REQUEUE, {"run": run}).content.decode())
    assert states() == {"dead": 1, "requeued": 3}


def test_a_span_that_ends_now_is_pinned_to_its_beginning(admin: Client) -> None:
    response = admin.get(f"{REQUEUE}?since=1h&task=x")
    assert re.fullmatch(rf"{re.escape(REQUEUE)}\?since=%40\d+&task=x", response.headers["Location"])
    record(failed(), failed(finished=NOW + 100))
    content = admin.get(f"{REQUEUE}?since=@{int(NOW) + 50}").content.decode()
    assert "Requeue 1 dead letter?" in content
    assert "Since 20" in content


def test_a_slice_that_is_sent_twice_sends_nothing_twice(admin: Client, broker: Broker) -> None:
    record(*[failed() for _ in range(4)])
    run = begin(admin, REQUEUE)
    for _ in range(3):
        admin.post(REQUEUE, {"run": run})
    # The later ones find what was left: each time two more are looked at, none twice.
    assert (states(), sent(broker)) == ({"requeued": 4}, 4)
    assert broker.connections.execute("HLEN", broker.keys.index) == 4


def test_when_redis_goes_away_it_stops_and_can_go_on(
    admin: Client, broker: Broker, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.broker.broker.PRODUCER_PATIENCE", 0.1)
    record(*[failed() for _ in range(4)])
    run = begin(admin, REQUEUE)
    redis_server.stop()
    content = admin.post(REQUEUE, {"run": run}).content.decode()
    assert "Stopped." in content
    assert "cannot be reached" in content
    assert "data-tq-continue" not in content
    assert states() == {"dead": 4}
    redis_server.start()
    run = token(content) or ""
    while run:
        run = token(admin.post(REQUEUE, {"run": run}).content.decode()) or ""
    assert states() == {"requeued": 4}


def test_only_whoever_confirmed_continues_and_only_that(admin: Client, allowed: Allowed, broker: Broker) -> None:
    record(*[failed() for _ in range(3)])
    run = begin(admin, REQUEUE)
    other = allowed("view_deadtask", "requeue", "discard")
    for client, url, sent in (
        (other, REQUEUE, run),
        (admin, DISCARD, run),
        (admin, f"{REQUEUE}?task=shop.send", run),
        (admin, REQUEUE, run[:-1] + ("a" if run[-1] != "a" else "b")),
        (admin, REQUEUE, ""),
    ):
        assert b"too old" in client.post(url, {"run": sent}, follow=True).content
    assert states() == {"dead": 3}


def test_each_needs_its_permission_and_a_token(allowed: Allowed, admin: Client) -> None:
    record(failed())
    reader, requeuer = allowed("view_deadtask"), allowed("view_deadtask", "requeue")
    content = reader.get(LIST).content.decode()
    assert "bulk/" not in content
    content = requeuer.get(LIST).content.decode()
    assert "bulk/requeue/" in content
    assert "bulk/discard/" not in content
    for url in (REQUEUE, DISCARD):
        assert reader.get(url).status_code == reader.post(url).status_code == 403
        assert allowed_without_view(allowed).get(url).status_code == 403
        assert admin.put(url).status_code == 405
    assert requeuer.get(DISCARD).status_code == 403
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin.cookies
    assert strict.post(REQUEUE, {"run": begin(admin, REQUEUE)}).status_code == 403
    assert states() == {"dead": 1}


def allowed_without_view(allowed: Allowed) -> Client:
    from django.contrib.auth.models import User

    User.objects.filter(username="staff-requeue-discard").delete()
    return allowed("requeue", "discard")


def test_a_slice_costs_few_queries(admin: Client, broker: Broker, django_assert_max_num_queries: Any) -> None:
    record(*[failed() for _ in range(4)])
    run = begin(admin, REQUEUE)
    with django_assert_max_num_queries(21):
        admin.post(REQUEUE, {"run": run})


def test_the_pages_close_what_they_open(admin: Client, broker: Broker) -> None:
    record(*[failed() for _ in range(4)])
    pages = [admin.get(REQUEUE).content.decode(), admin.post(REQUEUE, {"run": begin(admin, REQUEUE)}).content.decode()]
    for content in pages:
        ours = content[content.index('id="content-main"') : content.index("<!-- END Content -->")]
        for tag in ("h1", "p", "ul", "li", "form", "section", "div", "dl", "table", "progress"):
            opened = len(re.findall(rf"<{tag}[ >]", ours)) + 2 * (tag == "div")  # the page's own
            assert opened == ours.count(f"</{tag}>"), tag
