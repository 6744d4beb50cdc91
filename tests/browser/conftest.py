"""Fixtures: one Chromium for the tests of this directory, the site under a strict policy, and pages that fail their
test on any error.

Chromium ends with the last of these tests: while Playwright runs, nothing else in its thread can have an event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.conf import settings as django_settings
from django.test import override_settings
from pytest_django.live_server_helper import LiveServer

from tests.browser import chromium
from tests.browser.watch import Watch
from tests.web.conftest import scene

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from playwright.sync_api import Browser, Page

__all__ = ["scene"]
Open = Callable[..., "Page"]


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    with chromium.chromium() as browser:
        yield browser


@pytest.fixture(scope="package")
def live_server(django_db_setup: None) -> Iterator[LiveServer]:
    """pytest-django's, with the policy on top."""
    middleware = ["tests.browser.policy.StrictPolicy", *django_settings.MIDDLEWARE]
    with override_settings(MIDDLEWARE=middleware):
        server = LiveServer("localhost")
    yield server
    server.stop()


@pytest.fixture
def open_page(browser: Browser, live_server: LiveServer, transactional_db: None, admin_user: User) -> Iterator[Open]:
    """Opens a tab of the administrator's: open_page(url, script=True, viewport=...). Errors in it fail the test."""
    contexts, watches = [], []

    def open(url: str = "", *, script: bool = True, **options: Any) -> Page:
        options = {"viewport": chromium.WIDE, **options}
        context = browser.new_context(base_url=live_server.url, java_script_enabled=script, **options)
        context.set_default_timeout(chromium.PATIENCE)
        contexts.append(context)
        chromium.log_in(context, live_server.url, admin_user)
        page = context.new_page()
        watch = Watch(page)
        watches.append(watch)
        page.watch = watch  # type: ignore[attr-defined]
        if url:
            page.goto(url)
        return page

    yield open
    for context in contexts:
        context.close()
    assert [watch.problems for watch in watches] == [[] for _ in watches]
