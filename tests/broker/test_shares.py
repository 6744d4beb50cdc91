"""Lanes of a share: as the plain ones, beside them."""

from __future__ import annotations

import pytest

from django_taskq.broker import Submission
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.keys import Place, place_of
from tests.broker.helpers import Hand, Shard, id_of, message

SHARES = ["g", "f", "f9x3k"]


def send(shard: Shard, share: str, count: int = 1, priority: int = 0, delay: int | None = None) -> list[bytes]:
    return shard.send([Submission(message(priority=priority), "mail", delay, share=share) for _ in range(count)])


@pytest.mark.parametrize("place", [Place("mail", 0), Place("a.b-c", -7, "g"), Place("mail", 10, "f9x3k")])
def test_a_suffix_says_what_its_lane_is(shard: Shard, place: Place) -> None:
    lane = shard.keys.lane(*place)
    assert shard.keys.place(lane.encode()) == place
    assert place_of(lane.removeprefix(shard.keys.lane_prefix)) == place


@pytest.mark.parametrize("share", SHARES)
def test_messages_of_a_share_live_as_all_others(shard: Shard, hand: Hand, share: str) -> None:
    [id] = send(shard, share, priority=5)
    found = shard.find(id)
    assert (found.state, found.queue, found.priority, found.share) == ("queued", "mail", 5, share)
    [delivery] = hand.claim()
    assert delivery.lane[2:] == ("mail", 5, share)
    assert shard.find(id).state == "running"
    hand.retry(delivery, 60)
    assert (shard.find(id).state, shard.find(id).share) == ("scheduled", share)
    shard.pass_time()
    [delivery] = hand.claim()
    assert delivery.lane.share == share
    hand.release(delivery)
    [delivery] = hand.claim()
    hand.die([delivery])
    other = Hand(shard, "w2")
    [delivery] = other.claim()
    assert delivery.losses == 1
    other.complete(delivery)
    assert shard.ended() == [(id, "succeeded")]
    assert shard.lanes("mail") == {}


@pytest.mark.parametrize("share", SHARES)
def test_waiting_and_scheduled_ones_can_be_cancelled(shard: Shard, share: str) -> None:
    ids = send(shard, share) + send(shard, share, delay=60_000)
    assert shard.broker.cancel(ids) == [True, True]
    assert shard.ended() == [(id, "cancelled") for id in ids]


def test_higher_priorities_come_first_whatever_their_share(shard: Shard, hand: Hand) -> None:
    low, high = send(shard, "f9x3k", 2, priority=-1), send(shard, "g", 2, priority=3)
    [plain] = send(shard, "")
    assert [id_of(delivery) for delivery in hand.claim()] == [*high, plain, *low]


def test_a_share_of_a_later_version_waits_for_its_workers(shard: Shard, hand: Hand) -> None:
    [id] = send(shard, "x1")
    assert hand.claim() == []
    assert shard.find(id).state == "queued"
    assert Inspector(shard.broker).queues(["mail"])[0].priorities == {0: 1}
    assert Inspector(shard.broker).purge("mail") == 1


def test_a_queue_is_listed_and_purged_with_all_its_shares(shard: Shard) -> None:
    sent = [id for share in ("g", "f9x3k", "f10", "f", "") for id in send(shard, share, 3, priority=-1)]
    sent += [*send(shard, "f", 2, priority=-10), *send(shard, "f", delay=60_000)]
    inspector, listed, cursor = Inspector(shard.broker), [], ""
    while True:
        page = inspector.messages("mail", cursor=cursor, count=2)
        listed += [each.message.id for each in page.messages if each.message]
        if not (cursor := page.following):
            break
    assert listed == sent[:-1]
    assert inspector.queues(["mail"])[0].priorities == {-1: 15, -10: 2}
    assert inspector.purge("mail") == len(sent)
