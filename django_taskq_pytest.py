"""The pytest plugin `django_taskq`: found where this package is installed; `-p no:django_taskq` leaves it out.

It imports nothing before a test asks for one of its fixtures.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from types import ModuleType

    from django_taskq.testing.worker_thread import WorkerThread


@pytest.fixture
def taskq() -> Iterator[ModuleType]:
    """`django_taskq.testing` with TASKQ["MODE"] "collect" and nothing sent: `taskq.assert_enqueued(send_welcome)`."""
    from django_taskq import testing

    with testing.override_taskq(MODE="collect"):
        yield testing


@pytest.fixture(scope="session")
def taskq_embedded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a server of this run's own."""
    from django_taskq import embedded

    address = f"{embedded.SCHEME}{tmp_path_factory.mktemp('taskq')}"
    yield address
    embedded.stop(address)


@pytest.fixture
def taskq_worker(taskq_embedded: str) -> Iterator[WorkerThread]:
    """A real worker in threads of this process, on an empty namespace of an embedded server.

    Its tasks run in other threads: a test whose tasks use the database needs real transactions
    (`@pytest.mark.django_db(transaction=True)`) and, with SQLite, a database in a file.
    """
    from django_taskq.testing import override_taskq
    from django_taskq.testing.worker_thread import WorkerThread

    with (
        override_taskq(MODE="broker", BROKER=taskq_embedded, NAMESPACE=f"test-{uuid.uuid4().hex}"),
        WorkerThread() as worker,
    ):
        yield worker
