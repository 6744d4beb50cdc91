"""Where Redis is: URLs, credentials from elsewhere, django-redis aliases, and what logs may show of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from django.core.exceptions import ImproperlyConfigured

from django_taskq.broker.connection import Connections
from django_taskq.broker.location import Location
from django_taskq.conf import read_settings
from django_taskq.exceptions import BrokerUnavailable
from tests.servers import RedisServer

if TYPE_CHECKING:
    from pytest_django.fixtures import SettingsWrapper


def connections(**taskq: Any) -> Connections:
    return Connections(Location(read_settings(taskq)))


def whoami(**taskq: Any) -> str:
    found = connections(**taskq)
    try:
        return str(found.execute("ACL", "WHOAMI").decode())
    finally:
        found.close()


@pytest.fixture
def guarded(redis_server: RedisServer) -> Iterator[RedisServer]:
    """A server that knows the user app with the password first, beside the default user without one."""
    with redis_server.client() as client:
        set_password(redis_server, "first")
        yield redis_server
        client.execute_command("ACL", "DELUSER", "app")


def set_password(server: RedisServer, password: str, user: str = "app") -> None:
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", user, "on", "resetpass", f">{password}", "~*", "&*", "+@all")


# --- what may be shown ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("broker", "display"),
    [
        ("redis://localhost:6379/0", "redis://localhost:6379/0"),
        ("redis://app@localhost/1", "redis://app@localhost/1"),
        ("redis://:s3cret@localhost:6379/0", "redis://***@localhost:6379/0"),
        ("rediss://app:s3cret@[::1]:6379/2", "rediss://***@[::1]:6379/2"),
        ("redis://app:s3@cret@localhost/0", "redis://***@localhost/0"),
        ("redis://localhost/0?password=s3cret", "redis://localhost/0"),
        ("redis://localhost/0?username=app&password=s3cret&db=3", "redis://localhost/0?db=3"),
        ("unix:///run/redis.sock?db=1&password=s3cret", "unix:///run/redis.sock?db=1"),
        ("unix://app:s3cret@/run/redis.sock", "unix://***@/run/redis.sock"),
        ("embedded://var/taskq", "embedded://var/taskq"),
        ("queue", "queue"),
    ],
)
def test_no_password_is_displayed(broker: str, display: str) -> None:
    assert Location(read_settings({"BROKER": broker})).display == display


def test_an_error_names_the_server_and_no_password() -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        connections(BROKER="redis://app:s3cret@127.0.0.1:1/0").execute("PING")
    assert "127.0.0.1:1" in str(caught.value)
    assert "s3cret" not in str(caught.value)


# --- credentials ------------------------------------------------------------------------------------------------------


def test_user_and_password_in_the_url(guarded: RedisServer) -> None:
    assert whoami(BROKER=f"redis://app:first@127.0.0.1:{guarded.port}/0") == "app"
    assert whoami(BROKER=f"redis://127.0.0.1:{guarded.port}/0?username=app&password=first") == "app"


@pytest.mark.parametrize("url", ["tcp_url", "url"])
def test_user_and_password_as_settings(guarded: RedisServer, url: str) -> None:
    assert whoami(BROKER=getattr(guarded, url), BROKER_USER="app", BROKER_PASSWORD="first") == "app"


def test_settings_come_before_what_the_url_says(guarded: RedisServer) -> None:
    url = f"redis://other:wrong@127.0.0.1:{guarded.port}/0"
    assert whoami(BROKER=url, BROKER_USER="app", BROKER_PASSWORD="first") == "app"


def test_a_user_in_the_url_and_a_password_as_setting(guarded: RedisServer, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("first\n")
    url = f"redis://app@127.0.0.1:{guarded.port}/0"
    assert whoami(BROKER=url, BROKER_PASSWORD=f"file:{tmp_path}/password") == "app"
    assert whoami(BROKER=f"{url}?db=1", BROKER_PASSWORD=lambda: "first") == "app"


def test_a_password_alone_is_the_default_users(guarded: RedisServer) -> None:
    set_password(guarded, "default's", "default")
    try:
        assert whoami(BROKER=guarded.tcp_url, BROKER_PASSWORD="default's") == "default"
    finally:
        connected = connections(BROKER=guarded.tcp_url, BROKER_PASSWORD="default's")
        connected.execute("ACL", "SETUSER", "default", "nopass")
        connected.close()


def test_a_callable_and_a_file_are_asked_at_each_new_connection(guarded: RedisServer, tmp_path: Path) -> None:
    file = tmp_path / "password"
    file.write_text("first\n")
    called = connections(
        BROKER=guarded.tcp_url, BROKER_USER=lambda: "app", BROKER_PASSWORD=lambda: file.read_text().strip()
    )
    read = connections(BROKER=guarded.tcp_url, BROKER_USER="app", BROKER_PASSWORD=f"file:{file}")
    for password in ("first", "second"):
        set_password(guarded, password)
        file.write_text(f"{password}\n")
        for each in (called, read):
            each.close()
            assert each.execute("ACL", "WHOAMI") == b"app"
    called.close()
    read.close()


def test_a_wrong_password_is_an_error_that_does_not_show_it(guarded: RedisServer) -> None:
    with pytest.raises(BrokerUnavailable) as caught:
        whoami(BROKER=guarded.tcp_url, BROKER_USER="app", BROKER_PASSWORD="s3cret")
    assert "s3cret" not in str(caught.value)


def test_a_missing_password_file_is_an_error_that_names_it(redis_server: RedisServer) -> None:
    with pytest.raises(BrokerUnavailable, match="/nowhere/password"):
        whoami(BROKER=redis_server.tcp_url, BROKER_PASSWORD="file:/nowhere/password")


# --- the rest of the address ------------------------------------------------------------------------------------------


def database(found: Connections) -> int:
    try:
        info = found.execute("CLIENT", "LIST", "ID", found.execute("CLIENT", "ID")).decode()
        return int(info.partition(" db=")[2].split()[0])
    finally:
        found.close()


@pytest.mark.parametrize(
    "address", ["redis://127.0.0.1:{port}/3", "redis://127.0.0.1:{port}?db=3", "unix://{socket}?db=3"]
)
def test_the_database_of_the_url(redis_server: RedisServer, address: str) -> None:
    broker = address.format(port=redis_server.port, socket=redis_server.socket)
    assert database(connections(BROKER=broker)) == 3
    assert database(connections(BROKER=broker, BROKER_DB=5)) == 5
    assert database(connections(BROKER=broker, BROKER_DB=0)) == 0


def test_options_reach_the_connection(redis_server: RedisServer) -> None:
    found = connections(BROKER=redis_server.url, BROKER_OPTIONS={"client_name": "me", "socket_timeout": 1.5})
    assert found.execute("CLIENT", "GETNAME") == b"me"
    assert found.open()._sock.gettimeout() == 1.5
    found.close()


def test_a_server_is_told_who_connects(redis_server: RedisServer) -> None:
    assert connections(BROKER=redis_server.url).execute("CLIENT", "GETNAME") == b"django_taskq"


@pytest.mark.parametrize("broker", ["redis://127.0.0.1:nonsense/0", "redis://localhost:6379/0?socket_timeout=soon"])
def test_an_address_that_makes_no_sense_is_an_error_of_the_settings(broker: str) -> None:
    with pytest.raises(ImproperlyConfigured, match="TASKQ"):
        connections(BROKER=broker).open()


# --- django-redis -----------------------------------------------------------------------------------------------------


def cache(location: Any, **options: Any) -> dict[str, Any]:
    return {"BACKEND": "django_redis.cache.RedisCache", "LOCATION": location, "OPTIONS": options}


def test_an_alias_gives_its_location(redis_server: RedisServer, settings: SettingsWrapper) -> None:
    settings.CACHES = {
        "plain": cache(redis_server.tcp_url.replace("/0", "/4")),
        "listed": cache([redis_server.tcp_url.replace("/0", "/4"), "redis://replica:6379/4"]),
        "comma": cache(f"{redis_server.tcp_url.replace('/0', '/4')},redis://replica:6379/4"),
        "socket": cache(f"unix://{redis_server.socket}?db=4"),
    }
    for alias in settings.CACHES:
        assert database(connections(BROKER=alias)) == 4
        assert database(connections(BROKER=alias, BROKER_DB=5)) == 5


def test_an_alias_gives_its_credentials(guarded: RedisServer, settings: SettingsWrapper) -> None:
    url = f"redis://app@127.0.0.1:{guarded.port}/0"
    settings.CACHES = {
        "in_url": cache(url.replace("app@", "app:first@")),
        "in_options": cache(url, PASSWORD="first"),
        "wrong": cache(url, PASSWORD="wrong"),
    }
    assert [whoami(BROKER=alias) for alias in ("in_url", "in_options")] == ["app", "app"]
    assert whoami(BROKER="wrong", BROKER_USER="app", BROKER_PASSWORD="first") == "app"
    assert whoami(BROKER="wrong", BROKER_PASSWORD="first") == "app"


def test_what_suits_a_cache_does_not_reach_the_broker(redis_server: RedisServer, settings: SettingsWrapper) -> None:
    pool = {"max_connections": 1, "decode_responses": True, "retry_on_timeout": True}
    settings.CACHES = {"queue": cache(redis_server.tcp_url, CONNECTION_POOL_KWARGS=pool, SOCKET_TIMEOUT=0.01)}
    found = connections(BROKER="queue")
    both = [found.open(), found.open()]
    assert found.execute("ECHO", "x") == b"x"
    assert both[0]._sock.gettimeout() == 5.0
    assert found.location.new_pool().max_connections > 1000


def test_the_public_client_of_an_alias_works(redis_server: RedisServer, settings: SettingsWrapper) -> None:
    settings.CACHES = {"queue": cache(redis_server.tcp_url)}
    with connections(BROKER="queue").client() as client:
        assert client.ping() is True


@pytest.mark.parametrize("caches", [{}, {"queue": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}])
def test_an_alias_that_is_none_is_an_error_of_the_settings(settings: SettingsWrapper, caches: dict[str, Any]) -> None:
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}, **caches}
    with pytest.raises(ImproperlyConfigured, match="'queue'"):
        connections(BROKER="queue").open()
