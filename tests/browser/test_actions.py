"""Every action of every page, by clicking: with JavaScript, and where `script` is false without it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from django_taskq.api import tokens
from django_taskq.broker.inspector import Inspector
from django_taskq.core.ids import id_to_str
from django_taskq.exceptions import TaskFailed
from django_taskq.models import ApiToken, DeadTask
from tests.browser.chromium import expect
from tests.browser.sights import ADMIN, DEAD, RESULTS, TOKENS, failure, record, task_page
from tests.records.outcomes import succeeded
from tests.sampleapp.tasks import async_sleep
from tests.web.scene import QUEUES, WORKERS, Scene
from tests.web.test_edit import bury, sent

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from django_taskq.broker import Broker
    from tests.browser.conftest import Open
    from tests.conftest import StartWorker

pytestmark = [pytest.mark.services, pytest.mark.slow]
both = pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=re.compile(f"^{name}")).first.click()


def follow(page: Page, name: str) -> None:
    page.get_by_role("link", name=re.compile(f"^{name}")).first.click()


def says(page: Page, text: str) -> None:
    expect(page.locator("#main")).to_contain_text(text)


def states() -> list[str]:
    return list(DeadTask.objects.order_by("pk").values_list("state", flat=True))


# --- queues -----------------------------------------------------------------------------------------------------------


@both
def test_pause_and_resume(open_page: Open, scene: Scene, script: bool) -> None:
    page = open_page(QUEUES, script=script)
    press(page, "Pause default")
    says(page, "paused")
    assert Inspector(scene.broker).queues(["default"])[0].paused
    press(page, "Resume default")
    expect(page.get_by_role("button", name="Pause default")).to_be_visible()
    assert not Inspector(scene.broker).queues(["default"])[0].paused


@both
def test_purge_asks_for_the_name(open_page: Open, scene: Scene, script: bool) -> None:
    ids = [*scene.shard.seed_waiting(3), *scene.shard.seed_scheduled(2)]
    page = open_page(QUEUES, script=script)
    follow(page, "Purge… default")
    says(page, "This cancels 5 tasks of the queue default")
    page.get_by_role("textbox").fill("defualt")
    press(page, "Purge")
    says(page, "That is not the name of the queue. Nothing was changed.")
    assert None not in scene.shard.states(ids)
    page.get_by_role("textbox").fill("default")
    press(page, "Purge")
    says(page, "5 tasks")
    assert {status for _, status in scene.shard.ended()} == {"cancelled"}


@both
def test_cancel_a_waiting_task(open_page: Open, scene: Scene, script: bool) -> None:
    scene.shard.seed_waiting(2)
    page = open_page(f"{QUEUES}default/change/", script=script)
    press(page, "Cancel")
    expect(page.get_by_role("button", name=re.compile("^Cancel"))).to_have_count(1)
    assert [status for _, status in scene.shard.ended()] == ["cancelled"]


# --- workers ----------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(240)
def test_a_real_worker_is_told_to_cancel_to_be_quiet_and_to_stop(
    open_page: Open, scene: Scene, worker: StartWorker
) -> None:
    worker()
    handle = async_sleep.delay(120)
    page = open_page(WORKERS)
    page.get_by_label("Refresh").select_option("2")
    press(page, "Cancel")
    says(page, "has been asked to end")
    with pytest.raises(TaskFailed, match="cancelled"):
        handle.get(timeout=30)
    press(page, "Quiet")
    says(page, "has been asked to be quiet")
    expect(page.locator(".tq-worker .tq-badge")).to_contain_text("quiet")
    press(page, "Stop")
    says(page, "has been asked to stop")
    expect(page.locator("#tq-live")).to_contain_text("No worker is alive.")


def test_workers_and_their_tasks_without_script(open_page: Open, scene: Scene) -> None:
    hand = scene.worker("w-alpha")
    scene.run(hand)
    page = open_page(WORKERS, script=False)
    expect(page.get_by_label("Refresh")).to_be_hidden()
    press(page, "Cancel")
    says(page, "has been asked to end")
    press(page, "Quiet w-alpha")
    says(page, "Worker w-alpha has been asked to be quiet")
    press(page, "Stop w-alpha")
    says(page, "Worker w-alpha has been asked to stop")
    asked = [request.split(" ")[0] for request in hand.beat() or []]
    assert sorted(asked) == ["cancel", "quiet", "stop"]


def test_cancel_from_the_page_of_a_task(open_page: Open, scene: Scene) -> None:
    [id] = scene.shard.seed_waiting(1)
    page = open_page(task_page(id_to_str(id)))
    press(page, "Cancel")
    expect(page.locator("#tq-live")).to_contain_text("cancelled")
    assert [status for _, status in scene.shard.ended()] == ["cancelled"]


# --- dead letters -----------------------------------------------------------------------------------------------------


@both
def test_requeue_and_discard_one(open_page: Open, scene: Scene, script: bool) -> None:
    record(failure(0, scene.broker.time()), failure(1, scene.broker.time()))
    page = open_page(DEAD, script=script)
    page.get_by_role("link", name="shop.tasks.send_receipt").first.click()
    press(page, "Requeue")
    says(page, "1 dead letter requeued.")
    page.goto(DEAD)
    page.get_by_role("link", name="shop.tasks.resize_picture").first.click()
    press(page, "Discard")
    says(page, "1 dead letter discarded.")
    assert states() == ["requeued", "discarded"]
    assert len(scene.shard.lane()) == 1


@both
def test_requeue_the_selected(open_page: Open, scene: Scene, script: bool) -> None:
    record(*[failure(0, scene.broker.time() - n) for n in range(3)])
    page = open_page(DEAD, script=script)
    boxes = page.locator("#result_list input.action-select")
    boxes.nth(0).check()
    boxes.nth(2).check()
    page.get_by_label("Action:").select_option("requeue_selected")
    page.locator("#changelist-form button[name=index]").click()
    says(page, "2 dead letters requeued.")
    assert sorted(states()) == ["dead", "requeued", "requeued"]


@both
def test_requeue_a_group_and_discard_the_rest(open_page: Open, scene: Scene, script: bool) -> None:
    record(*[failure(kind, scene.broker.time() - kind) for kind in (0, 0, 0, 1, 2)])
    page = open_page(DEAD, script=script)
    follow(page, "Requeue… SMTPServerDisconnected")
    says(page, "Requeue 3 dead letters?")
    press(page, "Requeue 3")
    says(page, "Finished. 3 of 3 looked at. 3 requeued.")
    page.goto(DEAD)
    follow(page, "Discard all that this list shows…")
    press(page, "Discard 2")
    says(page, "Finished. 2 of 2 looked at. 2 discarded.")
    assert states() == [*["requeued"] * 3, *["discarded"] * 2]


@both
def test_many_are_requeued_in_slices_with_progress(
    open_page: Open, scene: Scene, script: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.admin.bulk.SLICE", 0)
    monkeypatch.setattr("django_taskq.admin.bulk.SCRIPTED", 0)
    record(*[failure(0, scene.broker.time() - n) for n in range(1200)])
    page = open_page(f"{DEAD}bulk/requeue/", script=script)
    seen = []
    page.on("response", lambda response: seen.append(response.url))
    press(page, "Requeue 1,?200")
    while not script and page.get_by_role("button", name="Continue").count():
        assert 0 < float(page.locator("progress").get_attribute("value") or 0) <= 100
        press(page, "Continue")
    says(page, "Finished.")
    says(page, "1200 requeued.")
    assert len([url for url in seen if "/bulk/requeue/" in url]) > 1
    assert set(states()) == {"requeued"}


@both
def test_edit_and_requeue(open_page: Open, broker: Broker, script: bool) -> None:
    dead = bury()
    page = open_page(f"{DEAD}{dead.pk}/change/", script=script)
    follow(page, "Edit and requeue…")
    page.locator("#id_args").fill("[1")
    press(page, "Requeue with these arguments")
    expect(page.get_by_role("alert").first).to_be_visible()
    expect(page.locator("#id_args")).to_have_value("[1")
    page.watch.forgive("422")  # type: ignore[attr-defined]
    page.locator("#id_args").fill("[3, 4]")
    press(page, "Requeue with these arguments")
    says(page, "Requeued as run 2 with edited arguments.")
    message = sent(broker, dead)
    assert message is not None
    assert message.args == b"[3,4]"


# --- records and tokens -----------------------------------------------------------------------------------------------


@both
def test_search_by_id_and_by_argument(open_page: Open, scene: Scene, script: bool) -> None:
    wanted = succeeded(kwargs=b'{"user_id":42}', task="shop.wanted")
    record(wanted, *[succeeded(kwargs=b'{"user_id":7}') for _ in range(3)])
    page = open_page(RESULTS, script=script)
    for term in ("user_id:42", id_to_str(wanted.id)):
        page.locator("#searchbar").fill(term)
        page.locator("#changelist-search [type=submit]").click()
        expect(page.locator("#result_list tbody tr")).to_have_count(1)
        expect(page.locator("#result_list")).to_contain_text("shop.wanted")


@both
def test_a_token_is_created_and_shown_once(open_page: Open, script: bool) -> None:
    page = open_page(TOKENS, script=script)
    page.locator(".object-tools a").first.click()
    page.get_by_label("Name:").fill("deployment")
    page.locator("[name=_save]").click()
    says(page, "It is shown this once")
    text = page.locator(".tq-code").first.inner_text().strip()
    row = tokens.find(text)
    assert row == ApiToken.objects.get()
    assert row.name == "deployment"


def test_a_call_is_copied(open_page: Open, scene: Scene) -> None:
    record(succeeded(task="shop.tasks.send_receipt"))
    page = open_page(RESULTS)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.locator("#result_list tbody a").first.click()
    page.get_by_text("As Python").click()
    press(page, "Copy")
    expect(page.get_by_text("Copied.")).to_be_visible()
    assert ".delay(" in page.evaluate("navigator.clipboard.readText()")


def test_the_index_leads_to_every_page(open_page: Open, scene: Scene) -> None:
    page = open_page("/admin/")
    for name in ("overview", "queue", "worker", "tasktype", "deadtask", "taskresult", "apitoken"):
        expect(page.locator(f"#content-main a[href='{ADMIN}{name}/']").first).to_be_visible()
