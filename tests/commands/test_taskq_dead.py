"""taskq_dead: dead letters listed, grouped, shown, requeued and discarded."""

from __future__ import annotations

import datetime as dt
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from django.core.management.base import CommandError
from django.utils import timezone

from django_taskq.broker import Broker
from django_taskq.core.fields import pack_fields
from django_taskq.core.ids import id_from_str
from django_taskq.core.message import Message
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import State
from django_taskq.models import DeadTask
from tests.commands.conftest import Manage, record, run
from tests.records.outcomes import failed
from tests.sampleapp.tasks import fail
from tests.servers import wait_for

if TYPE_CHECKING:
    from tests.conftest import StartWorker

pytestmark = pytest.mark.django_db


def ago(hours: float) -> float:
    return (timezone.now() - dt.timedelta(hours=hours)).timestamp()


MAIL = {"task": "shop.mail", "queue": "mail", "finished": ago(1), "error_class": "OSError", "error_message": "gone"}
LOST = {"task": "shop.thumb", "reason": "worker_lost", "finished": ago(30), "error_class": "", "error_message": "died"}


def bury(**values: Any) -> str:
    """Its task's id."""
    outcome = failed(**values)
    record(outcome)
    return str(uuid.UUID(bytes=outcome.id))


def states() -> dict[str, str]:
    return {str(id): state for id, state in DeadTask.objects.values_list("task_id", "state")}


# --- list and show ----------------------------------------------------------------------------------------------------


def test_nothing_is_dead() -> None:
    assert run("taskq_dead", "list").out == "No dead letters.\n"
    assert run("taskq_dead", "list", "--json").json == []
    assert run("taskq_dead", "requeue", "--all").out == "0 requeued.\n"


def test_the_newest_come_first() -> None:
    ids = [bury(finished=ago(hours)) for hours in (5, 2, 90)]
    lines = run("taskq_dead", "list").out.splitlines()
    assert lines[0].split() == ["ID", "AGO", "TASK", "REASON", "ERROR"]
    assert [line.split()[:3] for line in lines[1:]] == [[ids[1], "2", "h"], [ids[0], "5", "h"], [ids[2], "4", "d"]]
    assert lines[1].endswith("shop.send  failed  smtplib.SMTPServerDisconnected: SMTP server temporarily unavailable")


FILTERS = [
    (["--task", "shop.mail"], "mail"),
    (["--queue", "mail"], "mail"),
    (["--reason", "worker_lost"], "lost"),
    (["--error", "oserr"], "mail"),
    (["--error", "DIED"], "lost"),
    (["--older", "24"], "lost"),
    (["--newer", "2.5"], "mail"),
    (["--newer", "48", "--older", "2"], "lost"),
    (["--task", "shop.mail", "--reason", "worker_lost"], None),
]


@pytest.mark.parametrize(("filters", "expected"), FILTERS)
def test_filters(filters: list[str], expected: str | None) -> None:
    ids = {"mail": bury(**MAIL), "lost": bury(**LOST)}
    found = run("taskq_dead", "list", "--json", *filters).json
    assert [row["task_id"] for row in found] == ([ids[expected]] if expected else [])
    run("taskq_dead", "discard", "--yes", *filters)
    assert [id for id, state in states().items() if state == "discarded"] == ([ids[expected]] if expected else [])


def test_groups_with_their_number_and_a_group_alone() -> None:
    mails = [bury(**{**MAIL, "finished": ago(hours)}) for hours in (1, 2, 3)]
    lost = bury(**LOST)
    groups = run("taskq_dead", "list", "--grouped", "--json").json
    assert [(group["task"], group["count"], group["error_class"]) for group in groups] == [
        ("shop.mail", 3, "OSError"), ("shop.thumb", 1, ""),
    ]  # fmt: skip
    lines = [line.split() for line in run("taskq_dead", "list", "--grouped").out.splitlines()]
    assert lines[1] == [groups[0]["fingerprint"], "3", "60", "min", "shop.mail", "OSError"]
    assert lines[2][-1] == "worker_lost"
    rows = run("taskq_dead", "list", "--json", "--group", groups[0]["fingerprint"]).json
    assert [row["task_id"] for row in rows] == mails
    assert lost not in {row["task_id"] for row in rows}


def test_a_limit_says_that_there_is_more() -> None:
    for _ in range(3):
        bury()
    result = run("taskq_dead", "list", "--limit", "2")
    assert len(result.out.splitlines()) == 3
    assert result.err == "There are more than these 2: --limit shows them.\n"
    assert run("taskq_dead", "list", "--limit", "3").err == ""


def test_states_are_listed_apart() -> None:
    id = bury()
    run("taskq_dead", "discard", id, "--yes")
    assert run("taskq_dead", "list", "--json").json == []
    [row] = run("taskq_dead", "list", "--json", "--state", "discarded").json
    assert row["task_id"] == id
    assert dt.datetime.fromisoformat(row["failed_at"]).tzinfo is not None


def test_one_is_shown_whole() -> None:
    id = bury(**MAIL, kwargs=b'{"password":"secret"}')
    text = run("taskq_dead", "show", id).out
    for expected in (id, "shop.mail", "OSError", "gone", "attempt 1", "retry after 0.10 s", "Traceback (most recent"):
        assert expected in text
    shown = run("taskq_dead", "show", id, "--json").json
    assert (shown["id"], shown["run"], shown["error_class"], shown["state"]) == (id, 1, "OSError", "dead")
    assert shown["history"][0]["how"] == "retry"
    assert "secret" not in text + str(shown)


