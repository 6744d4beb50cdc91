"""What dead task processes held: settled in their name, or handed on to others, as soon as Redis answers."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from django_taskq.exceptions import TaskqError
from django_taskq.worker.hard_limits import settle_killed

if TYPE_CHECKING:
    from django_taskq.broker import Broker
    from django_taskq.broker.workers import Workers
    from django_taskq.worker.children import TaskChild
    from django_taskq.worker.notes import Note
    from django_taskq.worker.tally import Tally

logger = logging.getLogger("django_taskq.worker")


class Grave(NamedTuple):
    """A dead child: the locations that count as lost with it, what it was killed for, and what ran beside that."""

    running: Sequence[bytes] = ()
    over_limit: Sequence[Note] = ()
    beside: Sequence[Note] = ()


class Graves:
    """Used by the supervisor alone."""

    def __init__(self, broker: Broker, workers: Workers, tally: Tally) -> None:
        self._broker, self._workers, self._tally = broker, workers, tally
        self._graves: dict[str, Grave] = {}  # by worker

    def add(self, child: TaskChild, notes: Sequence[Note]) -> None:
        """A child that ended, was killed or died, and what it was running then."""
        if child.ended:
            grave = Grave()
        elif child.state == "killed":  # tasks are not to blame, but for those over a hard limit
            limited = {note.location for note in child.over_limit}
            grave = Grave((), child.over_limit, [note for note in notes if note.location not in limited])
        else:  # whatever its exit code is: a task may have called os._exit(0)
            grave = Grave([note.location for note in notes])
        self._graves[child.worker] = grave

    def hand_on(self) -> None:
        """Gives the deliveries of dead children to others at once."""
        for worker, grave in list(self._graves.items()):
            try:
                if grave.over_limit or grave.beside:
                    self._settle(worker, grave)
                self._workers.declare_dead(worker, None, grave.running)
                count = self._workers.reclaim(worker)
            except TaskqError as error:
                logger.debug("handing on what %s held waits: %s", worker, error)
                continue
            del self._graves[worker]
            if count:
                self._tally.reclaimed(count)
                logger.warning(
                    "worker %s held %d tasks; they go to other workers", worker, count, extra={"worker": worker}
                )

    def _settle(self, worker: str, grave: Grave) -> None:
        try:
            settle_killed(self._broker, worker, grave.over_limit, grave.beside, self._tally)
        except TaskqError:
            raise
        except BaseException:  # of a task's own backoff, or a receiver; the task is reclaimed instead
            logger.exception("what worker %s was killed for cannot be settled", worker)
