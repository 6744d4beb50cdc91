"""What the tests beside this file run; in worker processes too, where it sets up what a project would."""

from __future__ import annotations

import asyncio
import logging
import os
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from django.utils import timezone, translation

from django_taskq import BatchCall, Discard, Retry, current_task, task
from django_taskq.middleware.request_id import current_request_id
from django_taskq.signals import worker_process_started

logger = logging.getLogger("tests.observability")
if "TASKQ_TEST_SETTINGS" in os.environ:  # in a worker, whose root logger is at WARNING
    logger.setLevel(logging.INFO)


@task
def works(value: Any = None) -> Any:
    logger.info("works on %r", value)
    return value


@task
def works_loudly(text: str) -> None:
    logger.warning("%s", text)


@task
async def works_async(value: Any = None) -> Any:
    await asyncio.sleep(0)
    logger.info("works on %r", value)
    return value


tenant: ContextVar[Any] = ContextVar("tenant")
locale: ContextVar[str] = ContextVar("locale", default="none")


def _surroundings() -> dict[str, Any]:
    return {
        "language": translation.get_language(),
        "timezone": timezone.get_current_timezone_name(),
        "request_id": current_request_id.get(),
        "tenant": tenant.get(None),
        "locale": locale.get(),
    }


@task(batch=10, batch_timeout=0.2, max_retries=1, backoff=0)
def takes_many(calls: list[BatchCall[int]]) -> list[int | Exception]:
    seen = _surroundings()
    logger.info("%d calls, language %s, tenant %r", len(calls), seen["language"], seen["tenant"])
    return [ValueError("odd") if call.item % 2 else call.item for call in calls]


@task
def looks_around() -> dict[str, Any]:
    return _surroundings()


@task
async def looks_around_async() -> dict[str, Any]:
    await asyncio.sleep(0)
    return _surroundings()


@task(max_retries=1, backoff=0)
def fails(text: str = "oops") -> None:
    logger.warning("about to fail")
    raise ValueError(text)


@task(max_retries=1, backoff=0)
def fails_once() -> int:
    logger.warning("attempt %d", current_task().attempt)
    if current_task().attempt == 1:
        raise ValueError("the first attempt")
    return current_task().attempt


@task(max_retries=1, backoff=0)
def asks_again() -> None:
    raise Retry


@task
def discards() -> None:
    raise Discard("nothing to do")


if dsn := os.environ.get("TASKQ_TEST_SENTRY"):
    import sentry_sdk

    sentry_sdk.init(dsn, traces_sample_rate=1.0, default_integrations=False)  # before the fork, as settings do


if exporter := os.environ.get("TASKQ_TEST_SPANS"):

    def trace(**_: Any) -> None:
        """Spans wait in the batch for longer than any test: only a flush at the end brings them to the file."""
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter
        from opentelemetry.trace import set_tracer_provider

        provider = TracerProvider()
        out = Path(exporter).open("a", encoding="utf-8")  # noqa: SIM115
        console = ConsoleSpanExporter(out=out, formatter=lambda span: span.to_json(indent=None) + "\n")
        provider.add_span_processor(BatchSpanProcessor(console, schedule_delay_millis=600_000))
        set_tracer_provider(provider)

    worker_process_started.connect(trace, weak=False)
