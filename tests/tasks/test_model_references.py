"""Rows as arguments: they travel as a reference and arrive as they are in the database by then."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Group, Permission, User

from django_taskq import BatchCall, InvalidArguments, InvalidTask, ResultError, TaskFailed, task
from django_taskq.testing import assert_enqueued, enqueued, override_taskq, run_enqueued
from tests.tasks import rows

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def collecting() -> Iterator[None]:
    with override_taskq(MODE="collect"):
        yield


@pytest.fixture
def ada() -> User:
    return User.objects.create(username="ada")


def test_a_row_arrives_as_it_is_by_then(ada: User, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        handle = rows.greet.delay(ada, group=None)
    assert enqueued()[0]._call.message.args == b'[{"model":"auth.user","pk":%d,"database":"default"}]' % ada.pk
    User.objects.update(username="grace")
    assert_enqueued(rows.greet, args=(ada, None), count=1)
    with django_assert_num_queries(1):
        run_enqueued()
    assert handle.get() == "grace None default False"
    assert rows.greet(ada) == "ada None default False"  # a plain call passes what it is given


def test_optional_rows_lists_and_dataclasses(ada: User, django_assert_num_queries: Any) -> None:
    group = Group.objects.create(name="team")
    grace = User.objects.create(username="grace")
    handles = [
        rows.greet.delay(ada, group), rows.names.delay([ada, grace, ada]),
        rows.invite.delay(rows.Invitation(grace, 3)),
    ]  # fmt: skip
    with django_assert_num_queries(4):  # one for each model of each call
        run_enqueued()
    assert [handle.get() for handle in handles] == ["ada team default False", ["ada", "grace", "ada"], "grace 3"]


@pytest.mark.django_db(transaction=True)
def test_coroutine_functions_take_them_too(ada: User) -> None:
    handle = rows.greet_soon.delay(ada)
    run_enqueued()
    assert handle.get() == "ada"


def test_a_key_will_do(ada: User) -> None:
    handle = rows.greet.delay(ada.pk)  # type: ignore[arg-type]
    run_enqueued()
    assert handle.get().startswith("ada")


def test_a_row_that_is_gone_ends_the_task_as_discarded(ada: User) -> None:
    handle, pk = rows.greet.delay(ada), ada.pk
    ada.delete()
    run_enqueued()
    assert handle.status == "discarded"
    with pytest.raises(TaskFailed, match=f"row_gone: auth.user {pk} is not in the database 'default'"):
        handle.get()


def test_or_as_failed_where_the_task_says_so(ada: User) -> None:
    handle = rows.must_be_there.delay(ada)
    ada.delete()
    run_enqueued()
    assert handle.status == "failed"
    with pytest.raises(TaskFailed, match=r"RowGone: row_gone: auth\.user"):
        handle.get()
    (call,) = enqueued()
    assert call._call.outcome.attempts == 2
    assert '"model":"auth.user"' in str(call)


@pytest.mark.parametrize("value", [User(username="new"), User(pk=7, username="with a key")])
def test_what_is_not_saved_is_refused(value: User) -> None:
    with pytest.raises(InvalidArguments, match=r"user .User.: it has not been saved"):
        rows.greet.delay(value)


def test_another_model_is_refused(ada: User) -> None:
    with pytest.raises(InvalidArguments, match=r"a reference to auth\.Group is none to auth\.User"):
        rows.greet.delay(Group.objects.create(name="team"))  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="by its key"):
        rows.greet.delay(7.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidArguments, match="no reference"):
        rows.greet.delay({"pk": 7})  # type: ignore[arg-type]


def test_without_a_hint_a_row_is_refused(ada: User) -> None:
    with pytest.raises(InvalidArguments, match="value is of type User and would arrive as dict"):
        rows.anything.delay(ada)


def test_a_row_is_no_result(ada: User) -> None:
    handle = rows.anything.delay(1)
    rows.anything.func, kept = lambda value: Permission(), rows.anything.func
    try:
        run_enqueued()
    finally:
        rows.anything.func = kept
    with pytest.raises(ResultError, match="Permission"):
        handle.get()


def grow(calls: list[BatchCall[User]]) -> None:
    """Declared a task below."""


def test_a_batch_takes_keys(registered: Any) -> None:
    declared = task(batch=10)(grow)
    with pytest.raises(InvalidTask, match="primary key"):
        declared.verify()


def test_an_unknown_row_gone_is_refused(registered: Any) -> None:
    with pytest.raises(InvalidTask, match="'discard' or 'fail'"):
        task(row_gone="ignore")(grow)  # type: ignore[call-overload]
