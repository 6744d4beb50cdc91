"""Arguments of periodic tasks at rest: sealed where their task encrypts, whoever writes the row."""

from __future__ import annotations

import datetime as dt
import html
import json
import logging
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings
from django.test import Client

from django_taskq import Cron, KeyMissing, Task, Undecryptable
from django_taskq.api import tokens
from django_taskq.broker import Broker
from django_taskq.core.message import Message
from django_taskq.exceptions import InvalidArguments, Unsealed
from django_taskq.periodic import actions, arguments
from django_taskq.periodic.declarations import opened_text
from django_taskq.periodic.scheduler import Scheduler
from django_taskq.periodic.status import troubles
from django_taskq.periodic.sync import CONFIRM, STALE, synchronise
from django_taskq.periodic_task import PeriodicTask
from django_taskq.sealed import opened_message
from tests.api.conftest import Api, user_with
from tests.broker.helpers import Shard
from tests.commands.conftest import run
from tests.encryption.conftest import K1, K2, stored, with_keys
from tests.encryption.tasks import SECRET
from tests.periodic.conftest import NOON, Code
from tests.servers import RedisServer
from tests.web.conftest import Allowed, allowed  # noqa: F401  (a fixture)
from tests.web.test_periodic import LIST, form, page

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db
SECOND = dt.timedelta(seconds=1)
AGES = STALE + SECOND
DAILY = Cron("0 6 * * *", args=(SECRET,), kwargs={"copies": 2})
ARGS = f'["{SECRET}"]'
Declare = Callable[..., Task[..., Any]]


@pytest.fixture
def declare(keys: SettingsWrapper) -> Iterator[Declare]:
    """Declares a periodic task, instead of the one of the same name."""
    with pytest.MonkeyPatch.context() as patch:  # undone before `keys` is
        code = Code(patch)
        yield lambda cron=DAILY, **options: code.declare(cron=cron, **{"encrypt": True, **options})


def the_row() -> PeriodicTask:
    return PeriodicTask.objects.get()


def plain(row: PeriodicTask) -> tuple[str, str]:
    return arguments.opened(row.name, row.task, row.args, row.kwargs)


def sent(broker: Broker) -> Message:
    [(_, fields)] = Shard(broker).lane()
    return Message.decode([part for pair in fields.items() for part in pair])


# --- what code declares -----------------------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_nothing_that_is_kept_shows_them_and_what_is_sent_has_them(
    declare: Declare, broker: Broker, redis_server: RedisServer
) -> None:
    declare(Cron("* * * * *", args=(SECRET,), kwargs={"copies": 2}))
    scheduler = Scheduler(broker)
    scheduler.run_once()
    row = the_row()
    assert plain(row) == (ARGS, '{"copies":2}')
    PeriodicTask.objects.update(since=row.since - dt.timedelta(minutes=1))
    scheduler.run_once()
    assert opened_message(sent(broker)).args == ARGS.encode()
    assert SECRET.encode() not in stored(redis_server)


