"""Settings, pages and a run of a site with django-debug-toolbar.

python -m tests.web.toolbar_site     (broker from the environment; prints what the panel recorded of each page, as JSON)
"""

from __future__ import annotations

import json
import os
from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import INSTALLED_APPS as OF_TESTS
from tests.settings import TASKQ as TASKQ_OF_TESTS

INSTALLED_APPS = [*OF_TESTS, "debug_toolbar"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
TASKQ = {**TASKQ_OF_TESTS, "BROKER": os.environ["REDIS_URL"]}
DEBUG = True
MIDDLEWARE = ["debug_toolbar.middleware.DebugToolbarMiddleware"]
ROOT_URLCONF = "tests.web.toolbar_urls"
DEBUG_TOOLBAR_PANELS = ["django_taskq.debug_toolbar.TaskqPanel"]
DEBUG_TOOLBAR_CONFIG = {"SHOW_TOOLBAR_CALLBACK": lambda request: True, "IS_RUNNING_TESTS": False}


def main() -> None:
    import django
    from django.core.management import call_command

    django.setup()
    call_command("migrate", verbosity=0)
    from django.test import Client
    from django.utils import translation

    client = Client(SERVER_NAME="localhost")
    seen = {path: look(client, path) for path in ("sends", "nothing")}
    with translation.override("de"):
        seen["sealed"] = look(client, "sealed")
    print(json.dumps(seen))


def look(client: Any, path: str) -> dict[str, Any]:
    from debug_toolbar.store import get_store

    page = client.get(f"/{path}/").text
    request_id = list(get_store().request_ids())[-1]
    panel = client.get(f"/__debug__/render_panel/?request_id={request_id}&panel_id=TaskqPanel").json()["content"]
    return {"page": page, "panel": panel, **get_store().panel(request_id, "TaskqPanel")}


if __name__ == "__main__":
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.web.toolbar_site"
    main()
