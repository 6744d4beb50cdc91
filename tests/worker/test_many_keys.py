"""Thousands of keys, each with a place and a share of its own, while task processes are killed again and again."""

from __future__ import annotations

import contextlib
import os
import random
import signal
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.models import TaskResult
from tests.servers import WorkerProcess, wait_for
from tests.worker import limited
from tests.worker.conftest import Ledger, task_processes
from tests.worker.test_limited import most_at_once

if TYPE_CHECKING:
    from tests.conftest import StartWorker

MODULES = ["tests.worker.limited", "tests.worker.impatient"]


GROWING = {"index", "outcomes", "totals", "recorder", "stats"}  # with what has ended
OF_WORKERS = {"worker", "workers", "inbox", "sleepers", "wake", "relay", "declared"}  # as soon as they come to it
SIZE = {b"hash": "HLEN", b"set": "SCARD", b"zset": "ZCARD", b"stream": "XLEN", b"list": "LLEN"}


def sizes() -> dict[str, int]:
    """How many members each key has that is not about workers or about what has ended."""
    connections, tag = get_broker().connections, get_broker().keys.tag
    names = sorted(name.decode() for name in connections.execute("KEYS", "*"))
    names = [name for name in names if name.removeprefix(tag).split(":")[1] not in GROWING | OF_WORKERS]
    kinds = connections.pipeline([("TYPE", name) for name in names]) if names else []
    pairs = [(name, SIZE[kind]) for name, kind in zip(names, kinds, strict=True) if kind in SIZE]
    counts = connections.pipeline([(command, name) for name, command in pairs]) if pairs else []
    return {name: count for (name, _), count in zip(pairs, counts, strict=True)}


def kill_one(process: WorkerProcess, chance: random.Random) -> None:
    """One of its task processes, where there may be none just now, or one that is dead already."""
    while True:
        pid = chance.choice(wait_for(lambda: task_processes(process), 10))
        with contextlib.suppress(ProcessLookupError):
            return os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize(("keys", "kills"), [(200, 4), pytest.param(10_000, 25, marks=pytest.mark.long)])
@pytest.mark.timeout(300)
@pytest.mark.django_db(transaction=True)
def test_no_key_is_left_when_all_have_ended(keys: int, kills: int, worker: StartWorker, ledger: Ledger) -> None:
    process = worker("--threads", "2", "--processes", "2", tasks=MODULES)
    limited.one_of_many.delay(ledger.path, -1, -1).get(timeout=10)
    wait_for(lambda: TaskResult.objects.count() == 1)
    before = sizes()
    chance = random.Random(keys)
    calls = [key for key in range(keys) for _ in range(1 + key % 3)]
    chance.shuffle(calls)
    inspector = Inspector(get_broker())
    inspector.pause("default")  # so that all keys are there at once
    limited.one_of_many.delay_many([((ledger.path, key, number), {}) for number, key in enumerate(calls)])
    inspector.resume("default")
    for kill in range(1, kills + 1):
        lines = 2 * len(calls) * kill // (kills + 1)
        wait_for(lambda lines=lines: Path(ledger.path).read_bytes().count(b"\n") >= lines, 120)
        kill_one(process, chance)
    wait_for(lambda: TaskResult.objects.filter(status="succeeded").count() == len(calls) + 1, 120)
    index = get_broker().connections.execute("HVALS", get_broker().keys.index)
    assert {place[:1] for place in index} <= {b"o"}
    assert sizes() == before
    starts = Counter(line["number"] for line in ledger.events())
    assert len(starts) == len(calls) + 1
    whole = [line for line in ledger.read() if starts[line["number"]] == 1]
    assert max(most_at_once(whole).values()) == 1
