"""What comes and goes while the load runs: something that tasks call is down, and a type of task is paused."""

from __future__ import annotations

import threading
from collections.abc import Callable

from django_taskq.broker import Broker
from django_taskq.broker.gates import Gates
from django_taskq.exceptions import TaskqError
from tests.chaos import ledger, tasks

DOWN, UP = 0.2, 0.55  # parts of the load's time
PAUSED, RESUMED = 0.3, 0.8
AGAIN = 0.2  # seconds until Redis is asked again


class Weather:
    """Its book says on Redis' clock from when to when no call of the paused type may have been handed over."""

    def __init__(self, books: ledger.Books, broker: Broker, seconds: float) -> None:
        self._books, self._broker, self._seconds = books, broker, seconds
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-weather", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Everything is fair from now on."""
        self._ending.set()
        self._thread.join(60)

    def _run(self) -> None:
        gates, name = Gates(self._broker.connections, self._broker.keys), tasks.charges.name
        self._sleep(DOWN)
        self._books.down.touch()
        self._sleep(PAUSED - DOWN)
        if self._insist(lambda: gates.pause(name), give_up=True):
            self._note("paused")
        self._sleep(UP - PAUSED)
        self._books.down.unlink()
        self._sleep(RESUMED - UP)
        self._note("resumes")
        self._insist(lambda: gates.resume(name))

    def _sleep(self, part: float) -> None:
        self._ending.wait(part * self._seconds)

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
