"""A process that is killed while it requeues many dead letters: each is dead or sent, whichever step it was at."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter

import pytest

from django_taskq.broker import Broker
from django_taskq.bulk import Writer
from django_taskq.core.message import Message
from django_taskq.models import DeadTask
from django_taskq.requeue import Summary, discard_many, requeue_many, sweep
from tests.records.outcomes import entries, failed
from tests.servers import ROOT

LETTERS = 100
# Requeues everything, ten at a time, and kills itself at one step of the third batch.
PROGRAM = """
import os, signal, sys
import django
django.setup()
from django_taskq import requeue
from django_taskq.models import DeadTask

def dying(function, when):
    passed = []
    def call(*arguments):
        passed.append(1)
        if len(passed) == 3 and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = function(*arguments)
        if len(passed) == 3 and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result
    return call

requeue.BATCH = 10
step, when = sys.argv[1:]
setattr(requeue, step, dying(getattr(requeue, step), when))
for batch in requeue.sweep(DeadTask.objects.filter(state="dead")):
    requeue.requeue_many(batch, requeue.Summary())
"""


def sent(broker: Broker) -> Counter[bytes]:
    """How often each id is in the lane."""
    found = broker.connections.execute("XRANGE", broker.keys.lane("default", 0), "-", "+")
    return Counter(Message.decode(fields).id for _entry, fields in found)


@pytest.mark.parametrize(
    ("step", "when", "in_redis", "closed"),
    [
        ("_rows", "after", 20, 20),  # read, nothing sent
        ("requeue_messages", "after", 30, 20),  # sent, the rows not closed
        ("_close", "after", 30, 30),
    ],
)
def test_every_one_is_dead_or_sent(
    broker: Broker, manage_env: dict[str, str], step: str, when: str, in_redis: int, closed: int
) -> None:
    Writer().write(entries(*[failed() for _ in range(LETTERS)]))
    command = [sys.executable, "-c", PROGRAM, step, when]
    process = subprocess.run(command, env={**manage_env, "PATH": ""}, cwd=ROOT, timeout=60, check=False)
    assert process.returncode == -signal.SIGKILL
    dead = {row.task_id.bytes for row in DeadTask.objects.filter(state="dead")}
    assert (len(sent(broker)), LETTERS - len(dead)) == (in_redis, closed)
    assert len(sent(broker).keys() | dead) == LETTERS  # never neither

    # Whoever presses again finishes what was begun: nothing is sent twice, and nothing that was sent is called dead.
    summary = Summary()
    for batch in sweep(DeadTask.objects.filter(state="dead")):
        requeue_many(batch, summary)
    assert (summary.sent, summary.before) == (LETTERS - in_redis, in_redis - closed)
    assert set(sent(broker).values()) == {1}
    assert len(sent(broker)) == LETTERS
    assert set(DeadTask.objects.values_list("state", flat=True)) == {"requeued"}


def test_what_is_discarded_after_such_a_death_counts_as_sent_when_its_run_ends(
    broker: Broker, manage_env: dict[str, str]
) -> None:
    Writer().write(entries(*[failed() for _ in range(30)]))
    command = [sys.executable, "-c", PROGRAM, "requeue_messages", "after"]
    subprocess.run(command, env={**manage_env, "PATH": ""}, cwd=ROOT, timeout=60, check=False)
    left = DeadTask.objects.filter(state="dead")
    assert discard_many(list(left.values_list("pk", flat=True))) == 10
    Writer().write(entries(*[failed(id=id, run=2) for id in sent(broker)]))
    assert Counter(DeadTask.objects.values_list("run", "state")) == {(1, "requeued"): 30, (2, "dead"): 30}
