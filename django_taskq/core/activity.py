"""What a settling script counts of one attempt: one short text, which the script only tallies."""

from __future__ import annotations

from django_taskq.core.histogram import bucket_of

LONGEST_NAME = 255  # characters of a task's name


def activity(state: str, task: str, wait: float | None = None, run: float | None = None) -> str:
    """`<first letter of the state> <wait bucket> <run bucket> <task>`; a bucket is empty where nothing was started.

    `state`: how the attempt ended, `retried` included. `wait` and `run`: seconds before and after its start.
    """
    waited = "" if wait is None else bucket_of(wait)
    ran = "" if run is None else bucket_of(run)
    return f"{state[0]} {waited} {ran} {task[:LONGEST_NAME]}"
