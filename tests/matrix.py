"""Every supported version of Python, Django, database and server: `python -m tests.matrix [--list] [--only A,B]`.

Not every combination: the interpreters and Djangos run all tests, the databases those that touch one, the servers those
that are about Redis. Each cell has an environment in .matrix/, where its log stays; a summary ends the run. Of the
newest Django the extra `metrics` is left out, because django-prometheus does not allow it yet.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.each_server import ROOT, SERVERS, Missing

DIRECTORY = ROOT / ".matrix"
WITH_DATABASE = (
    "tests/api", "tests/backend", "tests/commands", "tests/outbox", "tests/periodic", "tests/records", "tests/web",
    "tests/worker/test_end_to_end.py", "tests/test_shop.py",
)  # fmt: skip
WITH_SERVER = ("tests/broker", "tests/worker/test_end_to_end.py", "tests/worker/test_redis.py", "tests/test_upgrade.py")
# What is deprecated in the newest Django is its users' to see, and no failure here.
WITHOUT_METRICS = (
    "--ignore=tests/metrics", "--ignore=tests/services",
    "-W", "default::DeprecationWarning", "-W", "default::PendingDeprecationWarning",
)  # fmt: skip
# They read plans of SQLite and PostgreSQL, or count queries, of which a new connection to MariaDB begins with one.
NOT_ON_MARIADB = (
    "--deselect=tests/web/test_plans.py", "--deselect=tests/api/test_costs.py::test_each_filter_has_an_index",
    "--deselect=tests/web/test_live.py::test_a_page_costs_the_same_however_much_there_is",
    "--deselect=tests/web/test_task.py::test_its_page_costs_few_queries",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """One run of pytest: where, and of which tests (all, unless it names some)."""

    name: str
    python: str
    django: str
    database: str = "sqlite"
    server: str = "9.1"
    tests: tuple[str, ...] = ()

    @property
    def metered(self) -> bool:
        return self.django != "6.1"

    @property
    def environment(self) -> Path:
        return DIRECTORY / f"python{self.python}-django{self.django}"

    @property
    def log(self) -> Path:
        return DIRECTORY / f"{self.name}.log"


CELLS = (
    Cell("python3.11-django5.2", "3.11", "5.2"),
    Cell("python3.12-django5.2", "3.12", "5.2"),
    Cell("python3.13-django5.2", "3.13", "5.2"),
    Cell("python3.12-django6.0", "3.12", "6.0"),
    Cell("python3.13-django6.0", "3.13", "6.0"),
    Cell("python3.13-django6.1", "3.13", "6.1"),
    *(
        Cell(f"{database}-django{django}", python, django, database=database, tests=WITH_DATABASE)
        for database in ("postgres", "mariadb")
        for python, django in (("3.11", "5.2"), ("3.13", "6.0"), ("3.13", "6.1"))
    ),
    *(Cell(f"server{server.family}", "3.11", "5.2", server=server.family, tests=WITH_SERVER) for server in SERVERS),
)
# What nothing else in .ci/run is about, as far as its time allows.
FOR_CI = ("mariadb-django5.2",)


def interpreter(version: str) -> str:
    """The first of PATH and of pyenv's that starts and is of the version. Raises Missing."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for candidate in (f"python{version}", *map(str, sorted(pyenv.glob(f"{version}.*/bin/python3")))):
        try:
            done = subprocess.run([candidate, "--version"], capture_output=True, text=True, timeout=20)
        except OSError:
            continue
        if done.stdout.startswith(f"Python {version}."):
            return candidate
    raise Missing(f"no Python {version} in PATH or among pyenv's versions")


