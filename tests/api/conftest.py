from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import msgspec
import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from django_taskq.api import tokens
from django_taskq.api.routes import ROUTES, SLASHED
from django_taskq.api.schemas import Failure
from django_taskq.broker import Broker
from django_taskq.broker.connection import Connections
from django_taskq.bulk import Writer
from django_taskq.core.outcome import Outcome
from django_taskq.models import DeadTask
from tests.api import tasks  # noqa: F401  (registers them)
from tests.broker.helpers import Hand, Shard
from tests.records.outcomes import entries

EVERYTHING = (
    "view_taskresult", "view_deadtask", "view_arguments", "requeue", "discard", "cancel", "pause", "purge", "control",
    "monitor", "submit", "view_periodictask", "change_periodictask", "run",
)  # fmt: skip


class Answer(NamedTuple):
    status: int
    body: Any
    headers: Any

    @property
    def code(self) -> str:
        return str(self.body["error"]["code"])


class Api:
    """A caller with a token, or with none."""

    def __init__(self, token: str | None, user: User | None = None) -> None:
        self.token, self.user, self.client = token, user, Client(enforce_csrf_checks=True)

    def call(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        if self.token:
            headers.setdefault("Authorization", f"Bearer {self.token}")
        content = {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        response = self.client.generic(method, f"/taskq/{path}", headers=headers, **content)  # type: ignore[arg-type]
        assert response.status_code == 204 or response.headers["Content-Type"] == "application/json", response.content
        body = None if method == "HEAD" or not response.content else json.loads(response.content)
        if body is not None:
            # Structs do not check what they are made of, so each answer is read as what the document calls it.
            msgspec.convert(body, _answer_of(method, path) if response.status_code < 400 else Failure)
        return Answer(response.status_code, body, response.headers)

    def get(self, path: str) -> Answer:
        return self.call("GET", path)

    def post(self, path: str, body: Any = None) -> Answer:
        return self.call("POST", path, body)


def _answer_of(method: str, path: str) -> Any:
    """What openapi.json says that this call answers with."""
    for route in ROUTES:
        pattern = re.sub(r"{(\w+)}", lambda part: ".+" if part[1] in SLASHED else "[^/]+", route.path)
        if route.method == method and re.fullmatch(pattern, path.partition("?")[0]):
            return route.response
    raise LookupError(f"{method} {path}")


def user_with(*codenames: str, name: str = "") -> User:
    """A user with exactly these permissions of django_taskq, and no member of staff."""
    user = User.objects.create_user(name or f"user-{User.objects.count()}", password="x")
    chosen = Permission.objects.filter(content_type__app_label="django_taskq", codename__in=codenames)
    user.user_permissions.set(chosen)
    assert len(chosen) == len(codenames), codenames
    return user


@pytest.fixture
def caller(db: None) -> Callable[..., Api]:
    """caller("monitor", "pause"): somebody with a token and these permissions."""

    def make(*codenames: str) -> Api:
        user = user_with(*codenames)
        return Api(tokens.create(user, "test")[1], user)

    return make


@pytest.fixture
def api(caller: Callable[..., Api]) -> Api:
    """Somebody who may do everything, without being a superuser."""
    return caller(*EVERYTHING)


@pytest.fixture
def hand(broker: Broker) -> Iterator[Hand]:
    """The worker w1, driven by hand."""
    hand = Hand(Shard(broker))
    yield hand
    hand.connection.disconnect()


@pytest.fixture
def round_trips(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """Asserts that a block needs at most so many round trips to Redis."""
    calls: list[str] = []
    for name in ("run", "start", "execute", "open"):
        original = getattr(Connections, name)

        def counted(self: Connections, *args: Any, _name: str = name, _original: Any = original) -> Any:
            calls.append(_name)
            return _original(self, *args)

        monkeypatch.setattr(Connections, name, counted)

    @contextmanager
    def at_most(number: int) -> Iterator[None]:
        calls.clear()
        yield
        assert len(calls) <= number, calls

    return at_most


def record(*outcomes: Outcome) -> None:
    Writer().write(entries(*outcomes))


def only_dead() -> DeadTask:
    return DeadTask.objects.get()


def ready(broker: Broker, queue: str = "default") -> int:
    return int(broker.connections.execute("XLEN", broker.keys.lane(queue, 0)))
