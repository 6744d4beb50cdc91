"""What a worker serves on --metrics-port: /metrics and /healthz, from its supervisor's one thread."""

from __future__ import annotations

import hmac
import json
import logging
import time
from http import HTTPStatus

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from django_taskq.conf import Secret, reveal
from django_taskq.metrics.cluster import Cluster
from django_taskq.metrics.http import HttpServer, Request, Response
from django_taskq.metrics.worker import Worker
from django_taskq.worker.exporting import View

logger = logging.getLogger("django_taskq.worker")

LIVE = 15.0  # seconds without a beat, while Redis answers, after which /healthz says no
SHARE = 10  # a page is kept for so many times as long as it took to make, and for a second at least
TOKEN_KEPT = 60.0  # seconds, before the token is asked for again


class MetricsExporter:
    """The worker's Exporter. Raises OSError where it cannot listen, ValueError for a token that is none."""

    def __init__(self, address: str, port: int, secret: Secret) -> None:
        self._secret, self._token, self._token_until = secret, b"", 0.0
        if secret is not None:
            self._token = _token(secret)
        self._server = HttpServer(address, port, self._answer)
        self.port = self._server.port
        self._view: View | None = None
        self._pages: dict[str, tuple[float, Response]] = {}  # by content type: until when, what
        self._registry = CollectorRegistry()
        self._registry.register(Worker(self._viewed))
        self._cluster = Cluster(away=lambda: not self._viewed().glance().redis)
        self._registry.register(self._cluster)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)

    def fileno(self) -> int:
        """As the server's."""
        return self._server.fileno()

    def serve(self, view: View) -> None:
        """Never blocks for longer than Redis may take to answer. Never raises."""
        self._view = view
        try:
            self._server.serve()
        except Exception:
            logger.exception("metrics: a request could not be answered")

    def close(self) -> None:
        """As the server's."""
        self._server.close()

    def _viewed(self) -> View:
        if self._view is None:
            raise RuntimeError("serve() has not been called")
        return self._view

    def _answer(self, request: Request) -> Response:
        try:
            if request.path == "/healthz":
                return self._health()
            if request.path == "/metrics":
                return self._metrics(request) if self._allowed(request) else _UNAUTHORIZED
        except Exception:
            logger.exception("metrics: %s cannot be served", request.path)
            return Response(HTTPStatus.INTERNAL_SERVER_ERROR, b"see the worker's log\n")
        return Response(HTTPStatus.NOT_FOUND, b"/metrics or /healthz\n")

    def _allowed(self, request: Request) -> bool:
        if self._secret is None:
            return True
        if time.monotonic() >= self._token_until:
            self._token_until = time.monotonic() + TOKEN_KEPT
            try:
                self._token = _token(self._secret)
            except ValueError as error:
                logger.error("metrics: %s; the last one still holds", error)
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return hmac.compare_digest(given.strip().encode("latin-1"), self._token) and scheme.lower() == "bearer"

    def _metrics(self, request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        until, page = self._pages.get(content_type, (0.0, None))
        began = time.monotonic()
        if page is None or began >= until:
            page = Response(HTTPStatus.OK, encode(self._registry), content_type)
            ended = time.monotonic()
            if len(self._pages) > 8:  # a header may ask for many types that are served alike
                self._pages.clear()
            self._pages[content_type] = (ended + max(1.0, SHARE * (ended - began)), page)
        return page

    def _health(self) -> Response:
        glance = self._viewed().glance()
        redis = glance.redis if glance.beaten is not None else self._cluster.up()
        stale = glance.beaten is None or glance.beaten > LIVE
        healthy = not (redis and stale)  # while Redis is away, starting the worker again would not help
        body = {
            "healthy": healthy, "redis": redis,
            "beat_age": None if glance.beaten is None else round(glance.beaten, 3),
            "processes": {state: count for state, count in glance.states.items() if count},
        }  # fmt: skip
        status = HTTPStatus.OK if healthy else HTTPStatus.SERVICE_UNAVAILABLE
        return Response(status, json.dumps(body).encode() + b"\n", "application/json")


def _token(secret: Secret) -> bytes:
    """The token as it is sent; ValueError where there is none."""
    try:
        token = reveal(secret)
    except Exception as error:
        raise ValueError(f"TASKQ['METRICS_TOKEN'] cannot be read: {error}") from error
    if not isinstance(token, str) or not token:
        raise ValueError("TASKQ['METRICS_TOKEN'] is empty. Leave it out, or give a token")
    return token.encode()


_UNAUTHORIZED = Response(
    HTTPStatus.UNAUTHORIZED, b"TASKQ['METRICS_TOKEN'] is wanted\n", headers=(("WWW-Authenticate", "Bearer"),)
)
