"""The live part of a page: it changes without a reload, disturbs nobody, rests, backs off and says how old it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import expect
from tests.servers import RedisServer
from tests.web.scene import OVERVIEW, QUEUES, WORKERS, Scene

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from tests.browser.conftest import Open

pytestmark = [pytest.mark.services, pytest.mark.slow]

HIDE = """hidden => {
  Object.defineProperty(document, "hidden", { value: hidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


def every(page: Page, seconds: int) -> None:
    page.get_by_label("Refresh").select_option(str(seconds))


def fetched(page: Page) -> list[str]:
    """Grows with each refresh."""
    seen: list[str] = []
    page.on("request", lambda request: seen.append(request.url) if request.resource_type == "fetch" else None)
    return seen


def card(page: Page, label: str) -> object:
    return expect(page.locator(".tq-card").filter(has_text=label).locator(".tq-card-value"))


def test_numbers_change_without_a_reload(open_page: Open, scene: Scene) -> None:
    page = open_page(OVERVIEW)
    page.evaluate("window.untouched = true")
    every(page, 2)
    card(page, "Queued").to_have_text("0")  # type: ignore[attr-defined]
    scene.shard.seed_waiting(3)
    card(page, "Queued").to_have_text("3")  # type: ignore[attr-defined]
    assert page.evaluate("window.untouched")


def test_the_status_says_how_old_the_numbers_are(open_page: Open, scene: Scene) -> None:
    page = open_page(OVERVIEW)
    every(page, 60)
    expect(page.get_by_role("status")).to_contain_text("Updated 2 s ago")
    every(page, 0)
    expect(page.get_by_role("status")).to_contain_text("Not refreshed")


def test_the_choice_of_an_interval_is_kept(open_page: Open, scene: Scene) -> None:
    page = open_page(OVERVIEW)
    every(page, 15)
    page.goto(QUEUES)
    expect(page.get_by_label("Refresh")).to_have_value("15")
    page.reload()
    expect(page.get_by_label("Refresh")).to_have_value("15")


def test_off_and_hidden_ask_for_nothing(open_page: Open, scene: Scene) -> None:
    page = open_page(OVERVIEW)
    every(page, 2)
    page.evaluate(HIDE, True)
    page.wait_for_timeout(500)  # one that was under way
    seen = fetched(page)
    page.wait_for_timeout(3500)
    assert seen == []
    with page.expect_request(lambda request: request.resource_type == "fetch"):
        page.evaluate(HIDE, False)
    every(page, 0)
    page.wait_for_timeout(500)
    seen.clear()
    page.wait_for_timeout(3000)
    assert seen == []


def test_focus_scrolling_and_open_tables_stay(open_page: Open, scene: Scene) -> None:
    scene.past(1, succeeded=5)
    page = open_page(OVERVIEW)
    every(page, 2)
    page.locator("details.tq-as-table summary").first.click()
    link = page.locator(".tq-choice a").last
    link.focus()
    page.evaluate("window.scrollTo(0, 200)")
    scene.shard.seed_waiting(4)
    card(page, "Queued").to_have_text("4")  # type: ignore[attr-defined]
    expect(link).to_be_focused()
    assert page.evaluate("window.scrollY") == 200
    expect(page.locator("details.tq-as-table").first).to_have_attribute("open", "")


def test_focus_on_a_button_stays_while_its_row_changes(open_page: Open, scene: Scene) -> None:
    page = open_page(QUEUES)
    every(page, 2)
    button = page.get_by_role("button", name="Pause default")
    button.focus()
    scene.shard.seed_waiting(3)
    expect(page.locator("tr[data-key=default] .tq-strong")).to_have_text("3")
    expect(button).to_be_focused()


def test_a_form_that_is_being_filled_in_keeps_still(open_page: Open, scene: Scene) -> None:
    scene.shard.seed_waiting(1)
    page = open_page(f"{QUEUES}default/purge/")
    page.get_by_role("textbox").fill("defa")
    seen = fetched(page)
    scene.shard.seed_waiting(5)
    page.wait_for_timeout(6000)
    expect(page.get_by_role("textbox")).to_have_value("defa")
    assert seen == []


def test_the_site_away(open_page: Open, scene: Scene) -> None:
    page = open_page(OVERVIEW)
    every(page, 2)
    seen = fetched(page)
    page.context.set_offline(True)
    alert = page.locator("#tq-trouble")
    expect(alert).to_contain_text("The site does not answer. The next attempt is in 4 s.")
    expect(alert).to_contain_text("The next attempt is in 8 s.")
    assert len(seen) == 2
    page.context.set_offline(False)
    expect(alert).to_have_text("")
    page.watch.forgive("ERR_INTERNET_DISCONNECTED")  # type: ignore[attr-defined]


def test_redis_away(open_page: Open, scene: Scene, redis_server: RedisServer) -> None:
    scene.worker()
    scene.shard.seed_waiting(2)
    page = open_page(OVERVIEW)
    every(page, 2)
    card(page, "Queued").to_have_text("2")  # type: ignore[attr-defined]
    redis_server.stop()
    expect(page.locator("#tq-live")).to_contain_text("Redis has not answered since")
    card(page, "Queued").to_have_text("2")  # type: ignore[attr-defined]
    redis_server.start()
    expect(page.locator("#tq-live")).not_to_contain_text("Redis has not answered since")


def test_whoever_has_signed_out_is_told(open_page: Open, scene: Scene) -> None:
    page = open_page(WORKERS)
    page.context.clear_cookies()
    every(page, 2)
    expect(page.locator("#tq-trouble")).to_contain_text("You are signed out")
