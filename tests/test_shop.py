"""The test project's pages: a form that sends tasks, a page that shows what became of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

from testproject.shop.pictures import draw_sample, make_thumbnail
from tests.servers import RedisServer, wait_for

EMAILS = {"work": "email", "count": 3, "delay": 0, "priority": 0}


@pytest.fixture(autouse=True)
def media(settings: Any, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "data/media"  # where the `worker` fixture's processes look


def statuses(client: Client) -> list[str]:
    return re.findall(r'class="status (\w+)"', client.get("/sent/").content.decode())


def test_the_form_sends_and_the_page_shows_how_it_goes(
    client: Client, broker: Any, worker: Any, tmp_path: Path
) -> None:
    answer = client.post("/", EMAILS)
    assert (answer.status_code, answer["Location"]) == (302, "/sent/")
    waiting = client.get("/sent/").content.decode()
    assert statuses(client) == ["queued"] * 3
    assert '<meta http-equiv="refresh"' in waiting

    worker(env={"EMAIL_FAILURE_RATE": "0"})
    wait_for(lambda: statuses(client) == ["succeeded"] * 3, 20, lambda: statuses(client))
    assert '<meta http-equiv="refresh"' not in client.get("/sent/").content.decode()
    mails = b"".join(path.read_bytes() for path in (tmp_path / "data/mails").iterdir())
    assert mails.count(b"\nTo: ") == 3


@pytest.mark.parametrize("work", ["email", "picture", "flaky", "failure", "supplier", "report"])
def test_every_kind_of_work_can_be_scheduled(client: Client, broker: Any, transactional_db: None, work: str) -> None:
    assert client.post("/", {"work": work, "count": 1, "delay": 600, "priority": 5}).status_code == 302
    assert statuses(client) == ["scheduled"]


def test_pages_hold_no_inline_script_or_style(client: Client, broker: Any, transactional_db: None) -> None:
    client.post("/", EMAILS)
    for page in ("/", "/sent/"):
        assert not re.search(r"<script|<style|\sstyle=|\son\w+=", client.get(page).content.decode())


def test_nothing_sent_yet(client: Client, transactional_db: None) -> None:
    assert "nothing yet" in client.get("/sent/").content.decode()


@pytest.mark.parametrize("wrong", [{"count": 0}, {"count": 101}, {"delay": -1}, {"priority": 101}, {"work": "magic"}])
def test_wrong_input_is_refused(client: Client, broker: Any, transactional_db: None, wrong: dict[str, Any]) -> None:
    answer = client.post("/", {**EMAILS, **wrong})
    assert answer.status_code == 400
    assert "errorlist" in answer.content.decode()


@pytest.mark.slow
def test_a_queue_that_is_away_is_said_not_thrown(
    client: Client, broker: Any, redis_server: RedisServer, transactional_db: None
) -> None:
    client.post("/", EMAILS)
    redis_server.stop()
    for answer in (client.post("/", EMAILS), client.get("/sent/")):
        assert answer.status_code == 503
        assert "is away" in answer.content.decode()


def test_a_thumbnail_is_smaller_marked_and_a_jpeg(tmp_path: Path) -> None:
    from PIL import Image, ImageChops

    source, target = tmp_path / "a.png", tmp_path / "small/a.jpg"
    draw_sample(source, 1)
    made = make_thumbnail(source, target, width=320, watermark="© Shop")
    assert (made.width, made.height) == (320, 240)
    assert made.bytes_after * 10 < made.bytes_before
    plain = tmp_path / "plain.jpg"
    make_thumbnail(source, plain, width=320, watermark="")
    with Image.open(target) as marked, Image.open(plain) as unmarked:
        assert marked.format == "JPEG"
        box = ImageChops.difference(marked, unmarked).point(lambda value: 255 * (value > 60)).getbbox()
    assert box is not None
    assert box[0] > 320 // 2  # the watermark is in the lower right corner
    assert box[1] > 240 // 2
