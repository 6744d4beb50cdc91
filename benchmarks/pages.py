"""What the server takes to make a page of the admin, with a million rows, fifty queues and twenty workers.

python -m benchmarks.pages ROWS        (broker and database from the environment; prints one line of JSON)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator

from benchmarks.bench import Bench, BenchmarkFailed, Scale
from benchmarks.figures import Figure
from tests.servers import PostgresServer, Process


def pages(bench: Bench, scale: Scale) -> Iterator[list[Figure]]:
    """Ten times --tasks rows, on SQLite, and on PostgreSQL where that is installed."""
    rows = 10 * scale.tasks
    bench.reset()
    yield _timed(bench, rows, f"sqlite:///{bench.database}", "SQLite")
    try:
        PostgresServer.program("initdb")
    except FileNotFoundError:
        bench.say("pages: PostgreSQL is not installed")
        return
    server = PostgresServer(bench.directory / "postgres")
    try:
        server.start()
        yield _timed(bench, rows, server.url, "PostgreSQL")
    finally:
        server.close()


def _timed(bench: Bench, rows: int, database: str, name: str) -> list[Figure]:
    bench.client.flushall()
    log = bench.directory / "pages.log"
    log.unlink(missing_ok=True)
    environment = {"DATABASE_URL": database, "DJANGO_SETTINGS_MODULE": "benchmarks.site"}
    process = Process([sys.executable, "-m", "benchmarks.page_times", str(rows)], log, {**os.environ, **environment})
    try:
        if process.popen.wait(1200):
            raise BenchmarkFailed(f"pages on {name}:\n{process.output()}")
    except subprocess.TimeoutExpired:
        raise BenchmarkFailed(f"pages on {name} do not come to an end") from None
    finally:
        process.close()
    figures = []
    for page, values in json.loads(process.output().splitlines()[-1]).items():
        figures.append(Figure(f"{page}, {rows:,} rows in {name}", "ms"))
        for value in values:
            figures[-1].add(value)
    return figures
