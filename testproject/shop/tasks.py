"""The shop's background work. Django imports this file by itself, as it is called tasks.py in an installed app."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from django.conf import settings
from django.core.mail import EmailMessage

from django_taskq import Breaker, Fixed, task
from testproject.shop.pictures import Thumbnail, make_thumbnail


class SMTPUnavailable(ConnectionError):
    """SMTP server temporarily unavailable"""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


# A mail server that is down is left alone for a while: its mails wait, and use no attempts. The odd failure is none.
smtp = Breaker("smtp", failures=50, within=60, cooldown=10)


@task(queue_name=settings.QUEUE_NAME, circuit_breaker=smtp)
def send_email(recipient: str, subject: str, body: str) -> None:
    """One mail through Django's configured backend. Mail servers have bad moments; this one has them on purpose."""
    if random.random() < settings.EMAIL_FAILURE_RATE:
        raise SMTPUnavailable
    EmailMessage(subject, body, to=[recipient]).send()


@task(queue_name=settings.QUEUE_NAME)
def resize_picture(name: str, width: int = 640) -> Thumbnail:
    """Make a watermarked JPEG of a picture in MEDIA_ROOT. The result is a dataclass, recorded as JSON."""
    if random.random() < settings.PICTURE_FAILURE_RATE:
        raise OSError("image store is busy")
    media = Path(settings.MEDIA_ROOT)
    source = media / Path(name).name
    return make_thumbnail(source, media / "small" / f"{source.stem}-{width}.jpg", width=width, watermark="© Shop")


@task(queue_name=settings.QUEUE_NAME, max_retries=5, backoff=Fixed(1))
def flaky(chance: float = 0.5) -> str:
    """Fails with the given probability, again and again, and is tried up to five more times."""
    if random.random() < chance:
        raise SMTPUnavailable
    return "arrived"


@task(queue_name=settings.QUEUE_NAME, max_retries=2, backoff=Fixed(1))
def always_fails(order: int) -> None:
    """Ends among the dead letters."""
    raise ValueError(f"order {order} has no address")


@task(queue_name=settings.QUEUE_NAME, api=True)
async def ask_supplier(article: str, seconds: float = 1.0) -> str:
    """A coroutine: hundreds of these wait at the same time in one process. POST /taskq/tasks may send it, too."""
    await asyncio.sleep(seconds)
    return f"{article}: in stock"


@task(queue_name=settings.QUEUE_NAME, timeout=60)
def build_report(seconds: float = 5.0) -> float:
    """Slow work in a thread. Returns the seconds it took."""
    started = time.monotonic()
    time.sleep(seconds)
    return round(time.monotonic() - started, 3)


@task(queue_name=settings.QUEUE_NAME, every=settings.COUNT_MAILS_EVERY, expires=50)
def count_mails() -> int:
    """Every minute, by itself: how many mails have been written so far."""
    outbox = Path(settings.EMAIL_FILE_PATH)
    return sum(file.read_bytes().count(b"\nTo: ") for file in outbox.glob("*.log"))
