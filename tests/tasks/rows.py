"""Tasks that are given rows."""

from __future__ import annotations

from dataclasses import dataclass

from django.contrib.auth.models import Group, User

from django_taskq import RowGone, task


@dataclass
class Invitation:
    user: User
    days: int


@task
def greet(user: User, group: Group | None = None) -> str:
    assert not user.get_deferred_fields()
    return f"{user.username} {group and group.name} {user._state.db} {user._state.adding}"


@task
async def greet_soon(user: User) -> str:
    return user.username


@task
def names(users: list[User]) -> list[str]:
    return [user.username for user in users]


@task
def invite(invitation: Invitation) -> str:
    return f"{invitation.user.username} {invitation.days}"


@task(row_gone="fail", max_retries=1, retry_on=RowGone)
def must_be_there(user: User) -> str:
    return user.username


@task
def anything(value, other=None):  # type: ignore[no-untyped-def]
    return value
