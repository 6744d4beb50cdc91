"""Sealed tasks of `django.tasks`."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from django_taskq import Undecryptable
from django_taskq.broker import Broker
from django_taskq.models import TaskResult
from tests.backend.api import Status
from tests.backend.conftest import ended, recorded
from tests.encryption.conftest import with_keys
from tests.encryption.tasks import SECRET, of_framework
from tests.worker.inside import Crew

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper

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
