"""deploy/docker-compose.yaml and the Dockerfile: read by docker-compose; their commands run here, without Docker."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import ROOT, PostgresServer, Process, RedisServer, free_port, wait_for

pytestmark = pytest.mark.services

DEPLOY = ROOT / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
SECRETS = dict.fromkeys(re.findall(r"^(\w+)=", (DEPLOY / ".env.example").read_text(), re.MULTILINE), "s3cret")
BIN = Path(sys.executable).parent


def config(**environment: str) -> subprocess.CompletedProcess[str]:
    clean = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "/"), **environment}
    command = ["docker-compose", "--file", str(DEPLOY / "docker-compose.yaml"), "config"]
    return subprocess.run(command, env=clean, capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    ended = config(**SECRETS)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = yaml.safe_load(ended.stdout)["services"]
    return found


@pytest.mark.parametrize("missing", sorted(SECRETS))
def test_nothing_starts_without_its_secrets(missing: str) -> None:
    ended = config(**{name: value for name, value in SECRETS.items() if name != missing})
    assert ended.returncode != 0
    assert "see deploy/.env.example" in ended.stderr


def test_files_that_are_mounted_and_copied_exist(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert not source.startswith("/") or Path(source).exists(), source
    for words in re.findall(r"^COPY (?!--from)(.+) \S+$", DOCKERFILE, re.MULTILINE):
        ignored = (ROOT / ".dockerignore").read_text().splitlines()
        for name in words.split():
            assert (ROOT / name).exists(), name
            assert f"!{name}" in ignored, name


def test_redis_keeps_tasks_and_nobody_is_root(services: dict[str, Any]) -> None:
    command = services["redis"]["command"][-1]
    for option in ("--appendonly yes", "--appendfsync everysec", "--maxmemory-policy noeviction"):
        assert option in command
    assert services["redis"]["user"] == "redis"
    assert re.findall(r"^USER (.+)$", DOCKERFILE, re.MULTILINE) == ["10001"]
    for name in ("migrate", "web", "worker"):
        assert services[name]["cap_drop"] == ["ALL"]
        assert services[name]["read_only"]
    for service in services.values():
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))


def test_redis_asks_for_a_password_that_no_list_of_processes_shows(services: dict[str, Any], tmp_path: Path) -> None:
    shell, option, script = services["redis"]["command"]
    port = str(free_port())
    script = script.replace("$$", "$").replace(" - <<", f" --port {port} --dir {tmp_path} - <<")
    redis = Process([shell, option, script], tmp_path / "redis.log", {"REDISCLI_AUTH": "se cr'et"})
    try:
        redis.wait_for_output("Ready to accept connections", 10)
        assert b"cr'et" not in Path(f"/proc/{redis.pid}/cmdline").read_bytes()

        def cli(*words: str, password: str) -> str:
            command = ["redis-cli", "-p", port, *words]
            environment = {**os.environ, "REDISCLI_AUTH": password}
            return subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=5, check=False
            ).stdout

        assert "NOAUTH" in cli("ping", password="")
        assert cli("ping", password="se cr'et").strip() == "PONG"
        assert cli("config", "get", "maxmemory-policy", password="se cr'et").split() == [
            "maxmemory-policy",
            "noeviction",
        ]
        assert cli("config", "get", "appendonly", password="se cr'et").split() == ["appendonly", "yes"]
    finally:
        redis.close()


def grace_of(service: dict[str, Any]) -> int:
    """Seconds between SIGTERM and SIGKILL."""
    minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", service["stop_grace_period"]).groups()
    return int(minutes or 0) * 60 + int(seconds or 0)


def test_each_service_has_longer_to_stop_than_it_takes(services: dict[str, Any]) -> None:
    words = services["worker"]["command"]
    assert grace_of(services["worker"]) > float(words[words.index("--shutdown-timeout") + 1]) + 24
    assert grace_of(services["web"]) > 30  # gunicorn's --graceful-timeout, unless another is given
    assert "--graceful-timeout" not in services["web"]["command"]
    assert min(grace_of(services["redis"]), grace_of(services["postgres"])) >= 60


@pytest.fixture
def environment(
    services: dict[str, Any], postgres: PostgresServer, start_redis: Callable[..., RedisServer], tmp_path: Path
) -> dict[str, str]:
    """Of the services, with servers of this machine in place of the other containers."""
    settings = services["worker"]["environment"]
    assert re.search(r"^ +DEBUG=0 ", DOCKERFILE, re.MULTILINE)
    server = start_redis(binary="redis-server")
    return {
        "SECRET_KEY": settings["SECRET_KEY"],
        "ALLOWED_HOSTS": settings["ALLOWED_HOSTS"],
        "DEBUG": "0",
        "REDIS_ADDR": server.tcp_url.removeprefix("redis://").split("/")[0],
        "REDIS_URL": "",
        "DATABASE_URL": postgres.url,
        "DATA_DIR": str(tmp_path / "data"),
        "STATIC_ROOT": str(tmp_path / "static"),
        "ENV_FILE": os.devnull,
        "DJANGO_SETTINGS_MODULE": "testproject.settings",
    }


def in_place(words: list[str], ports: dict[str, str]) -> list[str]:
    """A command of the image with this environment's programs, and free ports."""
    changed = [re.sub(r"\d{4}$", lambda port: ports.get(port[0], port[0]), word) for word in words]
    return [str(BIN / changed[0]), *changed[1:]]


@pytest.mark.slow
def test_the_commands_of_the_image_and_the_services_work(
    services: dict[str, Any], environment: dict[str, str], tmp_path: Path
) -> None:
    def succeeds(words: list[str]) -> bool:
        ended = subprocess.run(
            in_place(words, {}), env={**os.environ, **environment}, cwd=ROOT, timeout=60, check=False
        )
        return ended.returncode == 0

    [collect] = re.findall(r"^RUN .*(python manage\.py collectstatic .+)$", DOCKERFILE, re.MULTILINE)
    assert succeeds(shlex.split(collect))
    assert succeeds(services["migrate"]["command"])
    ports = {"8000": str(free_port()), "2112": str(free_port())}
    started = [
        Process(in_place(services[name]["command"], ports), tmp_path / f"{name}.log", environment)
        for name in ("web", "worker")
    ]
    web, worker = started
    try:
        worker.wait_for_output("starts: queues default", 30)
        web.wait_for_output("Listening at", 30)
        for name in ("web", "worker"):
            asks = services[name]["healthcheck"]["test"][1:]
            wait_for(lambda asks=asks: succeeds(asks), 30, lambda: web.output() + worker.output(), interval=0.5)

        def get(port: str, path: str) -> str:
            with urllib.request.urlopen(f"http://127.0.0.1:{ports[port]}{path}", timeout=10) as response:
                return str(response.read().decode())

        assert "Django administration" in get("8000", "/admin/login/")
        assert "--primary" in get("8000", "/static/admin/css/base.css")
        assert "taskq_redis_up 1.0" in get("8000", "/metrics")
        assert json.loads(get("2112", "/healthz"))["processes"] == {"running": 2}
        assert worker.terminate(30) == 0
        assert web.terminate(30) == 0
    finally:
        for process in started:
            process.close()
