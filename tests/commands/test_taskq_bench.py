"""taskq_bench: a load test that leaves nothing behind, and notices what goes wrong."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest
from django.core.management.base import CommandError

from django_taskq.bench.ends import Ends
from django_taskq.bench.load import LoadTest
from django_taskq.broker import Broker, get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.workers import Workers
from django_taskq.models import DeadTask, TaskResult
from tests.commands.conftest import Manage, run
from tests.records.outcomes import settle, succeeded
from tests.sampleapp.tasks import add
from tests.servers import wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker

NAME = "django_taskq.bench"


def nothing_is_left(broker: Broker) -> bool:
    """No rows of the load test, nothing on its way, no key of the namespace for measuring memory."""
    [queue] = Inspector(broker).queues(["default"])
    keys = broker.connections.execute("KEYS", "{taskq.bench}:*")
    rows = TaskResult.objects.filter(task=NAME).exists() or DeadTask.objects.filter(task=NAME).exists()
    return (queue.ready, queue.running, queue.scheduled, keys, rows) == (0, 0, 0, [], False)


def test_it_measures_checks_and_cleans_up(worker: StartWorker, manage: Manage) -> None:
    worker()
    kept = add.delay(1, 2)
    kept.get(timeout=10)
    result = manage("taskq_bench", "--tasks", "600", "--payload", "50", "--json")
    assert (result.code, result.err) == (0, "")
    found = result.json
    assert (found["tasks"], found["queue"], found["payload"], found["workers"], found["ok"]) == (
        600,
        "default",
        50,
        1,
        True,
    )
    assert found["delivery"] == {
        "sent": 600, "once": 600, "repeated": 0, "missing": {}, "unsuccessful": {}, "rows": 630,
    }  # fmt: skip
    assert found["latency_ms"]["samples"] == 30
    assert -0.5 < found["latency_ms"]["p50"] <= found["latency_ms"]["p95"] <= found["latency_ms"]["p99"] < 1000
    assert 100 < found["bytes_per_task"] < 500
    rates = ("delay_per_second", "delay_many_per_second", "drained_per_second", "recorded_per_second")
    assert all(found[rate] > 10 for rate in rates)
    assert nothing_is_left(get_broker())
    assert TaskResult.objects.get().id  # the other task's


def test_with_a_worker_of_its_own_on_a_terminal(manage: Manage, broker: Broker) -> None:
    result = manage.on_terminal("taskq_bench", "--worker", "--tasks", "50", out=False)
    assert result.code == 0, result.err
    assert "delivery      50 of 50 ended exactly once" in result.out
    assert "p95" in result.out
    for label in ("latency", "sent", "ended", "recorded", "deleted"):
        assert label in result.err
    assert Inspector(broker).workers() == []
    assert nothing_is_left(broker)


def test_successes_that_are_not_recorded_are_counted_all_the_same(
    worker: StartWorker, settings: SettingsWrapper, manage: Manage
) -> None:
    settings.TASKQ = {**settings.TASKQ, "RECORD": "failures"}
    worker()
    found = run("taskq_bench", "--tasks", "100", "--json", "--yes").json
    assert found["ok"]
    assert (found["delivery"]["once"], found["delivery"]["rows"], found["recorded_per_second"]) == (100, None, None)
    assert found["latency_ms"]["samples"] == 5
    wait_for(lambda: nothing_is_left(get_broker()))


def test_without_a_worker_it_says_how_to_start_one(broker: Broker) -> None:
    with pytest.raises(
        CommandError, match=r"No worker serves the queue 'default'. Start one with `manage.py taskq_worker"
    ):
        run("taskq_bench", "--yes")


@pytest.mark.django_db(transaction=True)
def test_a_worker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch, broker: Broker) -> None:
    monkeypatch.setattr("django_taskq.bench.load.ANSWER", 0.5)
    Workers(broker.connections, broker.keys).register("x-1-ab", {"queues": "default", "started": int(time.time())})
    with pytest.raises(CommandError, match=r"No worker took a task .* within 0 s. 1 are registered"):
        run("taskq_bench", "--yes", "--timeout", "0.3")
    assert nothing_waits(broker)


def test_a_paused_queue_is_said_at_once(broker: Broker) -> None:
    run("taskq_queue", "pause", "default")
    with pytest.raises(CommandError, match=r"The queue 'default' is paused: `manage.py taskq_queue resume default`"):
        run("taskq_bench", "--yes")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--queue", "mail"], r"--queue: 'mail' is not declared in TASKQ\['QUEUES'\] \(default\)"),
        (["--tasks", "0"], "argument --tasks: '0' must be a whole number, 1 or more"),
        (["--payload", "-1"], "argument --payload"),
        (["--timeout", "0"], "argument --timeout"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(broker: Broker, words: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        run("taskq_bench", "--yes", *words)


def test_where_debug_is_off_it_asks(broker: Broker, settings: SettingsWrapper) -> None:
    settings.DEBUG = False
    with pytest.raises(CommandError, match=r"10,000 tasks would go through the queue 'default'.*give --yes"):
        run("taskq_bench")


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_an_end_that_comes_twice_is_noticed(broker: Broker) -> None:
    ends, other = Ends(broker), succeeded()
    once, twice, never = succeeded(), succeeded(), succeeded(status="expired", reason="late")
    ends.expect(outcome.id for outcome in (once, twice, never))
    settle(broker, other, once, twice, never, twice)
    assert ends.read() == 3
    assert (ends.ended, ends.repeated(), ends.missing()) == (3, 1, [])
    assert ends.unsuccessful == {"expired (late)": 1}


@pytest.fixture
def nobody_at_work(worker: StartWorker, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The worker is stopped as soon as it has shown that it is there; afterwards it goes on."""
    process, send = worker(), LoadTest._send

    def freeze_and_send(test: LoadTest) -> None:
        process.freeze()
        time.sleep(0.2)  # until the last of its threads has stopped
        send(test)

    monkeypatch.setattr(LoadTest, "_send", freeze_and_send)
    yield
    process.thaw()


def nothing_waits(broker: Broker) -> bool:
    [queue] = Inspector(broker).queues(["default"])
    return queue.ready + queue.running + queue.scheduled == 0


def test_problems_are_said_and_the_exit_code_is_1(nobody_at_work: None, broker: Broker) -> None:
    result = run("taskq_bench", "--yes", "--tasks", "30", "--timeout", "0.3")
    assert result.code == 1
    assert "delivery      0 of 30 ended exactly once. 30 of 30 have not ended: queued" in result.out
    assert nothing_waits(broker)


def test_ctrl_c_cancels_what_waits(nobody_at_work: None, broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(test: LoadTest) -> None:
        assert not nothing_waits(broker)
        raise KeyboardInterrupt

    monkeypatch.setattr(LoadTest, "_drain", interrupted)
    with pytest.raises(CommandError, match="Interrupted") as ended:
        run("taskq_bench", "--yes", "--tasks", "600", "--timeout", "0.3")
    assert ended.value.returncode == 130
    assert nothing_waits(broker)
