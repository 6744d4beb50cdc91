"""Workers: who is alive, what they run, who is lost, and the buttons."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_taskq.core.progress import Progress
from tests.conftest import StartWorker
from tests.sampleapp.tasks import sleep
from tests.servers import wait_for
from tests.web.conftest import Allowed
from tests.web.scene import OVERVIEW, QUEUES, TYPES, WORKERS, Scene, look_anew, page, words

pytestmark = pytest.mark.django_db


def control(worker: str) -> str:
    return f"{WORKERS}{worker}/control/"


def test_a_worker_is_described(admin: Client, scene: Scene) -> None:
    scene.worker("w-alpha", settled=1234, version="0.1.0", python="3.12.1", django="5.2.3", **{"async": 200})
    content = words(page(admin, WORKERS))
    for shown in (
        "1 process is alive, 0 is busy", "web-1", "pid 4711", "w-alpha", "default, mail", "67 MB", "1,234", "running",
        "on 4 threads and 200 coroutines", "0.1.0, Python 3.12.1, Django 5.2.3",
    ):  # fmt: skip
        assert shown in content, shown


def test_weights_stand_beside_the_queues(admin: Client, scene: Scene) -> None:
    scene.worker("w-alpha", weights="6,1")
    assert "default:6, mail:1" in words(page(admin, WORKERS))


def test_running_tasks_with_their_progress(admin: Client, scene: Scene) -> None:
    hand = scene.worker()
    id = scene.run(hand, Progress(3, 4, "resizing"), task="shop.resize", queue="mail")
    content = page(admin, WORKERS)
    assert '<progress max="100" value="75"' in content
    for shown in ("shop.<wbr>resize", "resizing", id, "42 s", f"{WORKERS}task/{id}/cancel/"):
        assert shown in content, shown


def test_tasks_lead_to_their_pages_for_whoever_may_see_them(admin: Client, allowed: Allowed, scene: Scene) -> None:
    id = scene.run(scene.worker())
    there = f"/admin/django_taskq/taskresult/{id}/change/"
    for url in (OVERVIEW, WORKERS, f"{QUEUES}default/change/"):
        assert there in page(admin, url)
    assert admin.get(there).status_code == 200
    monitor = allowed("monitor")
    for url in (OVERVIEW, WORKERS, QUEUES, TYPES, f"{QUEUES}default/change/"):
        assert "/taskresult/" not in page(monitor, url)
        assert "/deadtask/" not in page(monitor, url)


def test_progress_without_an_end(admin: Client, scene: Scene) -> None:
    scene.run(scene.worker(), Progress(17, None, ""))
    content = page(admin, WORKERS)
    assert "17" in words(content)
    assert "<progress" not in content


def test_without_workers_it_says_how_to_start_one(admin: Client, scene: Scene) -> None:
    content = page(admin, WORKERS)
    assert "No worker is alive." in content
    assert "manage.py taskq_worker" in content


def test_lost_workers_are_apart_and_without_buttons(admin: Client, scene: Scene) -> None:
    scene.worker("w-alive")
    silent, dead = scene.worker("w-silent"), scene.worker("w-dead")
    scene.silence(silent, 8)
    assert scene.shard.workers.declare_dead(dead.name, None, [])
    response = admin.get(WORKERS)
    assert [row["id"] for row in response.context["rows"]] == ["w-alive"]
    assert {row["id"]: row["state"] for row in response.context["lost"]} == {"w-silent": "silent", "w-dead": "lost"}
    content = response.content.decode()
    assert control("w-alive") in content
    assert control("w-silent") not in content
    assert control("w-dead") not in content


def test_quiet_and_stop_leave_a_request(admin: Client, scene: Scene) -> None:
    hand = scene.worker("w-alpha")
    for what in ("quiet", "stop"):
        content = admin.post(control("w-alpha"), {"what": what}, follow=True).content.decode()
        assert f"Worker w-alpha has been asked to {'be quiet' if what == 'quiet' else 'stop'}" in content
    assert scene.shard.workers.beat([]) == {}
    assert hand.beat() == ["quiet", "stop"]
    assert [entry.object_id for entry in LogEntry.objects.all()] == ["w-alpha", "w-alpha"]


def test_a_worker_that_is_gone(admin: Client, scene: Scene) -> None:
    assert b"is not there any more" in admin.post(control("nobody"), {"what": "stop"}, follow=True).content
    assert admin.post(control("nobody"), {"what": "explode"}).status_code == 400
    assert not LogEntry.objects.exists()


def test_a_running_task_is_asked_to_end(admin: Client, scene: Scene) -> None:
    hand = scene.worker()
    id = scene.run(hand)
    cancel = f"{WORKERS}task/{id}/cancel/"
    content = admin.post(cancel, follow=True).content.decode()
    assert f"Task {id} has been asked to end." in content
    assert '<span aria-hidden="true">▲</span> asked to end' in content
    assert cancel not in content
    assert any(request.startswith("cancel ") for request in hand.beat() or [])
    assert [entry.object_id for entry in LogEntry.objects.all()] == [id]
    assert admin.post(f"{WORKERS}task/nonsense/cancel/").status_code == 400
    unknown = f"{WORKERS}task/{id[:-4]}0000/cancel/"
    assert b"The task has ended already." in admin.post(unknown, follow=True).content


def test_buttons_need_their_permissions_and_posts(allowed: Allowed, scene: Scene) -> None:
    id = scene.run(scene.worker())
    reader = allowed("monitor")
    content = page(reader, WORKERS)
    assert "/control/" not in content
    assert "/cancel/" not in content
    assert reader.post(control("w1"), {"what": "stop"}).status_code == 403
    assert reader.post(f"{WORKERS}task/{id}/cancel/").status_code == 403
    assert allowed("control").post(control("w1"), {"what": "stop"}).status_code == 403
    controller = allowed("monitor", "control")
    assert controller.get(control("w1")).status_code == 405
    assert control("w1") in page(controller, WORKERS)
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = controller.cookies
    assert strict.post(control("w1"), {"what": "stop"}).status_code == 403
    assert not LogEntry.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_real_worker_is_quieted_within_two_seconds(admin: Client, scene: Scene, worker: StartWorker) -> None:
    process = worker()
    handle = sleep.delay(3)
    [name] = process.ids

    def rows() -> list[dict[str, object]]:
        look_anew(scene.broker)
        return list(admin.get(WORKERS).context["rows"])

    wait_for(lambda: rows()[0]["running"], 5)
    admin.post(control(name), {"what": "quiet"})
    wait_for(lambda: rows()[0]["state"] == "quiet", 4)
    handle.get(timeout=10)
