"""What comes and goes while the load runs: something that tasks call is down, and a type of task is paused."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django_taskq.broker import Broker
from django_taskq.broker.gates import Gates
from django_taskq.exceptions import TaskqError
from tests.chaos import ledger, tasks
from tests.chaos.load import Load

DOWN, UP = 0.2, 0.55  # parts of the load
PAUSED, RESUMED = 0.3, 0.8
SOON, AGAIN = 0.02, 0.2  # seconds until the load is looked at again, and until Redis is asked again


class Weather:
    """Its book says on Redis' clock from when to when no call of the paused type may have been handed over."""

    def __init__(self, broker: Broker, load: Load) -> None:
        self._books, self._broker, self._load = load.books, broker, load
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-weather", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Everything is fair from now on."""
        self._ending.set()
        self._thread.join(60)

    def _run(self) -> None:
        gates, name = Gates(self._broker.connections, self._broker.keys), tasks.charges.name
        self._wait(DOWN)
        self._books.down.touch()
        self._wait(PAUSED)
        if self._insist(lambda: gates.pause(name), give_up=True):
            self._note("paused")
        self._wait(UP)
        self._books.down.unlink()
        self._wait(RESUMED)
        self._note("resumes")
        self._insist(lambda: gates.resume(name))

    def _wait(self, part: float) -> None:
        while self._load.progress < part and not self._ending.wait(SOON):
            pass

    def _note(self, what: str) -> None:
        self._insist(lambda: ledger.append(self._books.weather, what=what, time=self._broker.time()))

    def _insist(self, call: Callable[[], object], *, give_up: bool = False) -> bool:
        """Until Redis answers; with `give_up` no longer than the load lasts."""
        while True:
            try:
                call()
            except TaskqError:
                if give_up and self._ending.is_set():
                    return False
                threading.Event().wait(AGAIN)
            else:
                return True
