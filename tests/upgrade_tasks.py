"""Tasks that take so long that two workers share them."""

from __future__ import annotations

import time

from django_taskq import current_task, task


@task(max_retries=2, backoff=0.1)
def fails_at_first(times: int) -> int:
    """Fails so many times, then returns the number of its attempt."""
    time.sleep(0.02)
    attempt = current_task().attempt
    if attempt <= times:
        raise ValueError(f"attempt {attempt}")
    return attempt


@task
def spawns(depth: int, width: int) -> None:
    """Sends more of itself: workers are producers, too."""
    time.sleep(0.02)
    if depth:
        spawns.delay_many([((depth - 1, width), {})] * width)
