"""The cells of matrix.py cover what README.md promises, and a cell that cannot run is no success."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from tests import matrix
from tests.each_server import SERVERS, Missing, Server
from tests.matrix import CELLS, FOR_CI, Cell, requirements
from tests.servers import ROOT


class Here(Server):
    """A server that needs no download, and is never started."""

    def path(self, directory: Path = matrix.DIRECTORY) -> Path:
        return Path("/bin/true")


def test_every_version_that_the_package_names_has_a_cell():
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]

    def named(prefix: str) -> set[str]:
        return {line.removeprefix(prefix) for line in classifiers if line.startswith(f"{prefix}") and "." in line}

    assert named("Programming Language :: Python :: ") == {cell.python for cell in CELLS}
    assert named("Framework :: Django :: ") <= {cell.django for cell in CELLS}
    assert {cell.server for cell in CELLS} == {server.family for server in SERVERS}
    assert set(FOR_CI) < {cell.name for cell in CELLS}
    for path in {path for cell in CELLS for path in cell.tests}:
        assert (ROOT / path).exists(), path


def test_the_newest_django_does_without_metrics():
    assert any(line.startswith("django-prometheus") for line in requirements("test"))
    without = list(requirements("test", ("metrics",)))
    assert not any(line.startswith("django-prometheus") for line in without)
    assert {line.split(">")[0] for line in without} > {"Pillow", "pytest", "cronsim"}


def test_a_cell_whose_python_is_missing_fails_and_the_others_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(matrix, "DIRECTORY", tmp_path)
    monkeypatch.setattr(matrix, "ROOT", tmp_path)
    (tmp_path / "pyproject.toml").write_text("[project.optional-dependencies]\ntest = []\n")
    first, second = Cell("first", "3.99", "5.2", server="9.1"), Cell("second", "3.98", "5.2", server="9.1")
    monkeypatch.setattr(matrix, "CELLS", (first, second))
    monkeypatch.setattr(matrix, "SERVERS", (Here("9.1", "true"),))
    assert matrix.main([]) == 1
    shown = capsys.readouterr().out
    assert "FAILED: no Python 3.99" in shown
    assert "FAILED: no Python 3.98" in shown
    assert "no Python 3.99" in (tmp_path / "first.log").read_text()


def test_an_interpreter_of_another_version_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    program = tmp_path / "python3.12"
    program.write_text("#!/bin/sh\necho Python 3.11.2\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(Missing, match=r"no Python 3\.12"):
        matrix.interpreter("3.12")


def test_an_unknown_cell_is_an_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        matrix.main(["--only", "python2.7"])
    assert "no cell python2.7" in capsys.readouterr().err
