"""The overview: the sentence at the top, the numbers, the charts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.test import Client

from django_taskq.broker.inspector import Inspector
from django_taskq.core.progress import Progress
from tests.records.outcomes import failed
from tests.web.conftest import record
from tests.web.scene import OVERVIEW, QUEUES, Scene, look_anew, page, words

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

pytestmark = pytest.mark.django_db


def headline(client: Client) -> str:
    content = page(client, OVERVIEW)
    return words(content[: content.index('<ul class="tq-cards">')])


def cards(client: Client) -> dict[str, tuple[str, str, str]]:
    """Label -> value, note, level."""
    found = client.get(OVERVIEW).context["cards"]
    return {card.label: (card.value, card.note, card.level) for card, _url in found}


def test_without_a_worker_it_says_how_to_start_one(admin: Client, scene: Scene) -> None:
    assert "No worker is alive." in headline(admin)
    assert "manage.py taskq_worker" in headline(admin)


def test_waiting_tasks_without_a_worker_are_the_first_thing_said(admin: Client, scene: Scene) -> None:
    scene.shard.seed_waiting(3)
    assert "No worker is alive, and 3 tasks wait." in headline(admin)
    assert "manage.py taskq_worker" in headline(admin)


def test_all_is_well(admin: Client, scene: Scene) -> None:
    scene.worker()
    assert "All is well: nothing waits." in headline(admin)


def test_a_queue_that_no_worker_serves(admin: Client, scene: Scene) -> None:
    scene.worker(queues=("default",))
    scene.shard.seed_waiting(2, queue="mail")
    text = headline(admin)
    assert "No worker serves the queue mail (tasks waiting: 2)." in text
    assert "manage.py taskq_worker --queues mail" in text


def test_a_queue_behind_and_a_paused_one(admin: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("django_taskq.admin.conditions.BEHIND", -1.0)
    scene.worker()
    scene.shard.seed_waiting(2)
    scene.shard.seed_waiting(5, queue="mail")
    Inspector(scene.broker).pause("mail")
    text = headline(admin)
    assert text.index("1 queue is behind; the oldest task has waited for") < text.index(
        "The queue mail is paused (tasks waiting: 5)."
    )


def test_undeclared_queues_with_messages(admin: Client, scene: Scene) -> None:
    scene.worker()
    scene.shard.seed_waiting(2, queue="old")
    text = headline(admin).replace("&#x27;", "'")
    assert "The queue old is not declared in TASKQ['QUEUES'] (tasks waiting: 2)." in text


def test_a_full_queue(admin: Client, scene: Scene, settings: SettingsWrapper) -> None:
    settings.TASKQ = {**settings.TASKQ, "QUEUES": {"default": {"max_length": 2}, "mail": {"max_length": 3}}}
    scene.worker()
    scene.shard.seed_waiting(1)
    scene.shard.seed_scheduled(1)
    scene.shard.seed_waiting(2, queue="mail")
    assert "The queue default is full: it has reached its max_length." in headline(admin)
    content = words(page(admin, f"{QUEUES}default/change/"))
    assert "full" in content
    assert "2 at most" in content


def test_workers_that_claim_nothing_until_outcomes_are_recorded(admin: Client, scene: Scene) -> None:
    hand = scene.worker(max_outcomes=3)
    scene.shard.seed_ended(hand, 2)
    assert "All is well" in headline(admin)
    scene.shard.seed_ended(hand, 1)
    look_anew(scene.broker)
    assert "Workers claim nothing: 3 outcomes wait for the database, and MAX_OUTCOMES is 3." in headline(admin)


def test_many_queues_are_one_sentence(admin: Client, scene: Scene) -> None:
    scene.worker()
    for number in range(6):
        scene.shard.seed_waiting(1, queue=f"old{number}")
    assert "The queues old0, old1, old2, 3 more are not declared" in headline(admin)


def test_many_failures_are_said_few_are_not(admin: Client, scene: Scene) -> None:
    scene.worker()
    scene.past(1, succeeded=30, failed=1)
    assert "All is well" in headline(admin)
    assert cards(admin)["Failures"] == ("3.2 %", "last 5 minutes", "")


def test_every_fifth_task_fails(admin: Client, scene: Scene) -> None:
    scene.worker()
    scene.past(1, succeeded=20, failed=5)
    assert "20 % of the tasks that ended in the last 5 minutes failed." in headline(admin)
    assert cards(admin)["Failures"][2] == "bad"


def test_a_silent_worker_is_lost(admin: Client, scene: Scene) -> None:
    scene.worker()
    scene.silence(scene.worker("w2"), 9)
    assert "1 worker has stopped beating" in headline(admin)
    assert cards(admin)["Workers"] == ("1", "0 busy", "warn")


def test_cards_count_what_there_is(admin: Client, scene: Scene) -> None:
    hand = scene.worker()
    scene.run(hand)
    scene.shard.seed_waiting(1234)
    scene.shard.seed_scheduled(2, delay=120_000)
    record(failed(), failed())
    for minute in range(1, 6):
        scene.past(minute, succeeded=60)
    found = cards(admin)
    assert found["Queued"] == ("1,234", "oldest < 1 s", "")
    assert found["Running"][0] == "1"
    assert found["Scheduled"] == ("2", "next in 2 min", "")
    assert found["Dead"] == ("2", "to be decided on", "warn")
    assert found["Workers"] == ("1", "1 busy", "")
    assert 50 <= int(found["Throughput"][0]) <= 60
    assert 30 <= int(found["Wait, p95"][0].removesuffix(" ms")) <= 52
    assert 200 <= int(found["Run, p95"][0].removesuffix(" ms")) <= 320


def test_dead_letters_are_counted_no_further_than_needed(
    admin: Client, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("django_taskq.admin.cards.COUNTED", 2)
    record(failed(), failed(), failed())
    assert cards(admin)["Dead"][0] == "2+"


def test_charts_have_the_numbers_in_tables(admin: Client, scene: Scene) -> None:
    scene.past(2, task="shop.send", succeeded=7, failed=2)
    scene.past(3, task="shop.other", succeeded=11)
    scene.depth(17, "mail", minutes_ago=2)
    for span in ("1h", "24h"):
        response = admin.get(OVERVIEW, {"span": span})
        charts = {chart.id: chart for chart in response.context["charts"]}
        assert set(charts) == {"succeeded", "failed", "wait", "run", "depth"}
        assert not any(chart.empty for chart in charts.values())
        assert charts["wait"].rows.count("<tr") == {"1h": 60, "24h": 96}[span]
        content = response.content.decode()
        assert content.count("<svg") > 5
        for chart in charts.values():
            assert f'id="tq-chart-{chart.id}"' in content
    assert '<td class="tq-number">17</td>' in charts["depth"].rows
    assert "mail 17</title>" in charts["depth"].hover


def test_nonsense_for_a_span_is_an_hour(admin: Client, scene: Scene) -> None:
    for span in ("", "9999h", "<b>", "1H", "\x00"):
        assert len(admin.get(OVERVIEW, {"span": span}).context["spans"]) == 2


def test_what_fails_and_what_is_slow(admin: Client, scene: Scene) -> None:
    scene.past(2, task="shop.fails", succeeded=3, failed=9)
    scene.past(3, task="shop.works", succeeded=10)
    context = admin.get(OVERVIEW).context
    assert [row["task"] for row in context["failing"]] == ["shop.fails"]
    assert context["failing"][0]["share"] == "75 %"
    assert {row["task"] for row in context["slowest"]} == {"shop.fails", "shop.works"}


def test_running_tasks_show_how_far_they_are(admin: Client, scene: Scene) -> None:
    hand = scene.worker()
    scene.run(hand, Progress(30, 120, "resizing"), task="shop.resize")
    content = page(admin, OVERVIEW)
    assert '<progress max="100" value="25"' in content
    assert "resizing" in content
    assert "42 s" in content


def test_an_idle_project_has_empty_charts_and_no_errors(admin: Client, scene: Scene) -> None:
    content = page(admin, OVERVIEW)
    assert content.count("Nothing in this time.") == 5
    assert "No task has failed for good." in content
    assert "No task has run in the last hour." in content


def test_redis_itself_is_described(admin: Client, scene: Scene) -> None:
    facts = dict(admin.get(OVERVIEW).context["server"])
    assert facts["When memory is full"] == "noeviction"
    assert facts["Kept on disk"] == "append-only file"
    scene.shard.redis("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    try:
        look_anew(scene.broker)
        assert "Redis evicts keys when memory is full" in headline(admin)
    finally:
        scene.shard.redis("CONFIG", "SET", "maxmemory-policy", "noeviction")
