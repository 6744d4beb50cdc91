"""A MariaDB for tests, in a directory of its own: Debian's mariadb-server, and mysqlclient to talk to it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path

from tests.servers import Process, free_port, wait_for


class MariaServer:
    """A server of its own on a free port; `url` names its database `taskq`, whose user may create others."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.port = free_port()
        self.process: Process | None = None

    @property
    def url(self) -> str:
        return f"mysql://taskq:taskq@127.0.0.1:{self.port}/taskq"

    @staticmethod
    def program(name: str) -> str:
        """Debian keeps mariadbd where only root's PATH looks."""
        if found := shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin"):
            return found
        raise FileNotFoundError(f"{name}: MariaDB is not installed (make matrix installs it)")

    def start(self) -> None:
        data = self.directory / "data"
        # As root it asks for the user to become; Debian's package made one.
        user = ["--user=mysql"] if not os.getuid() else []
        if not data.exists():
            self.directory.mkdir(parents=True, exist_ok=True)
            if user:
                shutil.chown(self.directory, "mysql", "mysql")
            command = [
                self.program("mariadb-install-db"),
                "--no-defaults",
                *user,
                f"--datadir={data}",
                "--skip-test-db",
            ]
            subprocess.run([*command, "--auth-root-authentication-method=normal"], check=True, capture_output=True)
        settings = {
            "datadir": str(data),
            "port": str(self.port),
            "bind-address": "127.0.0.1",
            "socket": str(self.directory / "s"),
            "pid-file": str(self.directory / "pid"),
            "character-set-server": "utf8mb4",
            "innodb-flush-log-at-trx-commit": "0",
            "max-connections": "200",
        }
        arguments = [f"--{name}={value}" for name, value in settings.items()]
        command = [self.program("mariadbd"), "--no-defaults", *user, *arguments]
        process = self.process = Process(command, self.directory.with_suffix(".log"), cwd=Path("/"))
        wait_for(self._answers, 30, lambda: f"MariaDB's first answer:\n{process.output()}")

    def _answers(self) -> bool:
        import MySQLdb

        assert self.process is not None
        if not self.process.alive:
            raise AssertionError(f"MariaDB ended at once:\n{self.process.output()}")
        try:
            connection = MySQLdb.connect(unix_socket=str(self.directory / "s"), user="root")
        except MySQLdb.OperationalError:
            return False
        with connection.cursor() as cursor:
            cursor.execute("CREATE DATABASE IF NOT EXISTS taskq")
            cursor.execute("GRANT ALL ON *.* TO taskq@'127.0.0.1' IDENTIFIED BY 'taskq'")
        connection.close()
        return True

    def stop(self) -> None:
        if self.process is not None:
            self.process.signal(signal.SIGTERM)
            self.process.wait(20)
            self.process.close()

    def close(self) -> None:
        self.stop()
