"""taskq_queue: pause, resume, purge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from django.core.management.base import CommandError

from django_taskq.broker import Broker
from django_taskq.exceptions import ResultTimeout, TaskFailed
from tests.commands.conftest import Manage, run
from tests.sampleapp.tasks import add

if TYPE_CHECKING:
    from tests.conftest import StartWorker


def test_a_paused_queue_is_not_claimed_from_until_it_is_resumed(worker: StartWorker) -> None:
    assert run("taskq_queue", "pause", "default").out == "Queue default is paused.\n"
    assert run("taskq_queue", "pause", "default").out == "Queue default was paused before.\n"
    worker()
    handle = add.delay(1, 2)
    with pytest.raises(ResultTimeout):
        handle.get(timeout=0.5)
    assert handle.status == "queued"
    assert run("taskq_queue", "resume", "default").out == "Queue default is resumed.\n"
    assert run("taskq_queue", "resume", "default").out == "Queue default was not paused.\n"
    assert handle.get(timeout=2) == 3


def test_purging_cancels_what_waits(broker: Broker) -> None:
    ready, scheduled = add.delay(1, 2), add.using(run_after=3600).delay(1, 2)
    assert run("taskq_queue", "purge", "default", "--yes").out == "2 tasks of the queue default are cancelled.\n"
    for handle in (ready, scheduled):
        with pytest.raises(TaskFailed, match="cancelled: purged"):
            handle.get(timeout=1)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["pause", "mail"], r"'mail' is not declared in TASKQ\['QUEUES'\] \(default\)"),
        (["stop", "default"], "invalid choice"),
        (["pause"], "Give the name of a queue, or --task"),
        (["pause", "default", "--task", "x"], "Give the name of a queue, or --task"),
        (["pause", "--task", "tests.sampleapp.tasks.ad"], "Did you mean 'tests.sampleapp.tasks.add'"),
        (["purge", "--task", "tests.sampleapp.tasks.add"], "purge is for queues"),
        (["purge", "default"], "Cancel 0 tasks of the queue default. Nobody can answer here: give --yes"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(broker: Broker, words: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        run("taskq_queue", *words)


def test_purging_asks_for_the_queues_name(broker: Broker, manage: Manage) -> None:
    handle = add.delay(1, 2)
    refused = manage.on_terminal("taskq_queue", "purge", "default", answers="y\n")
    assert refused.code == 1
    assert "Cancel 1 tasks of the queue default? Type default to go on:" in refused.out
    handle.refresh()
    assert handle.status == "queued"
    accepted = manage.on_terminal("taskq_queue", "purge", "default", answers="default\n")
    assert accepted.code == 0
    assert "1 tasks of the queue default are cancelled." in accepted.out


def test_a_paused_task_waits_while_others_run(worker: StartWorker) -> None:
    name = add.name
    assert run("taskq_queue", "pause", "--task", name).out == f"Task {name} is paused.\n"
    assert run("taskq_queue", "pause", "--task", name).out == f"Task {name} was paused before.\n"
    worker()
    handle = add.delay(1, 2)
    with pytest.raises(ResultTimeout):
        handle.get(timeout=0.7)
    assert handle.status == "blocked"
    assert f"Paused tasks: {name}." in run("taskq_status").out
    assert run("taskq_queue", "resume", "--task", name).out == f"Task {name} is resumed.\n"
    assert run("taskq_queue", "resume", "--task", name).out == f"Task {name} was not paused.\n"
    assert handle.get(timeout=2) == 3
