"""What a task sees and what its sender gets, through a real worker."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from django_taskq import get_task
from django_taskq.broker import get_broker
from django_taskq.exceptions import ResultError, TaskFailed
from tests.servers import WorkerProcess, wait_for
from tests.worker import tasks
from tests.worker.conftest import Ledger

pytestmark = pytest.mark.usefixtures("running")


def test_arguments_and_results_arrive_as_the_types_of_the_hints() -> None:
    when = datetime(2026, 1, 2, 3, 4, 5, 678_901, tzinfo=UTC)
    assert tasks.double.delay(Decimal("1.10"), when=when).get(timeout=5) == (Decimal("2.20"), when)


def test_a_coroutine_function_runs_on_the_event_loop() -> None:
    assert tasks.double_async.delay(Decimal("0.1")).get(timeout=5) == Decimal("0.2")


def test_many_tasks_of_both_kinds_all_end() -> None:
    handles = [
        *tasks.double_async.delay_many([((Decimal(number),), {}) for number in range(600)]),
        *tasks.double.delay_many([((Decimal(number), datetime.now(UTC)), {}) for number in range(600)]),
    ]
    results = [handle.get(timeout=10) for handle in handles]
    assert results[:600] == [Decimal(2 * number) for number in range(600)]
    assert [result[0] for result in results[600:]] == results[:600]


def test_takes_context_hands_the_context_over_first() -> None:
    handle = tasks.context_of.delay("more")
    assert handle.get(timeout=5) == {"id": handle.id, "same": True, "extra": "more"}
    handle = tasks.async_context_of.delay()
    assert handle.get(timeout=5) == {"id": handle.id, "same": True}


def test_current_task_knows_the_attempt_and_what_is_left() -> None:
    handle = tasks.about_me.using(queue_name="mail", timeout=30).delay(fail_until=2)
    about = handle.get(timeout=5)
    assert 29 < about.pop("remaining") <= 30
    assert about == {
        "id": handle.id, "name": "tests.worker.tasks.about_me", "attempt": 2, "run": 1, "queue": "mail",
        "retries_left": 1, "headers": {}, "losses": 0,
    }  # fmt: skip


def test_current_task_in_coroutines_is_each_ones_own() -> None:
    handles = [tasks.about_me_async.delay() for _ in range(20)]
    assert [handle.get(timeout=5)["id"] for handle in handles] == [handle.id for handle in handles]


def test_a_result_that_cannot_be_stored_never_runs_the_task_again(ledger: Ledger) -> None:
    handle = tasks.unstorable.delay(ledger.path)
    with pytest.raises(ResultError, match="lock"):
        handle.get(timeout=5)
    assert handle.status == "succeeded"
    time.sleep(0.2)
    assert len(ledger.read()) == 1


def test_a_result_that_is_too_large_is_not_stored() -> None:
    with pytest.raises(ResultError, match="MAX_PAYLOAD_BYTES"):
        tasks.large.delay(2_000_000).get(timeout=5)


def test_get_returns_as_soon_as_the_task_has_ended() -> None:
    late = []
    for _ in range(5):
        handle = tasks.works.using(timeout=5).delay("/dev/null", 0.1)
        outcome = handle.get(timeout=5)
        late.append(time.time() - ended_at(handle.id))
        assert outcome == ""
    assert sorted(late)[2] < 0.03, late


def test_aget_returns_as_soon_as_the_task_has_ended() -> None:
    async def latency() -> float:
        handle = await tasks.works_async.adelay("/dev/null", 0.1)
        await handle.aget(timeout=5)
        now = time.time()
        return now - ended_at(handle.id)

    late = sorted(asyncio.run(latency()) for _ in range(5))
    assert late[2] < 0.03, late


def ended_at(id: str) -> float:
    found = get_broker().find([get_task(id)._id])[0]
    assert found.outcome is not None
    assert found.outcome.finished is not None
    return found.outcome.finished


def test_an_idle_worker_starts_a_task_within_milliseconds(ledger: Ledger) -> None:
    waits = []
    for number in range(10):
        time.sleep(0.05)
        sent = time.time()
        tasks.works.delay(ledger.path, 0).get(timeout=5)
        waits.append(ledger.events()[number]["at"] - sent)
    assert sorted(waits)[5] < 0.02, waits


def test_the_states_of_a_task_are_seen_by_its_handle(ledger: Ledger) -> None:
    later = tasks.works.using(run_after=60).delay(ledger.path, 0)
    assert later.status == "scheduled"
    now = tasks.works.delay(ledger.path, 0.3)
    ledger.wait()
    now.refresh()
    assert now.status == "running"
    now.get(timeout=5)
    assert now.status == "succeeded"
    with pytest.raises(TaskFailed):
        tasks.discards.delay("why not").get(timeout=5)
    assert later.cancel() is True


def test_a_worker_says_what_it_is_and_what_it_is_running(running: WorkerProcess, ledger: Ledger) -> None:
    broker = get_broker()

    def register() -> dict[str, str]:
        reply = broker.connections.execute("HGETALL", broker.keys.worker(running.ids[0]))
        return {name.decode(): value.decode() for name, value in zip(reply[::2], reply[1::2], strict=True)}

    handle = tasks.works.using(queue_name="slow").delay(ledger.path, 1.5)
    location = wait_for(lambda: broker.find([handle._id])[0].location.decode())
    wait_for(lambda: register()["running"] == location, 3, register)
    about = register()
    assert about["queues"] == "default,mail,slow"
    assert (about["threads"], about["async"], about["state"]) == ("8", "200", "running")
    assert int(about["rss"]) > 10_000_000
    assert abs(float(about["since"]) - ledger.events()[0]["at"]) < 0.1
    handle.get(timeout=5)
    wait_for(lambda: register()["running"] == "", 3, register)
