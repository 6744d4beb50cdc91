"""kill -9 between any two steps of writer and relay: what was committed is sent once, what was not is never sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import pytest

from django_taskq.broker import Broker
from django_taskq.broker.delivery import complete
from django_taskq.core.activity import activity
from django_taskq.core.message import Message
from django_taskq.models import OutboxEntry, TaskResult
from django_taskq.recorder import Recorder
from django_taskq.relay import Relay
from tests.broker.helpers import Hand, Shard, outcome_for
from tests.outbox.conftest import age, waiting
from tests.servers import ROOT

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

Die = Callable[[str, str], None]

AT_THE_RELAY = [
    "after.take.1", "after._read.1", "after._sort_out.1", "before.send.1", "after.send.1", "before._delete.2",
    "after._delete.2", "before.send.2", "after.send.2", "before.withdraw.1", "after.withdraw.1", "before._delete.3",
    "after._delete.3",
]  # fmt: skip


@pytest.fixture(scope="module")
def forker() -> Iterator[list[subprocess.Popen[str]]]:
    """The one process of dying.py that all tests of this module share, once it has been started."""
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        process.communicate(timeout=10)


@pytest.fixture
def die(forker: list[subprocess.Popen[str]], manage_env: dict[str, str], taskq: SettingsWrapper) -> Die:
    """Lets a process of its own do something and kill itself at a point of it."""
    if not forker:
        env = {**os.environ, **manage_env, "TASKQ_TEST_SETTINGS": json.dumps(taskq.TASKQ)}
        command = [sys.executable, "-m", "tests.outbox.dying"]
        pipe = subprocess.PIPE
        forker.append(subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=env, cwd=ROOT))
    [process] = forker

    def run(what: str, point: str) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{what} {point}\n")
        process.stdin.flush()
        assert process.stdout.readline().strip() == "9"

    return run


@pytest.fixture
def shard(outbox_broker: Broker) -> Shard:
    return Shard(outbox_broker)


def relay_the_rest(shard: Shard) -> None:
    """Another relay, when the dead one's lease is over."""
    shard.redis("HSET", shard.keys.relay_prefix + "default", "until", 1)
    relay = Relay(shard.broker, "default")
    while relay.run_once():
        continue
    relay.close()


def sent(shard: Shard, queue: str) -> list[bytes]:
    """The arguments in a lane, in its order."""
    return [Message.decode([part for pair in fields.items() for part in pair]).args for _, fields in shard.lane(queue)]


@pytest.mark.parametrize("point", ["before.commit", "after.commit", "after.nudge"])
def test_a_writer_dies(die: Die, shard: Shard, point: str) -> None:
    die("write", point)
    committed = point != "before.commit"
    assert len(waiting()) == 6 * committed
    relay_the_rest(shard)
    assert (sent(shard, "default"), sent(shard, "mail")) == (
        ([b"[0]", b"[1]", b"[2]", b"[4]"], [b"[3]"]) if committed else ([], [])
    )


@pytest.mark.parametrize("point", AT_THE_RELAY)
def test_a_relay_dies(die: Die, shard: Shard, point: str) -> None:
    die("write", "after.commit")
    die("relay", point)
    relay_the_rest(shard)
    assert waiting() == []
    assert sent(shard, "default") == [b"[0]", b"[1]", b"[2]", b"[4]"]
    assert sent(shard, "mail") == [b"[3]"]
    Recorder(shard.broker).run_once()
    assert list(TaskResult.objects.values_list("args", "status")) == [("[5]", "discarded")]


@pytest.mark.parametrize("point", AT_THE_RELAY)
def test_a_relay_dies_and_the_next_one_comes_when_redis_has_forgotten(die: Die, shard: Shard, point: str) -> None:
    """All that was sent has run, has been recorded and trimmed meanwhile."""
    die("write", "after.commit")
    ids = set(waiting())
    die("relay", point)
    ran = Counter(run_all(shard))
    age(3600)
    relay_the_rest(shard)
    ran.update(run_all(shard))
    assert waiting() == []
    assert ran == {f"[{number}]": 1 for number in range(5)}
    assert {str(id) for id in TaskResult.objects.values_list("pk", flat=True)} == ids
    assert Counter(TaskResult.objects.values_list("status", flat=True)) == {"succeeded": 5, "discarded": 1}


def run_all(shard: Shard) -> list[str]:
    """Runs what waits, as a worker would; records the ends, and lets Redis forget them. The arguments that ran."""
    hand, ran = Hand(shard, uuid.uuid4().hex), []
    while deliveries := hand.claim(10):
        for delivery in deliveries:
            message = Message.decode(delivery.fields)
            ran.append(message.args.decode())
            key, ended = shard.keys.idempotency_of(message), outcome_for(message.id, args=message.args)
            hand.settle(
                [complete(delivery, message.id, "succeeded", ended, activity("succeeded", "t"), key, 86_400_000)]
            )
    recorder = Recorder(shard.broker)
    while recorder.run_once():
        continue
    shard.redis("DEL", shard.keys.index, shard.keys.outcomes, shard.keys.recorder)
    assert not OutboxEntry.objects.exclude(state="waiting").exists()
    return ran
