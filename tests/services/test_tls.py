"""rediss:// against Debian's redis-server: authority, client certificate, pinned certificate."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from django_taskq.broker import get_broker
from django_taskq.exceptions import BrokerUnavailable
from tests.sampleapp.tasks import add
from tests.servers import RedisServer, free_port
from tests.services.certificates import Authority, Certificate

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server_certificate(authority: Authority) -> Certificate:
    return authority.issue("server")


@pytest.fixture
def tls_server(
    start_redis: Callable[..., RedisServer], authority: Authority, server_certificate: Certificate
) -> tuple[RedisServer, str]:
    """A server that asks for client certificates, and its rediss:// address."""
    port = free_port()
    config = {
        "tls-port": str(port),
        "tls-cert-file": str(server_certificate.certificate),
        "tls-key-file": str(server_certificate.key),
        "tls-ca-cert-file": str(authority.root.certificate),
        "tls-auth-clients": "yes",
    }
    return start_redis(binary="redis-server", config=config), f"rediss://127.0.0.1:{port}/0"


@pytest.fixture
def trusted(authority: Authority) -> dict[str, Any]:
    """BROKER_OPTIONS of a client that the server lets in."""
    client = authority.issue("client", "extendedKeyUsage=clientAuth")
    return {
        "ssl_ca_certs": str(authority.root.certificate),
        "ssl_certfile": str(client.certificate),
        "ssl_keyfile": str(client.key),
    }


def use(settings: Any, url: str, options: dict[str, Any]) -> None:
    settings.TASKQ = {**settings.TASKQ, "BROKER": url, "BROKER_OPTIONS": options}


def test_a_task_goes_round_over_tls(
    tls_server: tuple[RedisServer, str],
    trusted: dict[str, Any],
    server_certificate: Certificate,
    settings: Any,
    worker: Any,
) -> None:
    options = {**trusted, "ssl_fingerprint": server_certificate.fingerprint.upper()}
    use(settings, tls_server[1], options)
    worker(wait=False)
    assert add.delay(2, 3).get(timeout=20) == 5
    with tls_server[0].client() as client:
        assert client.dbsize() > 0


def test_a_certificate_of_an_unknown_authority_is_refused(
    tls_server: tuple[RedisServer, str], trusted: dict[str, Any], settings: Any, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path)
    use(settings, tls_server[1], {**trusted, "ssl_ca_certs": str(stranger.root.certificate)})
    with pytest.raises(BrokerUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        get_broker().connections.open()


def test_a_client_without_a_certificate_is_refused(
    tls_server: tuple[RedisServer, str], authority: Authority, settings: Any
) -> None:
    use(settings, tls_server[1], {"ssl_ca_certs": str(authority.root.certificate)})
    with pytest.raises(BrokerUnavailable):
        get_broker().connections.execute("PING")


def test_another_certificate_than_the_pinned_one_is_refused(
    tls_server: tuple[RedisServer, str], trusted: dict[str, Any], settings: Any
) -> None:
    use(settings, tls_server[1], {**trusted, "ssl_fingerprint": "ab" * 32})
    with pytest.raises(BrokerUnavailable, match="not the pinned one"):
        get_broker().connections.open()


def test_a_certificate_that_names_another_host_is_refused(
    start_redis: Callable[..., RedisServer], authority: Authority, trusted: dict[str, Any], settings: Any
) -> None:
    certificate, port = authority.issue("elsewhere", "subjectAltName=DNS:elsewhere.example"), free_port()
    config = {
        "tls-port": str(port),
        "tls-cert-file": str(certificate.certificate),
        "tls-key-file": str(certificate.key),
        "tls-ca-cert-file": str(authority.root.certificate),
    }
    start_redis(binary="redis-server", config=config)
    use(settings, f"rediss://127.0.0.1:{port}/0", trusted)
    with pytest.raises(BrokerUnavailable, match="IP address mismatch"):
        get_broker().connections.open()


def test_a_django_redis_cache_gives_its_tls_options(
    tls_server: tuple[RedisServer, str], trusted: dict[str, Any], settings: Any
) -> None:
    settings.CACHES = {
        **settings.CACHES,
        "queue": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": tls_server[1],
            "OPTIONS": {"CONNECTION_POOL_KWARGS": trusted},
        },
    }
    use(settings, "queue", {})
    assert get_broker().connections.execute("PING") == b"PONG"
    add.delay(2, 3)
    with tls_server[0].client() as client:
        assert client.xlen("{taskq}:queue:default:0") == 1
