"""Names, texts and arguments that somebody chose to do harm: every page shows them as text."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from django_taskq.broker.inspector import Inspector
from django_taskq.core.ids import id_to_str
from django_taskq.core.message import Attempt
from django_taskq.core.progress import Progress
from django_taskq.models import DeadTask
from tests.browser.inspection import sticks_out
from tests.browser.sights import DEAD, RESULTS, empty_pages, record, task_page
from tests.records.outcomes import failed, succeeded
from tests.web.scene import QUEUES, Scene

if TYPE_CHECKING:
    from tests.browser.conftest import Open

pytestmark = [pytest.mark.services, pytest.mark.slow, pytest.mark.timeout(240)]

TAGS = "<img class=evil src=x onerror=alert(1)><script class=evil>alert(1)</script></script>"
HOSTILE = f"\"'>{TAGS}{{{{7*7}}}}"
QUEUE = "q<i class=evil>"  # undeclared: the settings refuse it, Redis and the database do not


def hurt(scene: Scene) -> list[str]:
    """Fills every place a stranger's text can reach; the pages that show it."""
    arguments = json.dumps([HOSTILE, {HOSTILE: HOSTILE}]).encode()
    about = {"task": HOSTILE, "queue": QUEUE, "worker": HOSTILE, "args": arguments, "kwargs": arguments[:-1] + b"]"}
    error = {"error_class": HOSTILE, "error_message": HOSTILE * 9, "traceback": HOSTILE, "reason": "failed"}
    past = [Attempt(1, 1.0, 2.0, HOSTILE, "retry", HOSTILE, HOSTILE, HOSTILE)]
    good, bad = succeeded(**about, result=arguments), failed(**about, **error, history=past)
    record(good, bad)
    hand = scene.worker(HOSTILE, queues=("default", QUEUE), host=HOSTILE, version=HOSTILE, python=HOSTILE)
    running = scene.run(hand, Progress(1, 3, HOSTILE), task=HOSTILE, args=arguments, queue=QUEUE)
    waiting = id_to_str(scene.shard.seed_waiting(1, queue=QUEUE, task=HOSTILE, args=arguments)[0])
    scene.limited(hand, f"task:{HOSTILE}:{HOSTILE}", 2, task=HOSTILE)
    scene.fail_breaker(HOSTILE)
    Inspector(scene.broker).pause_task(HOSTILE)
    scene.past(1, task=HOSTILE, queue=QUEUE, succeeded=1, failed=2)
    scene.depth(3, QUEUE)
    dead = DeadTask.objects.get()
    return [
        *empty_pages(), f"{QUEUES}{quote(QUEUE)}/change/", f"{QUEUES}default/change/?blocked=1",
        f"{QUEUES}{quote(QUEUE)}/purge/", task_page(running),
        task_page(waiting), task_page(id_to_str(good.id)), task_page(id_to_str(bad.id)), f"{DEAD}{dead.pk}/change/",
        f"{DEAD}{dead.pk}/edit/", f"{DEAD}?q={quote(HOSTILE)}", f"{RESULTS}?q={quote('a:' + HOSTILE)}",
        f"{RESULTS}?task={quote(HOSTILE)}", f"{DEAD}?fingerprint={quote(HOSTILE)}",
    ]  # fmt: skip


def test_hostile_strings_are_text_everywhere(open_page: Open, scene: Scene) -> None:
    page, shown = open_page(), 0
    for url in hurt(scene):
        response = page.goto(url)
        assert response is not None
        assert response.status < 400, url
        page.wait_for_load_state("networkidle")
        assert page.locator(".evil").count() == 0, url
        assert page.locator("text=49").filter(has_text=HOSTILE[:3] + "49").count() == 0, url
        assert sticks_out(page) == [], url
        shown += "<script class=evil>" in page.locator("body").inner_text()
    assert shown > 8


def test_a_refresh_brings_text_only(open_page: Open, scene: Scene) -> None:
    page = open_page("/admin/django_taskq/worker/")
    page.get_by_label("Refresh").select_option("2")
    scene.run(scene.worker("w-late", host=HOSTILE), Progress(1, 3, HOSTILE), task=HOSTILE)
    page.get_by_text("w-late").first.wait_for()
    assert page.locator(".evil").count() == 0
    assert "<script class=evil>" in page.locator("#tq-live").inner_text()
