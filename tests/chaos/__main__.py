"""`python -m tests.chaos`: see the package's docstring."""

from __future__ import annotations

import argparse
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
from pathlib import Path

import django

from tests.servers import REAPER

LEFT_OUT = "it needs PostgreSQL: python -m tests.servers --postgres -- python -m tests.chaos"


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make chaos", description="Faults under load, and an account of every task.")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="run every fault with N seeds (default: 1)")
    parser.add_argument("--first-seed", type=int, default=1, metavar="N", help="the first of them (default: 1)")
    parser.add_argument("--minutes", type=float, metavar="N", help="start no run after N minutes")
    parser.add_argument("--faults", metavar="A,B", help="only faults whose names begin so")
    parser.add_argument("--keep", metavar="DIRECTORY", help="keep the books and logs of every run there")
    parser.add_argument("--list", action="store_true", help="name all faults")
    return parser.parse_args(arguments)


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    logging.getLogger("django_taskq").setLevel(logging.ERROR)  # hundreds of tasks are dropped on purpose
    from django.db import connection

    from tests.chaos.catalogue import load_catalogue

    chosen = list(load_catalogue().values())
    if options.faults:
        prefixes = tuple(options.faults.split(","))
        chosen = [chaos for chaos in chosen if chaos.name.startswith(prefixes)]
    if options.list:
        for chaos in chosen:
            print(f"{chaos.name:<34} {chaos.title}")
        return 0
    for chaos in [chaos for chaos in chosen if chaos.needs not in {"", connection.vendor}]:
        print(f"{chaos.name} is left out: {LEFT_OUT}")
        chosen.remove(chaos)
    if not chosen:
        print(f"no fault is called {options.faults}; --list names them", file=sys.stderr)
        return 2
    return run_all(options, chosen)


def run_all(options: argparse.Namespace, chosen: list) -> int:
    from django.db import connection
    from django.test.utils import setup_databases, teardown_databases

    from tests.chaos import table
    from tests.conftest import database_url

    directory = Path(tempfile.mkdtemp(prefix="taskq-chaos-"))
    if connection.vendor == "sqlite":
        connection.settings_dict["TEST"]["NAME"] = str(directory / "chaos.sqlite3")
    databases = setup_databases(verbosity=0, interactive=False)
    reports, began = [], time.monotonic()
    try:
        for seed in range(options.first_seed, options.first_seed + options.seeds):
            for chaos in chosen:
                if options.minutes and time.monotonic() - began > options.minutes * 60:
                    break
                reports.append(run_one(chaos, seed, directory / f"{chaos.name}-{seed}", database_url(), options.keep))
                print(f"{chaos.name:<30} {table.line(reports[-1])}", flush=True)
                for problem in reports[-1].problems[:20]:
                    print(f"    {problem}", flush=True)
    except KeyboardInterrupt:
        print("interrupted")
    finally:
        teardown_databases(databases, verbosity=0)
        shutil.rmtree(directory, ignore_errors=True)
        REAPER.close()
    print(f"\n{table.markdown(reports)}")
    print(f"\n{table.limits(reports)}")
    wrong = [report for report in reports if report.problems]
    print(f"\n{len(reports)} runs, {len(wrong)} with problems, in {(time.monotonic() - began) / 60:.1f} minutes")
    return 1 if wrong else 0


def run_one(chaos, seed: int, directory: Path, database: str, keep: str | None):
    from tests.chaos.evidence import Report
    from tests.chaos.run import Run

    directory.mkdir(parents=True)
    report = Report(seed=seed)
    try:
        with Run(directory, database, chaos.plan, seed) as run:
            run.start()
            chaos.act(run)
            report = run.finish()
    except Exception:
        report.problems.append(f"the run itself failed: {traceback.format_exc()}")
    report.title = chaos.title
    if keep or report.problems:
        kept = Path(keep or tempfile.gettempdir()) / f"taskq-chaos-{chaos.name}-{seed}-{os.getpid()}"
        shutil.copytree(directory, kept, ignore=shutil.ignore_patterns("s", "armed-*"), dirs_exist_ok=True)
        report.problems += [f"its logs are in {kept}"] if report.problems else []
    shutil.rmtree(directory, ignore_errors=True)
    return report


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
