"""The scripts as files: each says what it guarantees and takes, and shares what is shared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import django_taskq.broker
from django_taskq.broker import scripts

FOLDER = Path(django_taskq.broker.__file__).parent / "lua"


def test_every_file_is_a_script_that_python_knows() -> None:
    assert {path.stem for path in FOLDER.glob("*.lua")} == {script.name for script in scripts.ALL}


@pytest.mark.parametrize("script", scripts.ALL, ids=lambda script: script.name)
def test_a_header_states_the_contract(script: scripts.Script) -> None:
    lines = (FOLDER / f"{script.name}.lua").read_text().splitlines()
    assert lines[0].startswith(f"-- {script.name}: ")
    assert any(line.startswith("-- KEYS  ") for line in lines)
    assert any(line.startswith("-- ARGV  ") for line in lines)


@pytest.mark.parametrize("script", scripts.ALL, ids=lambda script: script.name)
def test_includes_are_taken_in_once_each(script: scripts.Script) -> None:
    assert "@include" not in script.source
    includes = re.findall(r"^-- @include (\w+)$", (FOLDER / f"{script.name}.lua").read_text(), re.MULTILINE)
    assert len(set(includes)) == len(includes)


def test_every_shared_part_is_used() -> None:
    sources = "".join(path.read_text() for path in FOLDER.rglob("*.lua"))
    assert {path.stem for path in (FOLDER / "lib").glob("*.lua")} == set(
        re.findall(r"^-- @include (\w+)$", sources, re.MULTILINE)
    )
