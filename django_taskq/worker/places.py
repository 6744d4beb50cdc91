"""What a thread and a coroutine have in common for the attempt that they run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from django_taskq.context import TaskContext
    from django_taskq.core.progress import Progress
    from django_taskq.worker.loop import LoopPool
    from django_taskq.worker.pools import ThreadPool
    from django_taskq.worker.work import Work

Pool = TypeVar("Pool", "ThreadPool", "LoopPool")


class RunningPlace(Generic[Pool]):
    """A context's Place, with a note in shared memory. `work` is None between attempts."""

    __slots__ = ()

    pool: Pool
    number: int
    work: Work | None

    @property
    def worker(self) -> str:
        """As Place.worker."""
        return self.pool.executor.worker

    def report(self, context: TaskContext, progress: Progress) -> None:
        """As Place.report."""
        work = self.work
        if work is not None and work.context is context:
            self.pool.notes.report(self.number, progress)
