"""`python -m tests.browser.screenshots DIRECTORY`: pictures of the pages on a busy day, for the documentation."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")

import django
from django.conf import settings
from django.core.management import call_command
from django.test import override_settings

from tests.browser import chromium
from tests.servers import RedisServer

SHOTS: dict[str, tuple[str, dict[str, Any]]] = {
    "overview": ("overview", {}),
    "overview-dark": ("overview", {"color_scheme": "dark"}),
    "queues": ("queues", {}),
    "workers": ("workers", {}),
    "task-types": ("types", {}),
    "limits": ("limits", {}),
    "dead-letters": ("dead", {}),
    "task": ("failure", {}),
    "running": ("running", {}),
    "results": ("results", {}),
    "periodic-tasks": ("periodic", {}),
    "periodic-task": ("periodic_task", {}),
    "phone": ("overview", {"viewport": chromium.PHONE, "color_scheme": "dark"}),
    "dead-letters-phone": ("dead", {"viewport": chromium.PHONE}),
    "task-phone": ("failure", {"viewport": chromium.PHONE}),
}


def addresses() -> tuple[dict[str, str], Any, Any]:
    """A filled site: which page is where, who may see it, and what keeps its workers alive."""
    from django.contrib.auth.models import User

    from django_taskq.broker import get_broker
    from django_taskq.models import PeriodicTask
    from tests.browser import sights
    from tests.web.scene import LIMITS, OVERVIEW, QUEUES, TYPES, WORKERS, Scene

    call_command("migrate", verbosity=0)
    user = User.objects.create_superuser("operator", password="x")
    seen = sights.fill(Scene(get_broker()), user)
    pages = {
        "overview": OVERVIEW,
        "queues": QUEUES,
        "workers": WORKERS,
        "types": TYPES,
        "limits": LIMITS,
        "results": sights.RESULTS,
    }
    tasks = {"failure": f"{sights.DEAD}{seen.dead}/change/", "running": sights.task_page(seen.running)}
    row = PeriodicTask.objects.get(changed=True)
    periodic = {"periodic": sights.PERIODIC, "periodic_task": f"{sights.PERIODIC}{row.pk}/change/"}
    return {**pages, **tasks, **periodic, "dead": sights.DEAD}, user, seen


def shoot(directory: Path, urls: dict[str, str], user: Any, seen: Any) -> None:
    """One file a picture."""
    from pytest_django.live_server_helper import LiveServer

    server = LiveServer("localhost")
    with chromium.chromium() as browser:
        for name, (page_name, options) in SHOTS.items():
            context = browser.new_context(base_url=server.url, **{"viewport": chromium.WIDE, **options})
            chromium.log_in(context, server.url, user)
            page = context.new_page()
            seen.beat()
            page.goto(urls[page_name], wait_until="networkidle")
            page.evaluate("document.querySelector('#toggle-nav-sidebar')?.click()")
            page.wait_for_timeout(400)
            page.screenshot(path=str(directory / f"{name}.png"))
            context.close()
    server.stop()


def main(directory: Path) -> None:
    django.setup()
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        settings.DATABASES["default"]["NAME"] = str(Path(place, "site.sqlite3"))
        redis = RedisServer(Path(place))
        redis.start()
        taskq = {**settings.TASKQ, "BROKER": redis.url, "QUEUES": {"default": {}, "mail": {}}}
        try:
            with override_settings(TASKQ=taskq, ALLOWED_HOSTS=["localhost"]):
                shoot(directory, *addresses())
        finally:
            redis.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