def requirements(extra: str, leave_out: Sequence[str] = ()) -> Iterator[str]:
    """What an extra of pyproject.toml asks for, with the extras it names unfolded, except for those left out."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    for requirement in extras[extra]:
        if own := re.fullmatch(r"django-taskq-redis\[(.+)\]", requirement):
            for name in own[1].split(","):
                if name not in leave_out:
                    yield from requirements(name, leave_out)
        else:
            yield requirement


def prepare(cell: Cell) -> Path:
    """The Python of the cell's environment, made or brought up to date with pyproject.toml. Raises Missing."""
    python = cell.environment / "bin" / "python"
    made = cell.environment / ".made"
    if made.exists() and made.stat().st_mtime > (ROOT / "pyproject.toml").stat().st_mtime:
        return python
    wanted = [*requirements("test", () if cell.metered else ("metrics",)), "mysqlclient>=2.2"]
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    for command in (
        [interpreter(cell.python), "-m", "venv", str(cell.environment)],
        [*pip, "--editable", str(ROOT), f"Django~={cell.django}.0", *wanted],
    ):
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        if done.returncode:
            raise Missing(f"{' '.join(command)}:\n{done.stdout[-3000:]}")
    made.touch()
    return python


def command_of(cell: Cell, python: Path, arguments: Sequence[str]) -> list[str]:
    tests = [*cell.tests, *(() if cell.metered else WITHOUT_METRICS)]
    tests += NOT_ON_MARIADB if cell.database == "mariadb" else ()
    options = ["-m", "not services and not long", "-n", "2", "--dist", "worksteal"]
    pytest = [str(python), "-m", "pytest", *options, *tests, *arguments]
    if cell.database == "sqlite":
        return pytest
    return [str(python), "-m", "tests.servers", f"--{cell.database}", "--", *pytest]


def run(cell: Cell, arguments: Sequence[str]) -> str:
    """How it went: what pytest says in its last line, or why there was nothing to run."""
    cell.log.parent.mkdir(exist_ok=True)
    try:
        [server] = [server.path() for server in SERVERS if server.family == cell.server]
        python = prepare(cell)
    except Missing as error:
        cell.log.write_text(f"{error}\n", encoding="utf-8")
        return f"FAILED: {str(error).splitlines()[-1]}"
    with cell.log.open("w", encoding="utf-8") as log:
        command = command_of(cell, python, arguments)
        environment = {**os.environ, "TASKQ_TEST_SERVER": str(server)}
        code = subprocess.call(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
    lines = cell.log.read_text(encoding="utf-8").rstrip().splitlines()
    said = lines[-1].strip("= ") if lines else "nothing was said"
    return said if code == 0 else f"FAILED ({code}): {said}"


def summary(results: dict[Cell, tuple[str, float]]) -> str:
    """A table: what ran, on what, how it ended, and after how many seconds."""
    head = ("Cell", "Python", "Django", "Database", "Server", "Seconds", "Result")
    rows = [
        (cell.name, cell.python, cell.django, cell.database, cell.server, f"{seconds:.0f}", said)
        for cell, (said, seconds) in results.items()
    ]
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in (head, *rows))
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    names = [cell.name for cell in CELLS]
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description="Tests on every supported version.")
    parser.add_argument("--only", metavar="A,B", help="these cells; `ci` for those that .ci/run adds to the rest")
    parser.add_argument("--list", action="store_true", help="name the cells")
    parser.add_argument("pytest", nargs="*", help="arguments for pytest, as `-x` or `-k rate`")
    options = parser.parse_args(arguments)
    if options.list:
        print("\n".join(names))
        return 0
    chosen = FOR_CI if options.only == "ci" else (options.only or ",".join(names)).split(",")
    if unknown := set(chosen) - set(names):
        parser.error(f"no cell {', '.join(sorted(unknown))}; --list names them")
    results: dict[Cell, tuple[str, float]] = {}
    for cell in CELLS:
        if cell.name in chosen:
            began = time.monotonic()
            said = run(cell, options.pytest)
            results[cell] = (said, time.monotonic() - began)
            print(f"{cell.name}: {said}  ({cell.log.relative_to(ROOT)})", flush=True)
    print(f"\n{summary(results)}")
    return int(any(said.startswith("FAILED") for said, _ in results.values()))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
