"""Tasks whose calls are sealed."""

from __future__ import annotations

import logging
from datetime import date

from django_taskq import BatchCall, Discard, current_task, task
from django_taskq.backend import taskq_options
from tests.backend.api import task as framework_task

SECRET = "4111-1111-1111-1111"

logger = logging.getLogger(__name__)


@task(encrypt=True)
def charge(number: str, *, day: date | None = None) -> list[str]:
    logger.warning("charging %s", number)
    return [number, str(day)]


@task(encrypt=True, backoff=0.01, max_retries=1)
def decline(number: str) -> None:
    current_task().progress(1, 2, number)
    logger.warning("declining %s", number)
    raise ValueError(f"no money on {number}")


@task(encrypt=True)
def give_up(number: str) -> None:
    raise Discard(number)


@task(encrypt=True, record="failures")
def forgotten(number: str) -> str:
    return number


@task(encrypt=True)
def log_in(fields: dict[str, str]) -> list[str]:
    return list(fields)


@task(encrypt=True)
def odd(number: str) -> object:
    class Odd:
        def __repr__(self) -> str:
            return number

    return {(number, 1): Odd()}


@task(encrypt=True, batch=10, batch_timeout=0.05)
def together(calls: list[BatchCall[str]]) -> list[str]:
    return [call.item for call in calls]


@task(encrypt=True, outbox=True)
def by_outbox(number: str) -> str:
    return number


@task
def plain(text: str) -> str:
    return text


@framework_task
@taskq_options(encrypt=True, max_retries=0)
def of_framework(number: str, *, fails: bool = False) -> str:
    if fails:
        raise ValueError(number)
    return number
