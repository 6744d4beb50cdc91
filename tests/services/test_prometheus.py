"""A real Prometheus scrapes the demo by the files of deploy/: series, rules, and every query of the dashboard."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

import pytest
import yaml

from django_taskq.metrics.families import OF_A_WORKER, OF_THE_QUEUE
from tests.servers import ROOT, Process, free_port, wait_for

pytestmark = [pytest.mark.services, pytest.mark.slow]

DEPLOY = ROOT / "deploy"
RULES = sorted((DEPLOY / "prometheus" / "rules").glob("*.yml"))
DASHBOARD = json.loads((DEPLOY / "grafana" / "dashboards" / "taskq.json").read_text(encoding="utf-8"))
TASKS = {"send_email", "resize_picture", "always_fails", "ask_supplier", "count_mails"}


def promtool(*words: str | Path) -> str:
    ended = subprocess.run(["promtool", *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


class Prometheus:
    """On a free port, with the configuration of deploy/, but for addresses and the pace."""

    def __init__(self, directory: Path, targets: dict[str, str]) -> None:
        config = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
        config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
        config["rule_files"] = [str(path) for path in RULES]
        for job in config["scrape_configs"]:
            job["static_configs"] = [{"targets": [targets.pop(job["job_name"])]}]
        assert not targets
        (directory / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
        self.port = free_port()
        self.process = Process(
            [
                "prometheus", f"--config.file={directory / 'prometheus.yml'}",
                f"--storage.tsdb.path={directory / 'data'}", f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            directory / "prometheus.log",
        )  # fmt: skip

    def api(self, path: str, **parameters: str) -> Any:
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        try:
            with urllib.request.urlopen(url, timeout=10) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{parameters}: {error.read().decode()}") from error

    def query(self, expression: str) -> list[tuple[dict[str, str], float]]:
        return [(each["metric"], float(each["value"][1])) for each in self.api("query", query=expression)["result"]]

    def answers(self) -> bool:
        assert self.process.alive, self.process.output()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def up(self) -> set[str]:
        return {target["labels"]["job"] for target in self.api("targets")["activeTargets"] if target["health"] == "up"}


def pause(task: str, directory: Path, environment: dict[str, str]) -> None:
    """As an operator of the demo does."""
    of_the_demo = {
        "REDIS_URL": f"embedded://{directory / 'queue'}",
        "DATA_DIR": str(directory),
        "DATABASE_URL": f"sqlite:///{directory / 'db.sqlite3'}",
    }
    subprocess.run(
        [sys.executable, "manage.py", "taskq_queue", "pause", "--task", f"testproject.shop.tasks.{task}"],
        cwd=ROOT, env={**os.environ, **environment, **of_the_demo}, timeout=60, check=True,
    )  # fmt: skip


def send_from_the_web(url: str, **form: str) -> None:
    """By the shop's form, as a visitor."""
    cookies = CookieJar()
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
    browser.open(url, timeout=10).close()
    [token] = [cookie.value for cookie in cookies if cookie.name == "csrftoken"]
    form = {"count": "5", "delay": "0", "priority": "0", **form, "csrfmiddlewaretoken": token or ""}
    with browser.open(url, urllib.parse.urlencode(form).encode(), timeout=10) as response:
        assert response.url.endswith("/sent/")


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    assert shutil.which("prometheus"), "Prometheus is not installed (make test-services installs it)"
    directory = tmp_path_factory.mktemp("prometheus")
    command = [sys.executable, "-m", "testproject.demo", "--directory", str(directory / "demo"), "--spread", "15"]
    often = {"EMAIL_FAILURE_RATE": "0.2", "COUNT_MAILS_EVERY": "2"}
    clean = {"REDIS_URL": "", "REDIS_ADDR": "", "PYTHONUNBUFFERED": "1", **often}
    demo = Process(command, directory / "demo.log", {**clean, "METRICS_PORT": str(free_port())})
    started = None
    try:
        demo.wait_for_output("metrics at", 40)
        web = re.search(r"Web +http://([\d.:]+)/", demo.output())
        worker = re.search(r"metrics at http://([\d.:]+)/metrics", demo.output())
        assert web
        assert worker
        started = Prometheus(directory, {"web": web[1], "worker": worker[1]})
        wait_for(started.answers, 20, started.process.output)
        wait_for(lambda: started.up() == {"web", "worker"}, 20, lambda: started.api("targets"))
        send_from_the_web(f"http://{web[1]}/", work="supplier")
        pause("build_report", directory / "demo", clean)
        done = 'sum(taskq_tasks_processed_total{status=~"succeeded|failed",task!~".*count_mails"}) > 110'
        wait_for(lambda: started.query(done), 60, demo.output, interval=0.5)
        ticked = 'taskq_tasks_processed_total{task=~".*count_mails"}'
        for seen in ("taskq_task_paused", "taskq_periodic_sent_total", ticked):
            wait_for(lambda seen=seen: started.query(seen), 10, seen)
        yield started
    finally:
        if started is not None:
            started.process.close()
        demo.close(20)


