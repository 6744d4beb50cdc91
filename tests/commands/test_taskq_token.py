"""taskq_token: create, list, revoke."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.auth.models import User
from django.core.management.base import CommandError
from django.utils import timezone

from django_taskq.api import tokens
from django_taskq.models import ApiToken
from tests.commands.conftest import run

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada(db: None) -> User:
    return User.objects.create_user("ada")


def test_a_new_token_is_printed_alone_and_opens_the_api(ada: User) -> None:
    created = run("taskq_token", "create", "deploy", "--user", "ada")
    row = tokens.find(created.out.strip())
    assert row is not None
    assert (row.name, row.user, row.expires_at) == ("deploy", ada, None)
    assert "cannot be shown again" in created.err
    assert created.out.strip() not in created.err


def test_it_may_expire(ada: User) -> None:
    run("taskq_token", "create", "deploy", "--user", "ada", "--expires", "30")
    expires = ApiToken.objects.get().expires_at
    assert expires is not None
    assert abs(expires - timezone.now() - timedelta(days=30)) < timedelta(minutes=1)


def test_the_list_says_what_each_is_worth_and_tells_no_secret(ada: User) -> None:
    texts = [run("taskq_token", "create", name, "--user", "ada").out.strip() for name in ("old", "gone", "used")]
    old, gone, used = ApiToken.objects.order_by("pk")
    ApiToken.objects.filter(pk=old.pk).update(expires_at=timezone.now())
    assert run("taskq_token", "revoke", gone.prefix).out == f"{gone.prefix} is revoked.\n"
    assert run("taskq_token", "revoke", gone.prefix).out == f"{gone.prefix} was revoked before.\n"
    tokens.find(texts[2])
    rows = run("taskq_token", "list", "--json").json
    assert {row["name"]: row["state"] for row in rows} == {"old": "expired", "gone": "revoked", "used": "usable"}
    assert [row["name"] for row in rows if row["used_at"]] == ["used"]
    listed = run("taskq_token", "list").out
    assert used.prefix in listed
    assert not any(text[-43:] in listed for text in texts)
    User.objects.update(is_active=False)
    assert "user inactive" in run("taskq_token", "list", "--user", "ada").out


def test_there_may_be_none(ada: User) -> None:
    assert run("taskq_token", "list").out == "No tokens.\n"


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["create"], "takes a name for the token, and --user"),
        (["create", "x"], "takes a name for the token, and --user"),
        (["create", "x", "y", "--user", "ada"], "takes a name"),
        (["create", " ", "--user", "ada"], "takes a name"),
        (["create", "x", "--user", "nobody"], "There is no user 'nobody'"),
        (["list", "--user", "nobody"], "There is no user 'nobody'"),
        (["revoke"], "takes prefixes"),
        (["revoke", "abc"], "No token has the prefix 'abc'"),
    ],
)
def test_what_makes_no_sense_is_refused(ada: User, words: list[str], problem: str) -> None:
    with pytest.raises(CommandError, match=problem):
        run("taskq_token", *words)
    assert not ApiToken.objects.exists()
