"""API tokens in the admin: made once, shown once, revoked."""

from __future__ import annotations

import re

import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.test import Client

from django_taskq.api import tokens
from django_taskq.models import ApiToken
from tests.web.conftest import Allowed

pytestmark = pytest.mark.django_db
LIST = "/admin/django_taskq/apitoken/"


def asked(user: User, **more: str) -> dict[str, str]:
    return {"name": "deploy", "user": str(user.pk), "expires_at_0": "", "expires_at_1": "", **more}


def me(client: Client) -> User:
    return User.objects.get(pk=client.session["_auth_user_id"])


def test_a_token_is_shown_once_and_opens_the_api(admin: Client) -> None:
    response = admin.post(f"{LIST}add/", asked(me(admin)))
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    text = re.findall(r"taskq_[0-9a-f]{12}_[\w-]{43}", response.content.decode())[0]
    row = tokens.find(text)
    assert row is not None
    assert (row.name, row.user) == ("deploy", me(admin))
    secret = text[-43:].encode()
    for page in (LIST, f"{LIST}{row.pk}/change/", f"{LIST}{row.pk}/history/"):
        content = admin.get(page).content
        assert row.prefix.encode() in content
        assert secret not in content
        assert row.digest.encode() not in content
    assert secret not in str(admin.cookies).encode()
    [entry] = LogEntry.objects.all()
    assert str(entry.object_repr) == str(row)
    assert text[-43:] not in entry.change_message


def test_nothing_of_a_token_changes(admin: Client) -> None:
    row, text = tokens.create(me(admin), "deploy")
    assert admin.post(f"{LIST}{row.pk}/change/", asked(me(admin), name="other")).status_code == 403
    assert tokens.find(text) is not None
    assert ApiToken.objects.get().name == "deploy"


def test_an_expiry_that_has_passed_is_refused(admin: Client) -> None:
    response = admin.post(f"{LIST}add/", asked(me(admin), expires_at_0="2020-01-01", expires_at_1="00:00"))
    assert b"This has passed." in response.content
    assert not ApiToken.objects.exists()


def test_only_superusers_make_tokens_for_others(admin: Client, allowed: Allowed) -> None:
    staff, root = allowed("add_apitoken"), me(admin)
    assert b"Select a valid choice" in staff.post(f"{LIST}add/", asked(root)).content
    assert not ApiToken.objects.exists()
    assert staff.post(f"{LIST}add/", asked(me(staff))).status_code == 200
    assert ApiToken.objects.get().user == me(staff)
    assert admin.post(f"{LIST}add/", asked(me(staff))).status_code == 200


def test_revoking_has_a_permission_of_its_own_and_is_logged(admin: Client, allowed: Allowed) -> None:
    row, text = tokens.create(me(admin), "deploy")
    press = {"action": "revoke_selected", "_selected_action": [row.pk]}
    allowed("view_apitoken").post(LIST, press)
    assert tokens.find(text) is not None
    assert allowed().get(LIST).status_code == 403
    revoker = allowed("change_apitoken")
    assert b"1 token revoked." in revoker.post(LIST, press, follow=True).content
    assert tokens.find(text) is None
    assert b"0 tokens revoked." in revoker.post(LIST, press, follow=True).content
    assert [entry.change_message for entry in LogEntry.objects.all()] == ["Revoked."]


def test_hostile_names_are_escaped(admin: Client) -> None:
    response = admin.post(f"{LIST}add/", asked(me(admin), name="<script>alert(1)</script>"))
    for content in (response.content, admin.get(LIST).content):
        assert b"<script>alert" not in content
        assert b"&lt;script&gt;" in content