def tasks_of(prometheus: Prometheus, expression: str) -> set[str]:
    return {labels["task"].rpartition(".")[2] for labels, _ in prometheus.query(expression)}


def test_every_series_is_there(prometheus: Prometheus) -> None:
    for family in (*OF_THE_QUEUE, *OF_A_WORKER):
        name = family.name + ("_count" if "Histogram" in family.kind.__name__ else "")
        found = prometheus.query(name)
        assert found, name
        for labels, _ in found:
            assert set(family.labels) <= set(labels), name
    jobs = {labels["job"] for labels, _ in prometheus.query("taskq_queue_depth")}
    assert jobs == {"web", "worker"}
    assert tasks_of(prometheus, "taskq_task_paused == 1") == {"build_report"}
    assert {labels["breaker"] for labels, _ in prometheus.query("taskq_breaker_state{state='closed'} == 1")} == {"smtp"}
    assert tasks_of(prometheus, "taskq_tasks_processed_total") == TASKS
    assert prometheus.query("django_http_requests_total_by_method_total{job='web'}")
    assert prometheus.query("django_db_execute_total{job='web'} > 0")
    assert prometheus.query("django_cache_get_total{job='web'} > 0")


def test_the_rules_are_evaluated_without_errors_and_recorded(prometheus: Prometheus) -> None:
    def all_evaluated() -> bool:
        groups = prometheus.api("rules")["groups"]
        assert {rule.get("lastError") for group in groups for rule in group["rules"]} <= {None, ""}
        return bool(groups) and all(rule["health"] == "ok" for group in groups for rule in group["rules"])

    wait_for(all_evaluated, 10)
    recorded = [rule["record"] for path in RULES for group in yaml.safe_load(path.read_text())["groups"]
                for rule in group["rules"] if "record" in rule]  # fmt: skip
    assert len(recorded) == 10
    for name in recorded:
        assert wait_for(lambda name=name: prometheus.query(name), 10, name)
    firing = {labels["alertname"] for labels, _ in prometheus.query('ALERTS{alertstate="firing",severity="page"}')}
    assert "TaskqNoWorker" not in firing
    assert "TaskqRedisAway" not in firing


EXPRESSIONS = [
    (f"{panel['title']} {target['refId']}", target["expr"])
    for panel in DASHBOARD["panels"]
    for target in panel.get("targets", ())
]


@pytest.mark.parametrize("expression", [pytest.param(text, id=name) for name, text in EXPRESSIONS])
def test_every_query_of_the_dashboard_returns_data(prometheus: Prometheus, expression: str) -> None:
    for variable, value in {"$__rate_interval": "1m", "$queue": ".*", "$task": ".*"}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression
    found = wait_for(lambda: prometheus.query(expression), 10, expression)
    assert any(not math.isnan(value) for _, value in found), found


def test_the_variables_of_the_dashboard_have_values(prometheus: Prometheus) -> None:
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            series, label = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["definition"]).groups()
            values = prometheus.api(f"label/{label}/values", **{"match[]": series.replace("$queue", ".*")})
            assert values, variable["name"]


def test_promtool_accepts_the_rules_the_configuration_and_their_cases() -> None:
    assert "SUCCESS: 2 rule files found" in promtool("check", "config", DEPLOY / "prometheus" / "prometheus.yml")
    promtool("check", "rules", *RULES)
    promtool("test", "rules", *sorted((DEPLOY / "prometheus" / "tests").glob("*.yml")))
