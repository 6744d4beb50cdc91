"""The pages name everything there is, with the right defaults; their links lead somewhere, their examples work."""

from __future__ import annotations

import importlib
import inspect
import re
import shlex
import sys
import tomllib
from argparse import Action
from collections.abc import Iterator
from dataclasses import fields as dataclass_fields
from datetime import timedelta
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING
from uuid import UUID

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

from django_taskq import Exponential, exceptions, get_task, redaction, registry, setting_parsers, signals
from django_taskq.api.routes import ROUTES
from django_taskq.broker.keys import Keys
from django_taskq.broker.scripts import ALL, ENQUEUE
from django_taskq.conf import read_settings
from django_taskq.core import message
from django_taskq.core.outcome import Outcome
from django_taskq.core.states import TRANSITIONS
from django_taskq.options import CALL_OPTIONS, ONLY_TASK, OPTIONS, TaskOptions, parse
from django_taskq.queue_options import QueueOptions
from tests.servers import ROOT, RedisServer, wait_for

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from tests.conftest import StartWorker

PACKAGE = ROOT / "django_taskq"
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
page_by_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def text_of(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(name: str, heading: str) -> str:
    """The text below a heading of level 2, up to the next."""
    return re.split(r"^## ", text_of(name).split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of the tables in a text, without heads and rules."""
    lines = [line.strip().strip("|") for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.split("|")] for line in lines]
    return [
        row for position, row in enumerate(cells) if not any("---" in row[0] for row in cells[position : position + 2])
    ]


def quoted(cell: str) -> str:
    """What stands between backticks."""
    return cell.strip("`")


def blocks(page: Path, language: str) -> Iterator[str]:
    for found, code in BLOCK.findall(page.read_text(encoding="utf-8")):
        if found == language:
            yield code


# --- configuration.md ------------------------------------------------------------------------------------------------


def test_every_setting_has_its_default():
    documented = {quoted(row[0]): quoted(row[1]) for row in rows(section("configuration.md", "TASKQ").split("###")[0])}
    assert set(documented) == set(setting_parsers.PARSERS)
    for key, default in documented.items():
        value = eval(default, {"timedelta": timedelta})
        assert read_settings({key: value}) == read_settings({}), key


def test_every_option_of_a_queue_has_its_default():
    [table] = [part for part in section("configuration.md", "TASKQ").split("\n### ") if part.startswith("QUEUES\n")]
    documented = {quoted(row[0]): eval(quoted(row[1])) for row in rows(table)}
    assert documented == {field.name: field.default for field in dataclass_fields(QueueOptions)}


def test_every_task_option_has_its_default():
    table = rows(section("configuration.md", "@task and using()").split("###")[0])
    documented = {quoted(name): (quoted(default), using) for name, default, using, _ in table}
    assert set(documented) == OPTIONS | ONLY_TASK | CALL_OPTIONS
    assert {name for name, (_, using) in documented.items() if using} == CALL_OPTIONS
    for field in dataclass_fields(TaskOptions):
        if field.name == "record":
            continue  # that of TASKQ
        value = eval(documented[field.name][0], {"Exponential": Exponential})
        assert parse("", {field.name: value}, allowed=OPTIONS)[field.name] == field.default, field.name


def own_options(command: BaseCommand) -> list[Action]:
    """Those that Django's other commands do not have."""
    common = {action.dest for action in BaseCommand().create_parser("", "")._actions}
    options = [action for action in command.create_parser("", "")._actions if action.option_strings]
    return [action for action in options if action.dest not in common]


def test_every_worker_option_has_its_default():
    documented = {quoted(row[0]).split()[0]: row[1] for row in rows(section("configuration.md", "taskq_worker"))}
    own = own_options(load_command_class("django_taskq", "taskq_worker"))
    assert set(documented) == {action.option_strings[0] for action in own}
    for action in own:
        if isinstance(action.default, bool):
            assert documented[action.option_strings[0]] == "off"
        elif action.default is not None:
            assert documented[action.option_strings[0]] == str(action.default)


def test_every_command_and_its_options_are_listed():
    parts = section("configuration.md", "Other commands").split("\n### ")[1:]
    documented = {part.split("\n")[0]: {quoted(row[0]).split()[0] for row in rows(part)} for part in parts}
    for path in (PACKAGE / "management" / "commands").glob("taskq_*.py"):
        if path.stem != "taskq_worker":
            own = own_options(load_command_class("django_taskq", path.stem))
            assert documented.pop(path.stem) == {action.option_strings[0] for action in own}, path.stem
    assert not documented


def test_every_system_check_is_listed():
    code = "".join(
        (PACKAGE / path).read_text()
        for path in ("checks.py", "project_checks.py", "broker/health.py", "backend/base.py")
    )
    ids = set(re.findall(r'"(?:django_taskq\.)?([EW]\d{3})"', code))
    assert set(re.findall(r"`django_taskq\.([EW]\d{3})`", section("configuration.md", "System checks"))) == ids


def test_every_environment_variable_is_listed():
    code = "".join((ROOT / "testproject" / name).read_text() for name in ("settings.py", "environment.py"))
    read = set(re.findall(r"""environ(?:\.get\(|\[)["'](\w+)["']""", code))
    example = set(re.findall(r"^#? ?([A-Z_]+)=", (ROOT / ".env.example").read_text(), re.MULTILINE))
    documented = {quoted(row[0]) for row in rows(section("configuration.md", "The test project"))}
    assert documented == read
    assert example <= read


# --- errors.md, internals.md, guarantees.md --------------------------------------------------------------------------


def test_every_error_is_explained():
    text = text_of("errors.md")
    for name, value in vars(exceptions).items():
        if inspect.isclass(value) and value.__module__ == exceptions.__name__:
            assert re.search(rf"`{name}\b", text), name


def test_every_signal_is_named():
    for name in vars(signals):
        if name.startswith(("task_", "worker_")):
            assert f"`{name}`" in text_of("getting-started.md"), name


def test_every_transition_is_in_the_table_and_in_the_diagram():
    text = section("internals.md", "States")
    table = {row[0]: (row[1], row[2]) for row in rows(text)}
    assert set(table) == set(TRANSITIONS)
    edges = re.findall(r"(\S+) --> (\w+): (.+)", text)
    for name, (leaves, arrives) in TRANSITIONS.items():
        assert set(filter(None, table[name][0].split(", "))) == leaves, name
        assert set(table[name][1].split(", ")) == arrives, name
        for state in leaves or {"[*]"}:
            for end in arrives:
                assert any(edge[:2] == (state, end) and name in edge[2].split(", ") for edge in edges), (
                    name,
                    state,
                    end,
                )


def test_numbers_are_those_of_the_code():
    checked = 0
    for number, _, source in rows(section("guarantees.md", "The numbers")):
        if found := re.search(r"`([A-Z_]+)`, `([\w/]+)\.py`", source):
            module = importlib.import_module(f"django_taskq.{found[2].replace('/', '.')}")
            wanted = 8.0 if found[1] == "KILL_AFTER" else float(number.replace(",", "").split()[0])
            assert getattr(module, found[1]) == wanted, found[1]
            checked += 1
    assert checked > 5


@pytest.mark.parametrize("name", ["internals.md", "guarantees.md", "protocol.md"])
def test_files_that_are_named_exist(name):
    places = (PACKAGE, PACKAGE / "broker" / "lua", ROOT)
    for path in re.findall(r"`([\w/]+\.(?:py|lua|toml))`", text_of(name)):
        assert any((place / path).exists() for place in places), path


# --- api.md ----------------------------------------------------------------------------------------------------------


def test_every_route_and_its_permissions_are_listed():
    documented = {quoted(row[0]): set(re.findall(r"`(\w+)`", row[1])) for row in rows(section("api.md", "Routes"))}
    assert documented == {f"{route.method} {route.path}": set(route.permissions) for route in ROUTES}


def test_every_error_code_is_listed():
    code = "".join(path.read_text() for path in (PACKAGE / "api").glob("*.py"))
    used = {*re.findall(r'\b[45]\d\d, "(\w+)"', code), *re.findall(r'"(unknown_\w+|broker_\w+|not_found)"', code)}
    listed = [name for row in rows(section("api.md", "Errors")) for name in re.findall(r"`(\w+)`", row[1])]
    assert set(listed) == used
    assert len(listed) == len(used)


# --- protocol.md -----------------------------------------------------------------------------------------------------


def test_every_key_is_listed():
    documented = {quoted(row[0]) for row in rows(section("protocol.md", "Keys"))}
    keys = Keys("ns")
    names = {value for name, value in vars(keys).items() if isinstance(value, str) and name != "tag"}
    names |= set(keys.queue("<queue>")) | {keys.idempotency("<task>", "<key>")}
    for name in names:
        assert any(key == name or (name.endswith(":") and key.startswith(name)) for key in documented), name
    for key in documented:
        assert any(key == name or (name.endswith(":") and key.startswith(name)) for name in names), key


def test_every_script_is_listed():
    documented = {quoted(row[0]) for row in rows(section("protocol.md", "The scripts"))}
    assert documented == {path.stem for path in (PACKAGE / "broker" / "lua").glob("*.lua")}
    assert documented == {script.name for script in ALL}


def test_every_field_of_a_message_is_listed():
    fields = {field.decode() for field in (*message._INTEGERS, *message._TEXTS, *message._COLLECTIONS)}
    documented = {quoted(row[0]) for row in rows(section("protocol.md", "Message"))}
    assert documented == fields | set("vitakrygqzc")


def test_every_field_of_an_outcome_is_listed():
    numbers = [int(number) for row in rows(section("protocol.md", "How it ended")) for number in row[0].split(",")]
    assert numbers == list(range(len(Outcome.__struct_fields__)))


def commands(heading: str) -> list[list[bytes]]:
    """The redis-cli commands below a heading of protocol.md; an indented line belongs to the one before."""
    [block] = re.findall(r"^```redis\n(.*?)^```$", section("protocol.md", heading), re.MULTILINE | re.DOTALL)
    lines = re.sub(r"\n +", " ", block).splitlines()
    return [[_literal(word) for word in shlex.split(line)] for line in lines]


def _literal(word: str) -> bytes:
    return word.encode().decode("unicode_escape").encode("latin-1") if r"\x" in word else word.encode()


def test_the_examples_of_the_protocol_send_tasks(
    worker: StartWorker, redis_server: RedisServer, taskq_settings: SettingsWrapper
):
    taskq_settings.TASKQ = {**taskq_settings.TASKQ, "QUEUES": {"default": {}, "mail": {}}}
    worker("--queues", "mail", tasks=["tests.documented_tasks"])
    with redis_server.client() as client:
        plain = commands("Producing with plain commands")
        for command in plain:
            client.execute_command(*command)
        [script] = commands("Producing with enqueue.lua")
        script[script.index(b"<sha>")] = client.script_load(ENQUEUE.source).encode()
        assert client.execute_command(*script) == []
        assert client.execute_command(*script) == []  # the same id again changes nothing
        ids = [str(UUID(bytes=word)) for word in (plain[1][4], script[script.index(b"i") + 1])]
        wait_for(lambda: client.hget("{taskq}:index", UUID(ids[0]).bytes[2:]), message="the bare message was not run")
        assert [get_task(id).get(timeout=10) for id in ids] == ["ada@example.com 01 December"] * 2
        assert client.get("{taskq}:idempotency:shop.tasks.send_reminder:order-7") == UUID(ids[1]).bytes


# --- the site --------------------------------------------------------------------------------------------------------


def test_every_page_is_in_the_navigation_of_the_site():
    docs = ROOT / "docs"
    pages = {page.relative_to(docs).as_posix() for page in docs.rglob("*.md")}
    listed = re.findall(r"^ +- .+: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(
        pages | {"index.md", "changelog.md"}
    )  # README.md and CHANGELOG.md: docs/theme/hooks.py


# --- migrating/ ------------------------------------------------------------------------------------------------------

GUIDES = sorted((ROOT / "docs" / "migrating").glob("*.md"))


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_what_the_guides_show_of_this_package_sends_tasks(
    page, db, taskq, monkeypatch, django_capture_on_commit_callbacks
):
    """Each has one example of either side."""
    monkeypatch.setattr(registry, "_tasks", dict(registry._tasks))
    [code] = [code for code in blocks(page, "python") if code.startswith("# django_taskq")]
    module = ModuleType("shop.tasks")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with taskq.override_taskq(QUEUES={"default": {}, "mail": {}}):
        with django_capture_on_commit_callbacks(execute=True):
            exec(compile(code, str(page), "exec"), module.__dict__)
        sent = taskq.enqueued(module.send_reminder)
        assert sent
        assert all(handle.get() is not False for handle in taskq.run_enqueued())


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_the_guides_name_only_what_there_is(page):
    """Options after `using(` and `@task(`, and commands with their options."""
    text = page.read_text(encoding="utf-8")
    known = OPTIONS | ONLY_TASK | CALL_OPTIONS
    for call in re.findall(r"(?:\busing|@task)\(([^`]*?)\)", BLOCK.sub("", text)):
        assert set(re.findall(r"(\w+)=", re.sub(r"\w+\(.*", "", call))) <= known, call
    for name in re.findall(r"\b(taskq_\w+)", text):
        own_options(load_command_class("django_taskq", name))
    for line in re.findall(r"`(?:manage\.py )?(taskq_\w+) ([^`]*)`", text):
        own = {action.option_strings[0] for action in own_options(load_command_class("django_taskq", line[0]))}
        assert set(re.findall(r"--[\w-]+", line[1])) <= own, line


# --- security.md, extras ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["admin.md", "security.md"])
def test_the_words_that_are_redacted_are_listed(name):
    text = " ".join(text_of(name).split())
    [words] = re.findall(r"contain(?:s one of)? the words ([\w, ]+) or card", text)
    listed = {*words.replace("api_key", "api[^a-z]*key").split(", "), "card"}
    [known] = re.findall(r"\(\?:([^)]+)\)s\?", redaction._SECRET.__self__.pattern)
    assert listed == set(known.split("|"))


def test_every_extra_for_users_is_named_in_the_pages():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    text = "".join(page.read_text(encoding="utf-8") for page in PAGES)
    for extra in set(extras) - {"apps", "browser", "demo", "dev", "docs", "manifests", "serve", "test"}:
        assert f"[{extra}]" in text or f"extra `{extra}`" in text, extra


# --- all pages -------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", BLOCK.sub("", page.read_text(encoding="utf-8")), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@page_by_page
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if target.startswith("https://"):
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.is_file(), target
        assert not anchor or anchor in anchors(linked), target


@page_by_page
def test_python_examples_compile(page):
    for code in blocks(page, "python"):
        compile(code, str(page), "exec")


@page_by_page
def test_pages_are_readable_as_plain_text(page):
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        is_code_or_table = line.startswith(("|", " ", "EVALSHA", "XADD"))
        assert is_code_or_table or len(line) <= 140, f"line {number}"
        assert line == line.rstrip(), f"line {number} ends in spaces"
