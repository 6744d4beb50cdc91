"""Reading what is served, with the client library's own parser."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from tests.servers import WorkerProcess, wait_for


class Samples(NamedTuple):
    """Of one scrape."""

    all: list[Any]

    def __call__(self, name: str, **labels: str) -> float:
        """The sum of the samples of that name with these labels."""
        return sum(self.values(name, **labels))

    def values(self, name: str, **labels: str) -> list[float]:
        return [s.value for s in self.all if s.name == name and labels.items() <= s.labels.items()]


def parsed(text: str) -> Samples:
    return Samples([sample for family in text_string_to_metric_families(text) for sample in family.samples])


def collected(registry: CollectorRegistry) -> Samples:
    return parsed(generate_latest(registry).decode())


def port_of(worker: WorkerProcess) -> int:
    """Which `--metrics-port 0` became."""
    found = wait_for(lambda: re.search(r"metrics and health at \S+, port (\d+)", worker.output()))
    return int(found[1])


def get(port: int, path: str, **headers: str) -> tuple[int, str]:
    """Status and body."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def scrape(port: int, **headers: str) -> Samples:
    status, body = get(port, "/metrics", **headers)
    assert status == 200, body
    return parsed(body)
