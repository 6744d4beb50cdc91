"""A queue's messages, page by page."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from django_taskq.broker.inspector import Inspector, Page
from django_taskq.broker.listing import LANES
from tests.broker.helpers import Hand, Shard, id_of


@pytest.fixture
def pages(shard: Shard) -> Callable[..., list[Page]]:
    def read(count: int = 100, *, scheduled: bool = False) -> list[Page]:
        """All pages from the first on."""
        found = [Inspector(shard.broker).messages("default", scheduled=scheduled, count=count)]
        while found[-1].following:
            cursor = found[-1].following
            found.append(Inspector(shard.broker).messages("default", scheduled=scheduled, cursor=cursor, count=count))
        return found

    return read


def ids(pages: list[Page]) -> list[bytes | None]:
    return [each.message and each.message.id for page in pages for each in page.messages]


def test_an_empty_queue_has_an_empty_page(pages: Callable[..., list[Page]]) -> None:
    assert pages() == [Page([], "")]
    assert pages(scheduled=True) == [Page([], "")]


def test_pages_follow_the_order_of_claiming(shard: Shard, pages: Callable[..., list[Page]]) -> None:
    low, high = shard.seed_waiting(5, priority=-3), shard.seed_waiting(4, priority=7)
    normal = shard.seed_waiting(3)
    for count in (1, 2, 4, 5, 12, 100):
        assert ids(pages(count)) == high + normal + low
        assert all(len(page.messages) <= count for page in pages(count))


def test_what_a_worker_holds_is_running(shard: Shard, hand: Hand, pages: Callable[..., list[Page]]) -> None:
    shard.seed_waiting(3)
    held = [id_of(delivery) for delivery in hand.claim(2)]
    [page] = pages()
    assert [(each.state, each.worker) for each in page.messages] == [
        ("running", "w1"), ("running", "w1"), ("queued", "")
    ]  # fmt: skip
    assert ids([page])[:2] == held
    assert all(abs((each.enqueued or 0) - shard.broker.time()) < 60 for each in page.messages)


def test_more_lanes_than_one_page_looks_at(shard: Shard, pages: Callable[..., list[Page]]) -> None:
    sent = [shard.seed_waiting(priority=priority)[0] for priority in range(LANES + 3)]
    found = pages(50)
    assert ids(found) == sent[::-1]
    assert len(found) == 2


def test_entries_of_other_producers_are_listed(shard: Shard, pages: Callable[..., list[Page]]) -> None:
    shard.seed_waiting()
    shard.seed_bare("i", b"x" * 16, "t", "foreign.task")
    shard.seed_bare("nonsense", "1")
    [page] = pages()
    assert [each.message and each.message.task for each in page.messages] == ["t", "foreign.task", None]
    assert {each.state for each in page.messages} == {"queued"}


def test_scheduled_ones_come_soonest_first(shard: Shard, pages: Callable[..., list[Page]]) -> None:
    late, soon = shard.seed_scheduled(2, delay=90_000), shard.seed_scheduled(2, delay=60_000, priority=5)
    found = pages(3, scheduled=True)
    assert set(ids(found)[:2]) == set(soon)
    assert set(ids(found)[2:]) == set(late)
    assert [len(page.messages) for page in found] == [3, 1]
    first = found[0].messages[0]
    assert (first.state, first.priority) == ("scheduled", 5)
    assert first.due is not None
    assert 30 < first.due - shard.broker.time() <= 60


@pytest.mark.parametrize("cursor", ["x", "1", "1/", "1/2", "a/1-1", "0/1-1-1", "0/ 1-1", f"0/{'9' * 40}-1"])
def test_a_cursor_that_is_none_is_refused(shard: Shard, cursor: str) -> None:
    with pytest.raises(ValueError, match=r"cursor|invalid literal"):
        Inspector(shard.broker).messages("default", cursor=cursor)


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5"])
def test_a_cursor_of_scheduled_ones_that_is_none_is_refused(shard: Shard, cursor: str) -> None:
    with pytest.raises(ValueError, match=r"cursor|invalid literal"):
        Inspector(shard.broker).messages("default", scheduled=True, cursor=cursor)


def test_a_page_has_a_hundred_at_most(shard: Shard, pages: Callable[..., list[Page]]) -> None:
    shard.seed_waiting(150)
    assert [len(page.messages) for page in pages(1_000_000)] == [100, 50]