def test_saying_the_same_again_changes_nothing(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    declare()
    synchronise(NOON)
    row = the_row()
    caplog.set_level(logging.INFO, "django_taskq")
    caplog.clear()
    synchronise(NOON + CONFIRM)
    again = the_row()
    assert (again.args, again.declared, again.superseded) == (row.args, row.declared, [])
    assert again.seen_at == NOON + CONFIRM
    assert not caplog.records


def test_a_deployment_and_a_rollback_go_by_what_is_sealed(declare: Declare) -> None:
    other = Cron("0 6 * * *", args=("other",))
    declare()
    synchronise(NOON)
    declare(other)
    synchronise(NOON + SECOND)
    assert plain(the_row())[0] == '["other"]'
    declare()  # an old worker is still there
    synchronise(NOON + 2 * SECOND)
    assert plain(the_row())[0] == '["other"]'
    synchronise(NOON + SECOND + AGES)
    assert plain(the_row())[0] == ARGS


def test_marks_of_what_was_left_behind_cannot_be_tried_without_a_key(declare: Declare, keys: SettingsWrapper) -> None:
    declare(encrypt=False)
    synchronise(NOON)
    text = the_row().declared
    declare(Cron("0 7 * * *"), encrypt=False)
    synchronise(NOON)
    assert the_row().superseded == arguments.marks("report", text)[-1:]
    declare(Cron("0 8 * * *"))
    synchronise(NOON)
    seven = the_row().superseded
    assert len(seven) == 1
    with_keys(keys, {"k2": K2, "k1": K1})
    declare(Cron("0 7 * * *"), encrypt=False)  # an old worker, where the new key is the first
    synchronise(NOON + SECOND)
    assert (the_row().cron, the_row().superseded) == ("0 8 * * *", seven)
    with_keys(keys, {"k3": K2})
    assert set(arguments.marks("report", text)).isdisjoint(seven)


def test_a_row_from_before_is_sealed_by_the_next_worker(declare: Declare) -> None:
    declare(encrypt=False)
    synchronise(NOON)
    assert the_row().args == ARGS
    declare()
    synchronise(NOON + SECOND)
    assert plain(the_row())[0] == ARGS
    assert SECRET not in the_row().args + the_row().declared


def test_what_somebody_edited_before_is_sent_when_it_has_been_sealed(declare: Declare, broker: Broker) -> None:
    declare(encrypt=False)
    synchronise(NOON)
    PeriodicTask.objects.update(args='["edited"]', changed=True)
    declare()
    synchronise(NOON + SECOND)
    assert (the_row().args, SECRET in the_row().declared) == ('["edited"]', False)
    with pytest.raises(Unsealed, match="reseal"):
        actions.run_now(the_row())
    assert troubles(NOON + SECOND).late == ("report",)
    assert "encrypt=True" in run("taskq_periodic", "list").out
    assert run("taskq_encryption", "reseal").out.startswith("1 rows")
    assert troubles(NOON + SECOND) == ((), ())
    actions.run_now(the_row())
    assert opened_message(sent(broker)).args == b'["edited"]'


def test_one_of_the_same_name_that_was_made_here_is_sealed_if_it_says_the_same(declare: Declare) -> None:
    made = {"name": "report", "task": "report", "cron": "0 6 * * *", "timezone": settings.TIME_ZONE}
    PeriodicTask.objects.create(**made, args=ARGS, kwargs='{"copies":2}')
    declare()
    synchronise(NOON)
    row = the_row()
    assert (plain(row), row.changed, SECRET in row.args) == ((ARGS, '{"copies":2}'), False, False)


def test_plain_rows_may_be_allowed_for_a_while(declare: Declare, keys: SettingsWrapper, broker: Broker) -> None:
    declare()
    row = PeriodicTask.objects.create(name="mine", task="report", cron="0 6 * * *", args='["x"]')
    with_keys(keys, {"k1": K1}, ENCRYPTION_ACCEPT_PLAIN=True)
    actions.run_now(row)
    assert opened_message(sent(broker)).args == b'["x"]'


# --- keys -------------------------------------------------------------------------------------------------------------


def test_a_new_key_is_taken_and_the_old_one_can_go(declare: Declare, keys: SettingsWrapper, broker: Broker) -> None:
    declare()
    synchronise(NOON)
    with_keys(keys, {"k2": K2, "k1": K1})
    synchronise(NOON + CONFIRM)
    usage = run("taskq_encryption", "usage", "--json").json
    assert (usage["k1"]["database"], usage["k2"]["database"]) == (1, 0)
    assert run("taskq_encryption", "reseal").out.startswith("1 rows")
    with_keys(keys, {"k2": K2})
    assert plain(the_row()) == (ARGS, '{"copies":2}')
    before = the_row().declared
    synchronise(NOON + 2 * CONFIRM)
    assert the_row().declared == before
    assert run("taskq_encryption", "reseal").out.startswith("0 rows")


def test_without_the_key_a_worker_leaves_it_to_others_and_says_so(
    declare: Declare, keys: SettingsWrapper, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    declare(Cron("* * * * *", args=(SECRET,)))
    now = dt.datetime.fromtimestamp(broker.time(), dt.UTC)
    synchronise(now)
    before = the_row()
    PeriodicTask.objects.update(since=before.since - dt.timedelta(minutes=1))
    with_keys(keys, {"k1": None})
    scheduler = Scheduler(broker)
    scheduler.run_once()
    scheduler.run_once()
    assert Shard(broker).lane() == []
    assert (the_row().declared, the_row().removed_at) == (before.declared, None)
    [said] = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert "KeyMissing" in said
    assert "'k1'" in said
    with_keys(keys, {"k2": K2})  # lost for good: what code says counts again, once nobody declares the other
    synchronise(now + SECOND)
    assert the_row().declared == before.declared
    synchronise(now + AGES)
    assert plain(the_row())[0] == ARGS


def test_nothing_is_declared_where_nothing_can_be_sealed(
    declare: Declare, keys: SettingsWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    with_keys(keys, {"k1": None})
    declare()
    synchronise(NOON)
    assert not PeriodicTask.objects.exists()
    assert "report cannot be declared" in caplog.text
    assert SECRET not in caplog.text


def test_moved_altered_and_made_up_ones_are_not_sent(declare: Declare, broker: Broker) -> None:
    declare()
    synchronise(NOON)
    row = the_row()
    other = PeriodicTask(name="other", task="report", args=row.args)
    altered = PeriodicTask(name="report", task="report", args=row.args[:-6] + 'AAAA="')
    with_kwargs = PeriodicTask(name="report", task="report", args=row.args, kwargs='{"copies":9}')
    for forged in (other, altered, with_kwargs):
        with pytest.raises(Undecryptable):
            actions.run_now(forged)
    assert Shard(broker).lane() == []


def test_a_row_that_follows_half_of_a_declaration_is_like_one_that_cannot_be_opened(declare: Declare) -> None:
    declare()
    synchronise(NOON)
    half = {key: value for key, value in json.loads(the_row().declared).items() if key != "task"}
    PeriodicTask.objects.update(declared=json.dumps(half))
    synchronise(NOON)
    assert json.loads(the_row().declared) == half
    with pytest.raises(Undecryptable, match="Periodic task report: what it follows has no task"):
        opened_text(the_row())


def test_an_error_does_not_quote_them(declare: Declare, broker: Broker, caplog: pytest.LogCaptureFixture) -> None:
    declare()
    args, kwargs = arguments.sealed("mine", "report", "[]", f'{{"copies":"{SECRET}"}}')
    now = dt.datetime.fromtimestamp(broker.time(), dt.UTC)
    since = now - dt.timedelta(minutes=1)
    row = PeriodicTask.objects.create(name="mine", task="report", every=SECOND, args=args, kwargs=kwargs, since=since)
    with pytest.raises(InvalidArguments) as raised:
        actions.run_now(row)
    Scheduler(broker).run_once()
    assert "mine: it could not be sent: InvalidArguments" in caplog.text
    assert SECRET not in caplog.text + str(raised.value)


# --- in the admin -----------------------------------------------------------------------------------------------------


def test_who_may_see_them_reads_and_edits_them(declare: Declare, admin_client: Client, broker: Broker) -> None:
    declare(Cron("0 6 * * *", args=(SECRET,)))
    synchronise(NOON)
    row = the_row()
    shown = admin_client.get(page(row)).context["adminform"].form.initial
    assert SECRET in shown["args"]
    before = row.args
    assert admin_client.post(page(row), form(row, args=shown["args"], kwargs=shown["kwargs"])).status_code == 302
    assert (the_row().args, the_row().changed) == (before, False)
    admin_client.post(page(row), form(row, args='["edited"]', kwargs="{}"))
    assert (plain(the_row()), the_row().changed) == (('["edited"]', "{}"), True)
    admin_client.post(page(row), form(row, args=ARGS, kwargs="{}"))
    assert (plain(the_row())[0], the_row().changed) == (ARGS, False)
    admin_client.post(page(row), form(row, args='["edited"]', kwargs="{}"))
    admin_client.post(page(row, "follow"))
    assert (plain(the_row())[0], the_row().changed) == (ARGS, False)


def test_a_new_one_is_sealed(declare: Declare, admin_client: Client, broker: Broker) -> None:
    declare()
    values = form(name="mine", task="report", every="00:10:00", cron="", args=ARGS)
    assert admin_client.post(f"{LIST}add/", values).status_code == 302
    row = PeriodicTask.objects.get(name="mine")
    assert (plain(row)[0], SECRET in row.args) == (ARGS, False)


def test_who_may_not_see_them_leaves_them_alone(
    declare: Declare,
    allowed: Allowed,  # noqa: F811
    broker: Broker,
) -> None:
    declare()
    synchronise(NOON)
    declare(None, name="open", encrypt=False)
    args, kwargs = arguments.sealed("mine", "report", ARGS, "{}")
    mine = PeriodicTask.objects.create(name="mine", task="report", cron="0 6 * * *", args=args, kwargs=kwargs)
    editor = allowed("view_periodictask", "change_periodictask")
    assert SECRET not in editor.get(page(mine)).content.decode()
    assert editor.post(page(mine), form(mine, cron="0 9 * * *", args="[]", task="report")).status_code == 302
    mine.refresh_from_db()
    assert (mine.cron, mine.args) == ("0 9 * * *", args)
    refused = editor.post(page(mine), form(mine, task="open"))
    assert "cannot give them to another task" in refused.content.decode()
    mine.refresh_from_db()
    assert (mine.task, mine.args) == ("report", args)
    reader = allowed("view_periodictask", "view_arguments")
    assert SECRET in reader.get(page(mine)).content.decode()


def test_without_the_key_the_admin_shows_that_it_is_sealed_and_changes_the_rest(
    declare: Declare, keys: SettingsWrapper, admin_client: Client, broker: Broker
) -> None:
    declare()
    synchronise(NOON)
    row = the_row()
    with_keys(keys, {"k1": None})
    text = admin_client.get(page(row)).content.decode()
    assert "sealed with key k1, which is not here" in text
    assert admin_client.post(page(row), form(row, cron="0 9 * * *", args="[]")).status_code == 302
    assert (the_row().cron, the_row().args) == ("0 9 * * *", row.args)
    refused = admin_client.post(f"{LIST}add/", form(name="mine", task="report", cron="0 6 * * *"))
    assert str(KeyMissing(key_id="k1")) in html.unescape(refused.content.decode())


# --- in the API -------------------------------------------------------------------------------------------------------


def test_the_api_opens_them_for_who_may_see_them(declare: Declare, keys: SettingsWrapper, broker: Broker) -> None:
    declare()
    synchronise(NOON)
    user = user_with("view_periodictask", "run", "view_arguments")
    api = Api(tokens.create(user, "t")[1], user)
    assert api.get("periodic/report").body["args"] == [SECRET]
    assert api.post("periodic/report/run").status == 202
    with_keys(keys, {"k1": None})
    assert "sealed with key k1" in api.get("periodic/report").body["args"]
    assert api.post("periodic/report/run").code == "key_missing"
    PeriodicTask.objects.update(args="[]")
    assert api.post("periodic/report/run").code == "undecryptable"
