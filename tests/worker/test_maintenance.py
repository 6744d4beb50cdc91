"""What keeps the sweeps of the maintenance process going."""

from __future__ import annotations

import threading

import pytest

from django_taskq.worker import maintenance
from django_taskq.worker.maintenance import keep


class Sweep:
    """Ends with these errors, one after the other, and then runs until it is told to stop."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors, self.runs = list(errors), threading.Event()

    def run(self, stop: threading.Event) -> None:
        if self.errors:
            raise self.errors.pop(0)
        self.runs.set()
        stop.wait()


@pytest.mark.parametrize("error", [KeyError("a fault"), SystemExit(1)], ids=repr)
def test_a_sweep_that_ends_with_an_error_is_run_again_and_the_log_says_which(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(maintenance, "AGAIN", 0.01)
    sweep, stop = Sweep(error, error), threading.Event()
    thread = threading.Thread(target=keep, args=("sampler", sweep, stop))
    thread.start()
    assert sweep.runs.wait(10)
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert caplog.text.count("maintenance: sampler has ended with an error") == 2


def test_a_sweep_that_ends_as_it_is_told_to_is_not_run_again(caplog: pytest.LogCaptureFixture) -> None:
    sweep, stop = Sweep(), threading.Event()
    threading.Timer(0.05, stop.set).start()
    keep("sampler", sweep, stop)
    assert not caplog.records
