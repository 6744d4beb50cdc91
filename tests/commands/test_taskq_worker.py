"""taskq_worker: its options, as the command line reads them. What it does with them: tests/worker."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.management import load_command_class
from django.core.management.base import CommandError

from django_taskq.broker import Broker
from django_taskq.management.commands import taskq_worker
from tests.commands.conftest import Manage, run


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--queues", "default,mail"], r"--queues: 'mail' is not declared in TASKQ\['QUEUES'\] \(default\)"),
        (["--queues", "default:6,mail:1"], r"--queues: 'mail' is not declared"),
        (["--queues", "default:0"], "--queues: the weight of 'default' must be a whole number from 1 to 1000, not '0'"),
        (["--queues", "default:heavy"], "--queues: the weight of 'default' must be a whole number .* not 'heavy'"),
        (["--queues", "default:"], "--queues: the weight of 'default' must be a whole number .* not ''"),
        (["--queues", "default,default"], "--queues: 'default' is named twice"),
        (["--queues", "default,"], "--queues: '' is not declared"),
        (["--threads", "0"], "argument --threads: '0' must be a whole number, 1 or more"),
        (["--processes", "two"], "argument --processes: 'two' must be a whole number"),
        (["--shutdown-timeout", "-1"], "argument --shutdown-timeout: '-1' must be a whole number, 0 or more"),
        (["--max-memory", "1.5"], "argument --max-memory"),
        (["mail"], "unrecognized arguments: mail"),
    ],
)
def test_wrong_options_are_refused_with_the_reason(broker: Broker, words: list[str], text: str) -> None:
    with pytest.raises(CommandError, match=text):
        run("taskq_worker", *words)


def test_wrong_options_on_a_command_line_have_exit_code_2(manage: Manage) -> None:
    result = manage("taskq_worker", "--threads", "0")
    assert result.code == 2
    assert result.err.endswith("error: argument --threads: '0' must be a whole number, 1 or more\n")
    assert "Traceback" not in result.err


@pytest.mark.parametrize(
    ("words", "debug", "terminal", "reloads"),
    [
        ([], True, True, True), ([], False, True, False), ([], True, False, False), (["--burst"], True, True, False),
        (["--no-reload"], True, True, False), (["--reload"], False, False, True),
    ],
)  # fmt: skip
def test_it_reloads_by_itself_where_somebody_develops(
    words: list[str], debug: bool, terminal: bool, reloads: bool, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.DEBUG = debug
    monkeypatch.setattr("sys.stderr.isatty", lambda: terminal, raising=False)
    command = load_command_class("django_taskq", "taskq_worker")
    options = vars(command.create_parser("manage.py", "taskq_worker").parse_args(words))
    assert taskq_worker._reloads(options) is reloads
