"""The main actions by keyboard alone, with a focus that can be seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from django_taskq.broker.inspector import Inspector
from django_taskq.models import DeadTask
from tests.browser.chromium import PHONE, expect
from tests.browser.sights import DEAD, failure, record
from tests.web.scene import OVERVIEW, QUEUES, WORKERS, Scene

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Open

pytestmark = [pytest.mark.services, pytest.mark.slow]

FOCUSED = """() => {
  const element = document.activeElement, style = getComputedStyle(element);
  const shown = (style.outlineStyle !== "none" && parseFloat(style.outlineWidth) > 0) || style.boxShadow !== "none"
    || style.textDecorationLine.includes("underline");
  const name = element.getAttribute("aria-label") || element.textContent || element.id;
  return [name.trim().replace(/\\s+/g, " "), shown];
}"""
MOST = 150  # presses of Tab


def tab_to(page: Page, name: str) -> None:
    """Presses Tab until that has focus. Inside the page's own part each stop must be seen."""
    stops = []
    for _ in range(MOST):
        page.keyboard.press("Tab")
        found, shown = page.evaluate(FOCUSED)
        stops.append(found)
        ours = page.evaluate("document.activeElement.closest('#content-main') !== null")
        assert shown or not ours, f"nobody sees that {found!r} has focus"
        if found.startswith(name):
            return
    raise AssertionError(f"Tab does not reach {name!r}: {stops}")


def test_pause_a_queue(open_page: Open, scene: Scene) -> None:
    page = open_page(QUEUES)
    tab_to(page, "Pause default")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Resume default")).to_be_visible()
    assert Inspector(scene.broker).queues(["default"])[0].paused


def test_purge_a_queue(open_page: Open, scene: Scene) -> None:
    scene.shard.seed_waiting(2)
    page = open_page(QUEUES)
    tab_to(page, "Purge… default")
    page.keyboard.press("Enter")
    page.wait_for_url("**/purge/")
    tab_to(page, "tq-confirmation")
    page.keyboard.type("default")
    page.keyboard.press("Enter")
    page.wait_for_url("**/change/")
    assert {status for _, status in scene.shard.ended()} == {"cancelled"}


def test_requeue_a_group(open_page: Open, scene: Scene) -> None:
    record(*[failure(0, scene.broker.time()) for _ in range(2)], failure(1, scene.broker.time()))
    page = open_page(DEAD)
    tab_to(page, "Requeue… SMTP")
    page.keyboard.press("Enter")
    page.wait_for_url("**/bulk/requeue/**")
    tab_to(page, "Requeue 2")
    page.keyboard.press("Enter")
    expect(page.locator("#main")).to_contain_text("Finished.")
    assert DeadTask.objects.filter(state="requeued").count() == 2


def test_stop_a_worker_on_a_phone(open_page: Open, scene: Scene) -> None:
    hand = scene.worker("w-alpha")
    page = open_page(WORKERS, viewport=PHONE)
    tab_to(page, "Stop w-alpha")
    page.keyboard.press("Space")
    expect(page.locator("#main")).to_contain_text("Worker w-alpha has been asked to stop")
    assert hand.beat() == ["stop"]


def test_a_table_of_numbers_is_opened_and_the_interval_chosen(open_page: Open, scene: Scene) -> None:
    scene.past(1, succeeded=5)
    page = open_page(OVERVIEW)
    tab_to(page, "2 s")
    page.keyboard.press("Home")
    expect(page.get_by_label("Refresh")).to_have_value("2")
    tab_to(page, "As a table")
    page.keyboard.press("Enter")
    expect(page.locator("details.tq-as-table").first).to_have_attribute("open", "")
