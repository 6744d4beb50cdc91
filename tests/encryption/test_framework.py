"""Sealed tasks of `django.tasks`."""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

import pytest

from django_taskq import Undecryptable
from django_taskq.backend.results import Origin
from django_taskq.broker import Broker, Submission, get_broker
from django_taskq.core.ids import id_to_str, new_id
from django_taskq.core.message import Message
from django_taskq.models import TaskResult
from django_taskq.sealed import seal_call
from django_taskq.worker.unknown import UNKNOWN_GRACE
from tests.backend import conftest as of_backend
from tests.backend.api import Status
from tests.backend.conftest import Heard, ended, recorded
from tests.encryption.conftest import K2, with_keys
from tests.encryption.tasks import SECRET, of_framework
from tests.servers import wait_for
from tests.worker.inside import Crew

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

heard = of_backend.heard

pytestmark = pytest.mark.django_db(transaction=True)


def test_results_are_opened_where_they_are_asked_for(broker: Broker, keys: SettingsWrapper) -> None:
    sent = of_framework.enqueue(SECRET)
    message = broker.find([uuid.UUID(sent.id).bytes])[0].message
    assert message is not None
    assert message.args.startswith(b'"$sealed:1:k1:')
    assert of_framework.get_result(sent.id).args == [SECRET]
    with Crew(broker, queues=("default",)):
        done, failed = ended(sent), ended(of_framework.enqueue(SECRET, fails=True))
        recorded(broker)
    assert (done.status, done.return_value, done.args) == (Status.SUCCESSFUL, SECRET, [SECRET])
    assert SECRET in failed.errors[0].traceback
    assert not any(
        SECRET in f"{row.args}{row.result}{row.traceback}{row.error_message}" for row in TaskResult.objects.all()
    )
    assert of_framework.get_result(sent.id) == done
    with_keys(keys, {"k1": None})
    with pytest.raises(Undecryptable):
        of_framework.get_result(sent.id)
    assert "sealed with key k1" in of_framework.get_result(failed.id).errors[0].traceback


def test_a_call_that_nobody_can_open_is_a_failure_and_announced(
    broker: Broker, keys: SettingsWrapper, heard: Heard
) -> None:
    """As one whose arguments came plain."""
    sealed = Message(new_id(), of_framework.module_path, f'["{SECRET}"]'.encode(), origin=Origin("default").encoded())
    came_plain = Message(new_id(), sealed.task, sealed.args, origin=sealed.origin)
    seal_call(sealed)
    since = str(int((time.time() - UNKNOWN_GRACE - 1) * 1000))
    broker.connections.execute("XADD", broker.keys.lane("default", 0), "*", *sealed.fields(), "g", since)
    broker.enqueue([Submission(came_plain, "default")])
    with_keys(keys, {"k2": K2})
    with Crew(get_broker(), queues=("default",)):
        wait_for(lambda: len(heard) == 2, 10, heard.names)
    assert heard.names() == ["finished FAILED"] * 2
    results = {result.id: result for _, _, _, result in heard}
    assert [each.exception_class_path for each in results[id_to_str(came_plain.id)].errors] == [
        "django_taskq.exceptions.Unsealed"
    ]
    [error] = results[id_to_str(sealed.id)].errors
    assert "undecryptable" in error.traceback
