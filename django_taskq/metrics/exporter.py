"""What a worker serves on --metrics-port: /metrics and /healthz, from its supervisor's one thread."""

from __future__ import annotations

import hmac
import json
import logging
import time
from http import HTTPStatus

from prometheus_client import CollectorRegistry, PlatformCollector, ProcessCollector
from prometheus_client.exposition import choose_encoder

from django_taskq.conf import Secret
from django_taskq.metrics.cluster import Cluster
from django_taskq.metrics.http import HttpServer, Request, Response
from django_taskq.metrics.worker import Worker
from django_taskq.worker.exporting import View
from django_taskq.worker.metrics_token import read_token

logger = logging.getLogger("django_taskq.worker")

LIVE = 15.0  # seconds without a beat, while Redis answers, after which /healthz says no
SHARE = 10  # a page is kept for so many times as long as it took to make, and for a second at least


class MetricsExporter:
    """The worker's Exporter. Raises OSError where it cannot listen, ValueError for a token that is none."""

    def __init__(self, address: str, port: int, secret: Secret) -> None:
        self._first_token = None if secret is None else read_token(secret)
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
        token = self._viewed().metrics_token or self._first_token
        if token is None:
            return True
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        return hmac.compare_digest(given.strip().encode("latin-1"), token) and scheme.lower() == "bearer"

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


_UNAUTHORIZED = Response(
    HTTPStatus.UNAUTHORIZED, b"TASKQ['METRICS_TOKEN'] is wanted\n", headers=(("WWW-Authenticate", "Bearer"),)
)
