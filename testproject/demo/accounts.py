"""What became of every task that the demo sent, by the records, and by what the tasks left on disk."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings

from django_taskq.broker import get_broker
from django_taskq.models import DeadTask, TaskResult
from testproject.demo.work import Sent

CHUNK = 500  # ids per query
HEAD = ("", "sent", "succeeded", "retried", "dead", "tasks/s", "p95 wait", "p95 run")


class Accounts:
    def __init__(self, sent: Sequence[Sent]) -> None:
        self.sent = {UUID(task.id): task for task in sent}
        self.results: dict[UUID, TaskResult] = {}

    def update(self) -> Counter[str]:
        """Read the records of what was still open; how many tasks are in which state."""
        for ids in _chunks([id for id in self.sent if id not in self.results]):
            self.results |= TaskResult.objects.in_bulk(ids)
        counts = Counter(result.status for result in self.results.values())
        for ids in _chunks([id for id in self.sent if id not in self.results]):
            # Ended but not recorded yet counts with those that run.
            for found in get_broker().find([id.bytes for id in ids]):
                ended = found.outcome is not None
                counts["running" if ended else str(found.state or "missing")] += 1
        return counts

    @property
    def settled(self) -> bool:
        return len(self.results) == len(self.sent)

    @property
    def retries(self) -> int:
        return sum(max(0, result.attempts - 1) for result in self.results.values())

    def dead(self) -> list[DeadTask]:
        return [dead for ids in _chunks(list(self.sent)) for dead in DeadTask.objects.filter(task_id__in=ids)]

    def complaints(self) -> list[str]:
        """What does not add up; empty when every task is accounted for."""
        found = [f"{task.kind} {task.id} has no result" for id, task in self.sent.items() if id not in self.results]
        failed = {id for id, result in self.results.items() if result.status == "failed"}
        buried = {dead.task_id for dead in self.dead()}
        found += [f"{id} failed, but is not among the dead letters" for id in failed - buried]
        found += [f"{id} is a dead letter, but did not fail" for id in buried - failed]
        # At least once: a mail may have gone out twice, never not at all.
        for kind, written in (("e-mail", _mails()), ("picture", _thumbnails())):
            succeeded = len([row for row in self._of(kind) if row.status == "succeeded"])
            if written < succeeded:
                found.append(f"{succeeded} tasks of kind {kind} succeeded, but only {written} files were written")
        return found

    def balanced(self) -> bool:
        return not self.complaints()

    def table(self) -> str:
        kinds = list(dict.fromkeys(task.kind for task in self.sent.values()))
        rows = [HEAD, *(self._row(kind, [kind]) for kind in kinds), self._row("total", kinds)]
        widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
        lines = [
            "  ".join(
                cell.ljust(width) if not column else cell.rjust(width) for column, (cell, width) in enumerate(cells)
            )
            for cells in (list(zip(row, widths, strict=True)) for row in rows)
        ]
        rule = "-" * len(lines[0])
        notes = [
            "wait: from being due to the first line of the task. retried: needed more than one attempt.",
            f"{_mails()} mails in {settings.EMAIL_FILE_PATH}, {_thumbnails()} thumbnails in {_thumbnail_directory()}",
            *(f"dead: {dead.task} {dead.task_id}: {dead.error_class}: {dead.error_message}" for dead in self.dead()),
            *(f"UNACCOUNTED FOR: {complaint}" for complaint in self.complaints()),
        ]
        return "\n".join([lines[0], rule, *lines[1:-1], rule, lines[-1], "", *notes])

    def _of(self, *kinds: str) -> list[TaskResult]:
        return [result for id, result in self.results.items() if self.sent[id].kind in kinds]

    def _row(self, name: str, kinds: list[str]) -> tuple[str, ...]:
        results = self._of(*kinds)
        numbers = (
            sum(task.kind in kinds for task in self.sent.values()),
            sum(result.status == "succeeded" for result in results),
            sum(result.attempts > 1 for result in results),
            sum(result.status == "failed" for result in results),
        )
        waits = [result.wait for result in results if result.wait is not None]
        runs = [result.duration for result in results if result.duration is not None]
        return (name, *map(str, numbers), _rate(results), _milliseconds(waits), _milliseconds(runs))


def _rate(results: list[TaskResult]) -> str:
    """Tasks a second, from the first one sent to the last one's end."""
    sent = [result.enqueued_at for result in results if result.enqueued_at]
    if not sent:
        return "-"
    span = max(result.finished_at for result in results) - min(sent)
    return f"{len(results) / max(span, timedelta(milliseconds=1)).total_seconds():.1f}"


def _milliseconds(seconds: list[float]) -> str:
    """The 95th percentile by nearest rank."""
    if not seconds:
        return "-"
    return f"{sorted(seconds)[math.ceil(0.95 * len(seconds)) - 1] * 1000:.1f} ms"


def _mails() -> int:
    """One file may hold several."""
    return sum(path.read_bytes().count(b"\nSubject: ") for path in Path(settings.EMAIL_FILE_PATH).glob("*.log"))


def _thumbnail_directory() -> Path:
    return Path(settings.MEDIA_ROOT, "small")


def _thumbnails() -> int:
    return len(list(_thumbnail_directory().glob("*.jpg")))


def _chunks(ids: list[UUID]) -> Iterable[list[UUID]]:
    return (ids[start : start + CHUNK] for start in range(0, len(ids), CHUNK))