def test_the_newest_run_is_shown() -> None:
    id = bury()
    record(failed(id=id_from_str(id), run=2, error_message="again"))
    assert run("taskq_dead", "show", id, "--json").json["run"] == 2


# --- requeue and discard ----------------------------------------------------------------------------------------------


def test_requeued_by_id_it_runs_again(worker: StartWorker) -> None:
    worker()
    handle = fail.delay("no luck")
    wait_for(DeadTask.objects.exists)
    result = run("taskq_dead", "requeue", handle.id, "--yes")
    assert (result.code, result.out, result.err) == (0, "1 requeued.\n", "")
    dead = wait_for(lambda: DeadTask.objects.filter(task_id=handle.id, run=2).first())
    assert (dead.state, dead.error_message) == ("dead", "no luck")


def sent(broker: Broker, *ids: str) -> list[State | None]:
    return [found.state for found in broker.find([id_from_str(id) for id in ids])]


def test_many_are_requeued_by_filter_and_the_rest_is_left_alone(broker: Broker) -> None:
    mails, lost = [bury(**{**MAIL, "queue": "default"}) for _ in range(3)], bury(**LOST)
    result = run("taskq_dead", "requeue", "--task", "shop.mail", "--yes", "--json")
    assert result.json == {"requeued": 3, "refused": {}}
    assert sent(broker, *mails, lost) == [State.QUEUED] * 3 + [None]
    assert states() == {**dict.fromkeys(mails, "requeued"), lost: "dead"}


def test_all_of_more_than_a_batch(broker: Broker) -> None:
    outcomes: list[Outcome] = [failed() for _ in range(501)]
    record(*outcomes)
    assert run("taskq_dead", "requeue", "--all", "--yes").out == "501 requeued.\n"
    assert run("taskq_dead", "discard", "--all", "--yes").out == "0 discarded.\n"
    assert len(broker.find([outcome.id for outcome in outcomes])) == 501


def test_what_is_refused_is_said_and_the_rest_is_done(broker: Broker) -> None:
    good, elsewhere = bury(), bury(queue="closed")
    broken = bury(raw=pack_fields(["i", "short"]))
    later = bury(raw=pack_fields([*Message(uuid.uuid4().bytes, "shop.send").fields(), "v", "2"]))
    result = run("taskq_dead", "requeue", "--all", "--yes")
    assert (result.code, result.out) == (1, "1 requeued.\n")
    assert "1 refused: Its queue 'closed' is not declared" in result.err
    assert "1 refused: Its message is malformed" in result.err
    assert "version '2'" in result.err
    assert states() == {good: "requeued", elsewhere: "dead", broken: "dead", later: "dead"}


def test_ids_without_a_dead_letter_are_refused(broker: Broker) -> None:
    dead, done, unknown = bury(), bury(), str(uuid.uuid4())
    run("taskq_dead", "discard", done, "--yes")
    result = run("taskq_dead", "requeue", dead, done, unknown, "--yes", "--json")
    assert result.code == 1
    assert result.json == {
        "requeued": 1,
        "refused": {
            f"{done}: it is discarded already.": 1,
            f"{unknown}: there is no dead letter of this id.": 1,
        },
    }


def test_a_broker_that_is_away_ends_it_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, redis_server: Any
) -> None:
    monkeypatch.setattr("django_taskq.broker.broker.PRODUCER_PATIENCE", 0.2)
    bury()
    redis_server.stop()
    with pytest.raises(CommandError, match=r"0 were requeued before this: Redis at .* cannot be reached"):
        run("taskq_dead", "requeue", "--all", "--yes")
    assert set(states().values()) == {"dead"}


@pytest.mark.parametrize("action", ["requeue", "discard"])
def test_everything_has_to_be_meant(action: str) -> None:
    bury()
    with pytest.raises(CommandError, match=f"{action} takes ids, a filter, or --all"):
        run("taskq_dead", action, "--yes")
    with pytest.raises(CommandError, match=f"{action} 1 dead letters\\? Nobody can answer here: give --yes"):
        run("taskq_dead", action, "--all")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["show"], "show takes one id"),
        (["show", str(uuid.UUID(int=5))], "No dead letter has the id 0000"),
        (["show", "5"], "'5' is not the id of a task"),
        (["list", "--limit", "0"], "must be a whole number, 1 or more"),
        (["list", "--older", "-1"], "must be a number, from 0 to 876000"),
        (["list", "--older", "nan"], "must be a number"),
        (["list", "--newer", "1e300"], "must be a number"),
        (["list", "--state", "lost"], "invalid choice"),
        (["bury"], "invalid choice"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(words: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        run("taskq_dead", *words)


@pytest.mark.django_db(transaction=True)
def test_on_a_terminal_it_asks_and_shows_its_progress(manage: Manage) -> None:
    ids = [bury(), bury()]
    refused = manage.on_terminal("taskq_dead", "discard", "--all", answers="n\n")
    assert (refused.code, set(states().values())) == (1, {"dead"})
    assert "Nothing was changed." in refused.out
    accepted = manage.on_terminal("taskq_dead", "discard", "--all", answers="y\n", out=False)
    assert (accepted.code, accepted.out) == (0, "2 discarded.\n")
    assert "discard 2 dead letters? [y/N]" in accepted.err
    assert "discarded [" in accepted.err
    assert states() == dict.fromkeys(ids, "discarded")
