"""What stands in the tables of the live view. Texts of tasks are data here: no markup, no control characters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from rich.text import Text

from django_taskq.broker.census import SILENT
from django_taskq.broker.inspector import Progress, RunningTask, WorkerState
from django_taskq.management.live.glimpse import Glimpse, Rate, Rates
from django_taskq.management.table import span
from django_taskq.opening import hidden

BAR = 20  # characters
LONGEST = 120
MOST = 200  # rows of a table: more than anybody scrolls through while it moves

QUEUES = ("Queue", "Ready", "Running", "Scheduled", "Blocked", "Oldest", "In/s", "Ended/s", "Failed/s", "")
WORKERS = ("Worker", "State", "Queues", "Busy", "Settled", "Memory", "Beat")
RUNNING = ("Running", "Queue", "Attempt", "For", "Progress", "Worker", "Id")
FAILURES = ("Failed", "Task", "Queue", "Reason", "Error", "Attempts", "Id")


class Row(NamedTuple):
    """`key` stays the same from one look to the next."""

    key: str
    cells: tuple[Text, ...]


def shown(value: object, style: str = "", *, longest: int = LONGEST) -> Text:
    """One line of it."""
    text = "".join(character if character.isprintable() else " " for character in str(value)[: longest + 1])
    return Text(text if len(text) <= longest else f"{text[: longest - 1]}…", style=style, no_wrap=True, end="")


def number(value: float, style: str = "") -> Text:
    """Aligned to the right."""
    text = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
    return Text(text, style=style if value else "dim", justify="right", no_wrap=True, end="")


def of_queues(now: Glimpse, rates: Rates) -> Iterator[Row]:
    """One for each declared queue."""
    for queue in now.seen.queues[:MOST]:
        rate = rates.by_queue.get(queue.name, Rate())
        age = None if queue.oldest is None else max(0.0, now.seen.now - queue.oldest)
        yield Row(
            queue.name,
            (
                shown(queue.name, "bold"), number(queue.ready), number(queue.running), number(queue.scheduled),
                number(queue.blocked, "yellow"), shown(span(age), "yellow" if age is not None and age > 60 else ""),
                number(rate.arrived), number(rate.ended, "green"), number(rate.failed, "red"),
                shown("paused", "bold yellow") if queue.paused else shown(""),
            ),
        )  # fmt: skip


def of_workers(now: Glimpse) -> Iterator[Row]:
    """One for each task process in the register."""
    for worker in now.seen.workers[:MOST]:
        age = None if worker.beat is None else max(0.0, now.seen.now - worker.beat)
        silent = worker.dead or (age is not None and age > SILENT)
        style = "red" if silent else "" if worker.state == "running" else "yellow"
        yield Row(
            worker.id,
            (
                shown(worker.id, "bold"), shown(worker.state, style), shown(",".join(worker.served), longest=40),
                shown(f"{len(worker.running)} of {worker.threads}+{worker.async_concurrency}"), number(worker.settled),
                shown(f"{worker.rss / 1e6:.0f} MB"), shown(span(age), style),
            ),
        )  # fmt: skip


def of_running(now: Glimpse) -> Iterator[Row]:
    """What has run longest comes first."""
    running: list[tuple[RunningTask, WorkerState]] = []
    for worker in now.seen.workers:
        running += [(task, worker) for task in worker.running]
    for task, worker in sorted(running, key=lambda pair: pair[0].since)[:MOST]:
        yield Row(
            task.id,
            (
                shown(task.task, "bold"), shown(task.queue), number(task.attempt, "yellow" if task.attempt > 1 else ""),
                shown(span(now.seen.now - task.since)), bar(task.progress), shown(worker.id), shown(task.id, "dim"),
            ),
        )  # fmt: skip


def of_failures(now: Glimpse) -> Iterator[Row]:
    """The newest dead letters."""
    for row in now.failures or []:
        ago = span(now.seen.now - row.failed_at.timestamp())
        error = f"{row.error_class.rpartition('.')[2]}: {hidden(row.error_message)}".strip(": ")
        yield Row(
            str(row.pk),
            (
                shown(f"{ago} ago"), shown(row.task, "bold"), shown(row.queue), shown(row.reason, longest=40),
                shown(error, "red"), number(row.attempts), shown(row.task_id, "dim"),
            ),
        )  # fmt: skip


def bar(progress: Progress | None) -> Text:
    """`████░░░░  40% resizing`, or how many where nobody knows of how many."""
    if progress is None:
        return shown("-", "dim")
    if progress.share is None:
        return shown(f"{progress.current:g} {progress.text}".rstrip(), "cyan")
    filled = round(min(1.0, max(0.0, progress.share)) * BAR)
    drawn = Text("█" * filled, style="green", no_wrap=True, end="").append("░" * (BAR - filled), style="dim")
    return drawn.append(f" {progress.share:4.0%} ").append_text(shown(progress.text, longest=40))
