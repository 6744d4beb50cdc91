"""That no server is left out without a word (each_server.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests import each_server
from tests.each_server import Missing, Server, run_on
from tests.servers import server_binary


def fake(directory: Path, version: str, name: str = "redis-server") -> Path:
    program = directory / name
    program.parent.mkdir(parents=True, exist_ok=True)
    program.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0 bits=64'\n")
    program.chmod(0o755)
    return program


def test_the_server_of_the_family_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake(tmp_path, "7.0.15")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert Server("7.0", "redis-server").path() == program


def test_another_version_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "7.2.1")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match=r"is 7\.2\.1, not 7\.0"):
        Server("7.0", "redis-server").path()


def test_another_version_in_a_wheel_is_an_error(tmp_path: Path) -> None:
    fake(tmp_path / "package==1", "8.4.0")
    with pytest.raises(Missing, match=r"is 8\.4\.0, not 8\.2"):
        Server("8.2", "redis-server", "package==1").path(tmp_path)


def test_a_server_that_is_not_installed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Missing, match="is not installed"):
        Server("7.0", "redis-server").path()


def test_a_wheel_that_cannot_be_had_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(Missing, match="cannot be had"):
        Server("6.2", "redis-server", f"{tmp_path}/empty").path(tmp_path)


def test_a_missing_server_ends_everything_before_the_first_test(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    servers = (Server("7.0", "no-such-server"),)
    monkeypatch.setattr(each_server, "SERVERS", servers)
    assert each_server.main([]) == 1
    assert "is not installed" in capsys.readouterr().err


def test_a_failure_on_one_server_does_not_hide_the_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    servers = [fake(tmp_path / version, version) for version in ("6.2.14", "7.0.15")]
    code = "import os, sys; print('on', name := os.environ['TASKQ_TEST_SERVER']); sys.exit('6.2' in name)"
    assert run_on(servers, [sys.executable, "-c", code]) == 1
    printed = capfd.readouterr().out
    assert "FAILED (exit code 1)" in printed
    assert "7.0.15   passed" in printed
    assert all(f"on {server}" in printed for server in servers)


def test_the_families_are_those_of_the_documentation() -> None:
    page = (each_server.ROOT / "docs" / "testing.md").read_text()
    for server in each_server.SERVERS:
        assert f" {server.family}." in page


def test_a_real_server_says_its_version() -> None:
    assert each_server.version_of(Path(server_binary())).count(".") == 2
