"""Debian's Chromium, driven by Playwright. Both are imported late: only `make test-services` installs them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest import mock

from django.conf import settings

if TYPE_CHECKING:
    from django.contrib.auth.models import User
    from playwright.sync_api import Browser, BrowserContext, Locator, LocatorAssertions, Page, PageAssertions

WIDE, PHONE = {"width": 1400, "height": 900}, {"width": 390, "height": 844}
PATIENCE = 20_000  # ms; tells a hang from a busy machine
FLAGS = ["--disable-gpu", "--disable-quic", "--disable-sync", "--disable-background-networking"]


@contextmanager
def chromium() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    assert path, "Debian's package chromium is not installed"
    # As long as Playwright runs, its thread looks to Django as if it were inside an event loop.
    with mock.patch.dict(os.environ, DJANGO_ALLOW_ASYNC_UNSAFE="1"), sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        browser.close()


def log_in(context: BrowserContext, url: str, user: User) -> None:
    """Gives the browser a session of this user."""
    from django.test import Client

    client = Client()
    client.force_login(user)
    name = settings.SESSION_COOKIE_NAME
    context.add_cookies([{"name": name, "value": client.cookies[name].value, "url": url}])


def expect(subject: Page | Locator) -> Any:
    from playwright.sync_api import expect

    expect.set_options(timeout=PATIENCE)
    found: PageAssertions | LocatorAssertions = expect(subject)
    return found
