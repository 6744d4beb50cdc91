"""The sample work, sent as a view would send it."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from django.conf import settings

from testproject.shop import tasks
from testproject.shop.pictures import draw_sample


class Sent(NamedTuple):
    id: str
    kind: str
    delay: float  # seconds it was scheduled ahead


def send_work(mails: int, pictures: int, spread: float) -> list[Sent]:
    """Mails at once, every tenth of them first; pictures spread over the seconds to come; one order without address."""
    names = [f"sample-{number}.png" for number in range(1, pictures + 1)]
    for number, name in enumerate(names):
        draw_sample(Path(settings.MEDIA_ROOT, name), number)
    sent = [Sent(tasks.always_fails.delay(4711).id, "bad order", 0)]
    for number in range(1, mails + 1):
        task = tasks.send_email.using(priority=10) if number % 10 == 0 else tasks.send_email
        text = f"Order {number} is on its way."
        sent.append(Sent(task.delay(f"customer{number}@example.com", "Your order", text).id, "e-mail", 0))
    for number, name in enumerate(names):
        delay = 1 + (spread - 1) * number / max(1, pictures - 1)
        later = tasks.resize_picture.using(run_after=timedelta(seconds=delay))
        sent.append(Sent(later.delay(name).id, "picture", delay))
    return sent
