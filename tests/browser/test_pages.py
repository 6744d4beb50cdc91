"""Every page, with data and without: light and dark, wide and on a phone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import PHONE, WIDE
from tests.browser.inspection import barriers, sticks_out
from tests.browser.sights import empty_pages, fill

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from playwright.sync_api import Page
    from pytest_django.fixtures import SettingsWrapper

    from tests.browser.conftest import Open
    from tests.web.scene import Scene

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(600)]


# The theme changes colours only: for one of the two at each width the other rules have nothing new to say.
COLOURS_ALONE = {("wide", "dark"), ("phone", "light")}


def faults(page: Page, url: str) -> list[str]:
    """What is wrong with the page, whatever it is looked at with."""
    response = page.goto(url)
    assert response is not None
    assert response.ok, (url, response.status)
    assert response.headers["content-security-policy"] == "default-src 'self'"
    page.wait_for_load_state("networkidle")
    found = [f"{url}: {problem}" for problem in page.watch.problems]  # type: ignore[attr-defined]
    for name, size in (("wide", WIDE), ("phone", PHONE)):
        page.set_viewport_size(size)  # type: ignore[arg-type]
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            only = ["color-contrast"] if (name, scheme) in COLOURS_ALONE else None
            found += [f"{url} {name} {scheme}: {problem}" for problem in barriers(page, only)]
        found += [f"{url} {name} sticks out: {element}" for element in sticks_out(page)]
    page.watch.problems.clear()  # type: ignore[attr-defined]  # axe itself makes elements with styles
    return found


def test_pages_with_something_to_show(open_page: Open, scene: Scene, admin_user: User) -> None:
    sights = fill(scene, admin_user)
    page, found = open_page(), []
    for url in sights.urls:
        sights.beat()
        found += faults(page, url)
    assert not found, "\n".join(found)


def test_pages_with_nothing_to_show(open_page: Open, scene: Scene) -> None:
    page = open_page()
    found = [fault for url in empty_pages() for fault in faults(page, url)]
    assert not found, "\n".join(found)


READ_FROM_THE_LEFT = """
    [...document.querySelectorAll('.tq-id, .tq-time, .tq-span, .tq-code')]
        .filter((element) => element.textContent.trim() && getComputedStyle(element).direction !== 'ltr')
        .map((element) => element.outerHTML.slice(0, 100))
"""


def test_pages_from_right_to_left(open_page: Open, scene: Scene, admin_user: User, settings: SettingsWrapper) -> None:
    """In Hebrew, into which nothing of ours is translated: ids, times, spans and code still read as they are."""
    settings.LANGUAGE_CODE = "he"
    sights = fill(scene, admin_user)
    page, found = open_page(), []
    for url in sights.urls:
        sights.beat()
        page.goto(url)
        page.wait_for_load_state("networkidle")
        assert page.evaluate("document.documentElement.dir") == "rtl"
        found += [f"{url} reads the wrong way: {element}" for element in page.evaluate(READ_FROM_THE_LEFT)]
        for size in (WIDE, PHONE):
            page.set_viewport_size(size)  # type: ignore[arg-type]
            found += [f"{url} {size['width']} sticks out: {element}" for element in sticks_out(page)]
    assert not found, "\n".join(found)
