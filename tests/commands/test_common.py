"""What all commands have in common: closed pipes, Ctrl-C, a database that is not there, help."""

from __future__ import annotations

import pkgutil
import subprocess

import pytest
from django.core.management import load_command_class
from django.core.management.base import CommandError

from django_taskq.management import commands
from django_taskq.models import DeadTask
from tests.commands.conftest import CTRL_C, Manage, record, run
from tests.records.outcomes import failed

NAMES = [module.name for module in pkgutil.iter_modules(commands.__path__)]


@pytest.mark.django_db(transaction=True)
def test_a_pipe_that_closes_ends_the_command_quietly(manage: Manage) -> None:
    record(*(failed() for _ in range(1000)))
    words = ("taskq_dead", "list", "--limit", "1000")
    manage.env["PYTHONUNBUFFERED"] = ""  # without a buffer Python does not notice that half of a write was refused
    listing = manage.start(*words, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listing.stdout is not None
    assert listing.stderr is not None
    assert listing.stdout.readline().startswith("ID")
    listing.stdout.close()
    assert listing.wait(10) == 141
    assert listing.stderr.read() == ""


def test_ctrl_c_at_a_question_ends_the_command_with_one_line(manage: Manage) -> None:
    record(failed())
    result = manage.on_terminal("taskq_dead", "discard", "--all", answers=CTRL_C)
    assert result.code == 130
    assert "Interrupted." in result.out
    assert "Traceback" not in result.out
    assert DeadTask.objects.get().state == "dead"


@pytest.mark.parametrize("words", [("taskq_dead", "list"), ("taskq_prune",)])
def test_a_database_without_tables_is_one_line(words: tuple[str, ...], manage: Manage, tmp_path) -> None:
    manage.env["DATABASE_URL"] = f"sqlite:///{tmp_path}/empty.sqlite3"
    result = manage(*words)
    assert result.code == 1
    assert result.err.startswith("CommandError: The database cannot be used: no such table: django_taskq_")
    assert "Traceback" not in result.err


@pytest.mark.parametrize("name", NAMES)
def test_help_says_what_it_does_and_explains_every_option(name: str) -> None:
    parser = load_command_class("django_taskq", name).create_parser("manage.py", name)
    assert parser.description
    for action in parser._actions:
        assert action.help or action.choices, action.option_strings
    assert "None" not in parser.format_help()


def test_an_error_is_an_exception_for_those_who_call_it_from_code() -> None:
    with pytest.raises(CommandError):
        run("taskq_queue", "pause")
