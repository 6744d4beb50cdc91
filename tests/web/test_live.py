"""What all live pages have in common: who sees them, what they cost, and that they work on a bad day."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.admin import AdminSite
from django.contrib.auth.models import User
from django.test import Client
from django.urls import include, path

from django_taskq.admin import register
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.core.progress import Progress
from django_taskq.models import DeadTask, Overview, Queue
from tests.records.outcomes import failed
from tests.servers import RedisServer
from tests.web.conftest import Allowed, record
from tests.web.scene import (
    ESCAPED,
    HOSTILE,
    LIMITS,
    LIVE,
    OVERVIEW,
    QUEUES,
    TYPES,
    WORKERS,
    Scene,
    counting,
    look_anew,
    page,
)  # fmt: skip

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db
each_page = pytest.mark.parametrize("url", [*LIVE, f"{QUEUES}default/change/", f"{QUEUES}default/purge/"])

ops = AdminSite(name="ops")
register(ops)
small = AdminSite(name="small")
small.register(Overview, ops.get_model_admin(Overview).__class__)
urlpatterns = [path("ops/", ops.urls), path("small/", small.urls), path("", include("testproject.urls"))]


def busy(scene: Scene, text: str = "", queues: int = 2) -> None:
    """Something of everything; `text` wherever somebody else chooses the words."""
    hand = scene.worker(host=text or "web-1", version=text)
    scene.run(hand, Progress(1, 2, text), task=f"shop.{text}runs")
    scene.limited(scene.worker("w-limited"), f"task:shop.{text}syncs:{text}", 3, task=f"shop.{text}syncs")
    scene.fail_breaker(text or "crm")
    Inspector(scene.broker).pause_task(f"shop.{text}rests")
    scene.shard.seed_waiting(2, task=f"shop.{text}waits")
    scene.shard.seed_scheduled(2, task=f"shop.{text}later")
    scene.silence(scene.worker(f"w{text}2", host=f"lost{text}"), 10)
    for minute in range(70):
        scene.past(minute, task=f"shop.{text}sends", succeeded=20, failed=5)
        scene.depth(5, *(f"default{number or ''}" for number in range(queues)), minutes_ago=minute)


# --- who sees them --------------------------------------------------------------------------------------------------


@each_page
def test_without_the_permission_there_is_nothing_to_see(url: str, allowed: Allowed, scene: Scene) -> None:
    assert allowed("view_taskresult", "purge", "pause").get(url).status_code == 403
    assert Client().get(url).status_code == 302
    assert Client().get(url, headers={"X-Taskq-Fragment": "1"}).status_code == 302


def test_the_index_lists_them_for_whoever_may_see_them(allowed: Allowed, scene: Scene) -> None:
    content = page(allowed("monitor"), "/admin/")
    for url in LIVE:
        assert f'href="{url}"' in content
        assert f"{url}add/" not in content
    content = page(allowed("view_taskresult"), "/admin/")
    assert not any(f'href="{url}"' in content for url in LIVE)


def test_there_are_no_rows_behind_them(admin: Client, scene: Scene) -> None:
    for url in LIVE:
        assert admin.get(f"{url}add/").status_code in {302, 404}
        assert admin.get(f"{url}1/delete/").status_code == 404
        assert admin.post(url, {"action": "delete_selected"}).status_code in {200, 405}


@pytest.mark.urls(__name__)
def test_a_site_of_ones_own_has_them_too(admin: Client, scene: Scene) -> None:
    busy(scene)
    for url in ("overview", "queue", "worker", "tasktype", "queue/default/change", "queue/default/purge"):
        content = page(admin, f"/ops/django_taskq/{url}/")
        assert "/ops/django_taskq/queue/" in content
        assert "/admin/django_taskq/" not in content
    response = admin.post("/ops/django_taskq/queue/default/pause/")
    assert response.headers["Location"] == "/ops/django_taskq/queue/default/change/"
    assert 'href="/ops/django_taskq/overview/"' in page(admin, "/ops/")


@pytest.mark.urls(__name__)
def test_a_site_with_one_page_has_no_links_to_others(admin: Client, scene: Scene) -> None:
    busy(scene)
    content = page(admin, "/small/django_taskq/overview/")
    assert not re.search(r'href="/(small|admin|ops)/django_taskq/(queue|worker|tasktype|deadtask)', content)


def test_they_are_no_tables_to_dump(db: None) -> None:
    assert Queue._meta.proxy
    assert Overview._meta.proxy


# --- what they cost -------------------------------------------------------------------------------------------------


@each_page
def test_a_page_costs_the_same_however_much_there_is(
    url: str, admin: Client, scene: Scene, settings: SettingsWrapper, monkeypatch: pytest.MonkeyPatch,
    django_assert_max_num_queries: Any,
) -> None:  # fmt: skip
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {name: {} for name in ("default", *(f"q{n}" for n in range(40)))}}
    scene = Scene(get_broker())
    costs = []
    for _ in range(2):
        admin.get(url)  # what is read once by a process
        look_anew(scene.broker)
        with counting(monkeypatch) as sent, django_assert_max_num_queries(6):  # two for the outbox, where it is used
            admin.get(url)
        costs.append(sent())
        busy(scene, queues=40)
        for number in range(20):
            scene.run(scene.worker(f"more-{number}"), task=f"shop.many{number}")
            scene.shard.seed_waiting(10, queue=f"q{number}")
        record(*[failed() for _ in range(20)])
    few, many = costs
    assert few <= 20
    assert many <= few + 6  # running tasks, and whether they were asked to end
    scene.close()


@each_page
def test_a_second_look_within_a_second_costs_redis_nothing_but_messages(
    url: str, admin: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy(scene)
    monkeypatch.setattr("django_taskq.admin.look.FRESH", 60)
    monkeypatch.setattr("django_taskq.admin.history.FRESH", 60)
    admin.get(url)
    with counting(monkeypatch) as sent:
        admin.get(url)
    assert sent() <= (3 if "default/change" in url else 0)


def test_the_sites_cache_is_used_where_processes_share_it(
    admin: Client, scene: Scene, settings: SettingsWrapper, start_redis: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = start_redis()
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": cache.tcp_url}}
    monkeypatch.setattr("django_taskq.admin.look.FRESH", 60)
    broker = get_broker()
    scene = Scene(broker)
    scene.worker("w-before")
    assert "w-before" in page(admin, WORKERS)
    look_anew(broker)  # another process
    scene.worker("w-after")
    assert "w-after" not in page(admin, WORKERS)
    cache.kill()
    look_anew(broker)
    assert "w-after" in page(admin, WORKERS)
    scene.close()


# --- what they say --------------------------------------------------------------------------------------------------


@each_page
def test_hostile_texts_are_texts(url: str, admin: Client, scene: Scene) -> None:
    busy(scene, HOSTILE)
    scene.shard.seed_waiting(1, queue=HOSTILE)
    for query in ({}, {"span": "24h", "sort": "rate", "scheduled": "1"}, {"span": HOSTILE, "sort": HOSTILE}):
        content = page(admin, url, **query)
        assert "<script>alert" not in content
        if "purge" not in url:
            assert ESCAPED in content.replace("<wbr>", "")


@each_page
def test_no_page_needs_more_than_the_sites_own_files(url: str, admin: Client, scene: Scene) -> None:
    """What `default-src 'self'` would block: inline scripts, styles and handlers."""
    busy(scene)
    content = page(admin, url)
    main = content[content.index('id="content-main"') : content.index("</main>")]
    assert not re.search(r"<(script|style)|<[^>]*\s(style|on\w+)=|javascript:|url\(", main)
    for file in ("taskq.css", "live.css", "morph.js", "live.js"):
        assert f"django_taskq/{file}" in content


@each_page
def test_ids_are_unique_and_every_control_has_a_name(url: str, admin: Client, scene: Scene) -> None:
    busy(scene)
    content = page(admin, url)
    ids = re.findall(r'\sid="([^"]*)"', content)
    assert len(ids) == len(set(ids))
    main = content[content.index('id="content-main"') : content.index("</main>")]
    for button in re.findall(r"<button[^>]*>(.*?)</button>", main):
        assert re.sub(r"<[^>]*>", "", button).strip()


@each_page
def test_the_part_that_refreshes_is_only_that(url: str, admin: Client, scene: Scene) -> None:
    busy(scene)
    response = admin.get(url, headers={"X-Taskq-Fragment": "1"})
    content = response.content.decode()
    assert content.startswith('<div id="tq-live">')
    assert "<html" not in content
    assert "X-Taskq-Fragment" in response.headers["Vary"]
    assert "no-store" in response.headers["Cache-Control"]


def test_other_languages_and_right_to_left(admin: Client, scene: Scene, settings: SettingsWrapper) -> None:
    busy(scene)
    for language in ("de", "ar", "fa"):
        for url in LIVE:
            assert admin.get(url, headers={"Accept-Language": language}).status_code == 200


# --- a bad day ------------------------------------------------------------------------------------------------------


@pytest.fixture
def away(scene: Scene, redis_server: RedisServer) -> Iterator[Scene]:
    redis_server.kill()
    look_anew(scene.broker)
    yield scene
    redis_server.start()


@each_page
def test_redis_away_is_said_with_what_is_known(
    url: str, admin: Client, scene: Scene, redis_server: RedisServer
) -> None:
    busy(scene)
    before = page(admin, url)
    assert "Redis has not answered" not in before
    redis_server.kill()
    look_anew(scene.broker)
    for _ in range(2):
        content = page(admin, url)
        assert "Redis has not answered since" in content
        assert "The numbers below are those of" in content
        assert "cannot be reached" in content
    if url in LIVE:
        assert {
            OVERVIEW: "shop.<wbr>sends",
            QUEUES: "default",
            WORKERS: "web-1",
            TYPES: "shop.<wbr>sends",
            LIMITS: "shop.<wbr>syncs",
        }[url] in content
    redis_server.start()
    look_anew(scene.broker)
    assert "Redis has not answered" not in page(admin, url)


@each_page
def test_redis_away_from_the_start(url: str, admin: Client, away: Scene) -> None:
    content = page(admin, url)
    assert "Redis has not answered since" in content
    assert "The numbers below" not in content


def test_a_redis_that_does_not_even_refuse_is_not_waited_for_by_every_page(
    admin: Client, scene: Scene, redis_server: RedisServer
) -> None:
    busy(scene)
    page(admin, OVERVIEW)
    redis_server.freeze()
    try:
        look_anew(scene.broker)
        assert "Redis has not answered" in page(admin, WORKERS)
        look_anew(scene.broker)
        started = time.monotonic()
        assert "web-1" in page(admin, WORKERS)
        assert time.monotonic() - started < 2
    finally:
        redis_server.thaw()


def test_what_is_in_the_database_is_shown_all_the_same(admin: Client, away: Scene) -> None:
    record(failed())
    [card] = [card for card, _url in admin.get(OVERVIEW).context["cards"] if card.label == "Dead"]
    assert card.value == "1"
    assert admin.get(f"/admin/django_taskq/deadtask/{DeadTask.objects.get().pk}/change/").status_code == 200
    assert admin.get("/admin/django_taskq/taskresult/").status_code == 200


def test_buttons_say_that_redis_is_away(admin: Client, away: Scene) -> None:
    posts = [
        (f"{QUEUES}default/pause/", {}), (f"{QUEUES}default/resume/", {}),
        (f"{QUEUES}default/purge/", {"confirmation": "default"}),
        (f"{WORKERS}w1/control/", {"what": "stop"}),
    ]  # fmt: skip
    for url, data in posts:
        assert "cannot be reached" in admin.post(url, data, follow=True).content.decode(), url


def test_a_user_without_a_password_is_no_way_in(scene: Scene) -> None:
    user = User.objects.create_user("nostaff", password="x")
    user.is_superuser = True
    user.save()
    client = Client()
    client.force_login(user)
    for url in LIVE:
        assert client.get(url).status_code == 302
