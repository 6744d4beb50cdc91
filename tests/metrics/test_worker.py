"""A worker with --metrics-port: its processes in one scrape, whatever becomes of each."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError

from django_taskq import Breaker
from django_taskq.broker import get_broker
from django_taskq.broker.inspector import Inspector
from django_taskq.broker.periodic import Tick, Ticks
from django_taskq.metrics.families import OF_A_WORKER, OF_THE_QUEUE
from tests.conftest import StartWorker
from tests.metrics.scrape import get, port_of, scrape
from tests.sampleapp.tasks import add, async_sleep, fail, sleep
from tests.servers import RedisServer, wait_for
from tests.worker import tasks
from tests.worker.conftest import task_processes

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

    from django_taskq.broker import Broker

METERED = ("--metrics-port", "0")


def test_all_processes_are_one_scrape_and_counters_survive_them(worker: StartWorker, tmp_path: Path) -> None:
    options = ("--processes", "2", "--threads", "2", "--max-tasks", "20")  # processes are replaced meanwhile
    process = worker(*METERED, *options, tasks=["tests.worker.tasks"])
    port = port_of(process)
    Inspector(get_broker()).pause_task("nobody.calls.it")
    Breaker("crm", failures=1).ask("failure", "")
    Ticks(get_broker()).give_up(Tick("report", 1, missed=2))
    add.delay_many([((1, 2), {})] * 50)
    fail.delay()
    tasks.fails.delay(str(tmp_path / "fails"), 1)
    async_sleep.delay(0.3)
    tasks.spawns.delay(str(tmp_path / "spawned"), 1, 3)
    name = "tests.sampleapp.tasks."

    def all_ended() -> bool:
        return scrape(port)("taskq_tasks_processed_total") == 57

    wait_for(all_ended, message=lambda: get(port, "/metrics")[1])
    seen = scrape(port)
    assert seen("taskq_tasks_processed_total", task=f"{name}add", queue="default", status="succeeded") == 50
    assert seen("taskq_tasks_processed_total", task=f"{name}fail", status="failed") == 1
    assert seen("taskq_retries_total", task="tests.worker.tasks.fails", queue="default") == 1
    assert seen("taskq_dead_total", reason="failed") == 1
    assert seen.values("taskq_dead_total", reason="worker_lost") == [0]  # there before it happens
    assert seen("taskq_tasks_enqueued_total", task="tests.worker.tasks.spawns", queue="default") == 3
    assert seen("taskq_task_duration_seconds_count", task="tests.worker.tasks.fails") == 2
    assert seen("taskq_task_wait_seconds_count", task=f"{name}add") == 50
    assert 0.3 <= seen("taskq_task_duration_seconds_sum", task=f"{name}async_sleep") < 1
    assert seen("taskq_task_duration_seconds_bucket", task=f"{name}async_sleep", le="0.25") == 0
    assert seen("taskq_task_duration_seconds_bucket", task=f"{name}async_sleep", le="1.0") == 1
    wait_for(lambda: scrape(port)("taskq_workers", state="running") == 2)
    wait_for(lambda: scrape(port)("taskq_worker_processes", state="running") == 2)
    assert "makes way for a new one" in process.output()
    assert seen("taskq_redis_up") == 1
    assert seen("taskq_periodic_missed_total", periodic="report") == 2
    assert seen("process_resident_memory_bytes") > 1e7
    assert seen("taskq_worker_resident_memory_bytes", process="task") > 1e7
    families = {family.name.removesuffix("_total") for family in (*OF_THE_QUEUE, *OF_A_WORKER)}
    names = {sample.name for sample in seen.all}
    assert not [name for name in families if not any(sample.startswith(name) for sample in names)]

    sleep.using(hard_timeout=0.2, max_retries=0).delay(30.0)
    wait_for(lambda: scrape(port)("taskq_dead_total", reason="hard_timeout") == 1)
    sleep.delay_many([((30.0,), {})] * 2)
    wait_for(lambda: scrape(port)("taskq_worker_busy_ratio") == 0.5)
    for pid in task_processes(process):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: scrape(port)("taskq_reclaimed_total") >= 2, message=lambda: process.output())
    after = scrape(port)
    assert after("taskq_tasks_processed_total") == 58
    assert after("taskq_worker_cpu_seconds_total") >= seen("taskq_worker_cpu_seconds_total")
    process.kill_tree()


def test_a_token_guards_the_metrics_and_not_the_health(worker: StartWorker, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret\n")
    port = port_of(worker(*METERED, taskq={"METRICS_TOKEN": f"file:{secret}"}))
    assert get(port, "/metrics")[0] == 401
    assert get(port, "/metrics", Authorization="Bearer s3cre")[0] == 401
    assert get(port, "/metrics", Authorization="Basic s3cret")[0] == 401
    assert get(port, "/metrics", Authorization="Bearer s3cr\u00e9t")[0] == 401
    assert get(port, "/metrics", Authorization="Bearer ")[0] == 401
    assert get(port, "/metrics", Authorization="Bearer s3cret")[0] == 200
    assert get(port, "/elsewhere")[0] == 404
    wait_for(lambda: get(port, "/healthz")[0] == 200)


def test_a_token_that_changes_holds_and_one_that_hangs_holds_up_nobody(worker: StartWorker, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("first")
    process = worker(*METERED, taskq={"METRICS_TOKEN": f"file:{secret}"}, tasks=["tests.metrics.impatient"])
    port = port_of(process)
    assert get(port, "/metrics", Authorization="Bearer first")[0] == 200
    secret.write_text("second")
    wait_for(lambda: get(port, "/metrics", Authorization="Bearer second")[0] == 200)
    assert get(port, "/metrics", Authorization="Bearer first")[0] == 401
    secret.unlink()
    wait_for(lambda: "the last one still holds" in process.output())
    os.mkfifo(secret)  # whoever reads it waits for ever
    time.sleep(0.5)
    began = time.monotonic()
    assert get(port, "/metrics", Authorization="Bearer second")[0] == 200
    assert time.monotonic() - began < 1
    process.terminate()
    assert process.wait(5) == 0


def test_while_redis_is_away_a_worker_is_healthy_and_knows_nothing(
    worker: StartWorker, redis_server: RedisServer
) -> None:
    redis_server.kill()
    port = port_of(worker(*METERED, wait=False))
    status, body = get(port, "/healthz")
    assert (status, json.loads(body)["redis"]) == (200, False)  # a restart would not bring Redis back
    redis_server.start()
    wait_for(lambda: json.loads(get(port, "/healthz")[1])["beat_age"] is not None)
    wait_for(lambda: scrape(port)("taskq_redis_up") == 1)
    redis_server.kill()
    wait_for(lambda: scrape(port)("taskq_redis_up") == 0)
    wait_for(lambda: not json.loads(get(port, "/healthz")[1])["redis"])
    assert get(port, "/healthz")[0] == 200
    assert scrape(port).values("taskq_queue_depth") == []  # not known is not zero


def test_hostile_clients_do_not_delay_the_beats(worker: StartWorker, redis_server: RedisServer) -> None:
    process = worker(*METERED)
    port = port_of(process)
    idle = [socket.create_connection(("127.0.0.1", port)) for _ in range(60)]
    for number, client in enumerate(idle):
        client.sendall(b"GET /metrics HTTP/1.1\r\n" + b"\r\n" * (number % 2))
    end = time.monotonic() + 1.2
    with redis_server.client() as client:
        before = client.zscore("{taskq}:workers", process.ids[0])
        while time.monotonic() < end:
            get(port, "/metrics")
        assert client.zscore("{taskq}:workers", process.ids[0]) - before >= 1
    for connection in idle:
        connection.close()


def test_the_port_ends_with_the_supervisor(worker: StartWorker) -> None:
    process = worker(*METERED)
    port = port_of(process)
    running = sleep.delay(1.5)
    wait_for(lambda: running.refresh() or running.status == "running")
    process.kill()  # its task process goes on until the task ends
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_a_port_that_is_taken_is_an_error_in_one_line(broker: Broker) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        with pytest.raises(CommandError, match=rf"^--metrics-port: cannot listen at 127.0.0.1, port {port}: "):
            call_command("taskq_worker", "--metrics-port", port)


@pytest.mark.parametrize(
    ("token", "problem"),
    [("file:/nowhere", "cannot be read: .*No such file"), ("", "is empty"), (lambda: None, "is empty")],
)
def test_a_token_that_is_none_is_an_error_at_the_start(
    broker: Broker, settings: SettingsWrapper, token: object, problem: str
) -> None:
    settings.TASKQ = {**settings.TASKQ, "METRICS_TOKEN": token}
    with pytest.raises(CommandError, match=rf"METRICS_TOKEN'\] {problem}"):
        call_command("taskq_worker", *METERED)


def test_without_the_extra_it_says_what_to_install(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("django_taskq.metrics")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(
        CommandError, match=r"prometheus_client is not installed. pip install 'django-taskq-redis\[metrics\]'"
    ):
        call_command("taskq_worker", *METERED)
