"""The errors: one tree, useful texts, and what carries them between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from django_taskq import exceptions
from django_taskq.exceptions import (
    BrokerFull,
    BrokerUnavailable,
    Discard,
    HardTimeout,
    ResultTimeout,
    Retry,
    TaskCancelled,
    TaskFailed,
    TaskqError,
    TaskTimeout,
    UnknownQueue,
)

ALL = [kind for kind in vars(exceptions).values() if isinstance(kind, type) and issubclass(kind, BaseException)]


@pytest.mark.parametrize("kind", ALL)
def test_the_docstring_is_the_default_message(kind: type[BaseException]) -> None:
    assert kind.__doc__
    assert str(kind())[:20] == kind.__doc__.strip()[:20]
    if kind is not Retry:
        assert str(kind("")) == str(kind())
        assert str(kind("what happened")) == "what happened"


def test_one_tree() -> None:
    outside = {kind for kind in ALL if not issubclass(kind, TaskqError)}
    assert outside == {Retry, Discard, TaskTimeout, TaskCancelled, HardTimeout}
    assert issubclass(ResultTimeout, TimeoutError)
    assert issubclass(BrokerFull, BrokerUnavailable)


def test_except_exception_does_not_swallow_an_interruption() -> None:
    assert not issubclass(TaskTimeout, Exception)
    assert not issubclass(TaskCancelled, Exception)


@pytest.mark.parametrize(
    "error",
    [
        BrokerUnavailable("away", id="7"),
        TaskFailed("no", status="failed", error_class="ValueError", error_message="x", traceback="tb"),
        UnknownQueue("which?"),
        ResultTimeout("late"),
        Retry(30, "again"),
        Discard("why"),
        TaskTimeout(),
    ],
)
def test_errors_survive_copying_and_pickling(error: BaseException) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert vars(twin) == vars(error)
        assert str(twin) == str(error)
