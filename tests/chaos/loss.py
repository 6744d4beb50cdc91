"""What `appendfsync everysec` can lose: `python -m tests.chaos.loss [ROUNDS]`.

Producers send as fast as they can when the server is killed. What it had written is with the operating system and comes
back. A machine that loses its power is another thing: only what was synced comes back, once a second. That is acted in
the second half of the rounds: the file is cut to the length that it had a second before.
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import django

SYNCED_EVERY = 1.0  # seconds


class Producer:
    """Sends tasks one by one, and remembers when each was accepted."""

    def __init__(self) -> None:
        self.accepted: list[tuple[float, bytes]] = []
        self.stopping = False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        from django_taskq.exceptions import BrokerUnavailable
        from tests.chaos.tasks import quick

        while not self.stopping:
            try:
                handle = quick.delay(len(self.accepted))
            except BrokerUnavailable:
                continue
            self.accepted.append((time.monotonic(), handle._id))

    def stop(self) -> None:
        self.stopping = True
        self.thread.join()


def kill_once(directory: Path, *, power_cut: bool) -> tuple[int, int, float]:
    """Accepted calls, lost ones, and how long before the kill the oldest lost one was accepted (seconds)."""
    from django.test import override_settings

    from django_taskq.broker.keys import index_field
    from tests.chaos.machine import KEYS, NAMESPACE
    from tests.servers import RedisServer

    directory.mkdir()
    server = RedisServer(directory, config={"appendfsync": "everysec"})
    server.start()
    try:
        with override_settings(TASKQ={"BROKER": server.url, "NAMESPACE": NAMESPACE}):
            producers = [Producer() for _ in range(3)]
            time.sleep(random.uniform(1.5, 3.5))
            synced = server.appended.stat().st_size
            time.sleep(SYNCED_EVERY)
            killed = time.monotonic()
            server.kill()
            for producer in producers:
                producer.stopping = True
            if power_cut:
                os.truncate(server.appended, synced)
            server.start()
            for producer in producers:
                producer.stop()
        with server.client() as client:
            known = set(client.hkeys(KEYS.index))
        accepted = [call for producer in producers for call in producer.accepted if call[0] <= killed]
        lost = [at for at, id in accepted if index_field(id) not in known]
        return len(accepted), len(lost), killed - min(lost) if lost else 0.0
    finally:
        server.close()


def main(rounds: int) -> None:
    os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
    django.setup()
    with tempfile.TemporaryDirectory(prefix="taskq-loss-") as name:
        for what, power_cut in (("kill -9 of the server", False), ("power cut", True)):
            results = [kill_once(Path(name, f"{power_cut}-{number}"), power_cut=power_cut) for number in range(rounds)]
            accepted, lost = sum(result[0] for result in results), sum(result[1] for result in results)
            print(f"{what}, {rounds} times: {accepted:,} tasks accepted, {lost:,} lost", end="")
            print(f", the oldest {max(result[2] for result in results):.2f} s before" if lost else "", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10)
