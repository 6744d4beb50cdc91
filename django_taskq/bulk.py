"""Writes outcomes to the database: many rows a transaction, as often as it takes, and whatever a row holds.

Writing a batch again changes nothing. That is what lets the recorder commit first and move its cursor afterwards.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from django.db import DEFAULT_DB_ALIAS, Error, InterfaceError, OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Model

from django_taskq import rows
from django_taskq.core.ids import id_to_str
from django_taskq.core.outcome import Outcome
from django_taskq.models import DeadTask, TaskResult
from django_taskq.rows import Batch, Rows

logger = logging.getLogger(__name__)

Entries = Sequence[tuple[str, Outcome]]

# mysqlclient reports some values it refuses as operational: out of range, invalid string, invalid JSON, data too long.
_MYSQL_REFUSALS = frozenset({1264, 1300, 1366, 1406, 3140})


class DatabaseAway(Exception):
    """The database cannot be written just now."""


class Writer:
    """Writes batches of outcomes to one database."""

    def __init__(self, using: str = DEFAULT_DB_ALIAS) -> None:
        self.using = using
        self._synced: object = None  # the driver's connection that _prepare_sqlite has set up

    def write(self, entries: Entries) -> None:
        """Commits every outcome, in one transaction unless a row is refused.

        Raises DatabaseAway on an operational error, with everything before the failing part committed. Any other error
        halves the batch until the culprit stands alone, which is then stored escaped or, failing that, reduced.
        """
        try:
            self._commit(entries, Rows.batch)
        except DatabaseAway:
            raise
        except Exception as error:  # noqa: BLE001 - a row may break anything: the driver, a conversion, a constraint
            if len(entries) == 1:
                self._write_culprit(entries, error)
            else:
                middle = len(entries) // 2
                self.write(entries[:middle])
                self.write(entries[middle:])

    def _write_culprit(self, entries: Entries, error: Exception) -> None:
        [(entry, outcome)] = entries
        for how, given, build in (
            ("escaped", entries, lambda maker, given: maker.batch(given).escaped()),
            ("reduced", [(entry, rows.reduced(outcome, error))], Rows.batch),
        ):
            try:
                self._commit(given, build)
            except DatabaseAway:
                raise
            except Exception as further:  # noqa: BLE001
                last = further
            else:
                logger.warning(
                    "outcome of task %s (%s) was refused by the database and is recorded %s: %s: %s",
                    rows.escape(outcome.task), id_to_str(outcome.id), how, type(error).__name__, _line(error),
                )  # fmt: skip
                return
        # It refuses plain ASCII and small numbers too: the table is at fault (a migration is missing), not the outcome.
        raise DatabaseAway(f"{type(last).__name__}: {_line(last)}") from last

    def _commit(self, entries: Entries, build: Callable[[Rows, Entries], Batch]) -> None:
        """One transaction; once more where the connection turns out to have died since the last one."""
        connection = connections[self.using]
        reused = connection.connection is not None and not connection.in_atomic_block
        try:
            self._transact(connection, entries, build)
        except (OperationalError, InterfaceError) as error:
            if not (reused and not _usable(connection)):
                raise _away(connection, error) from error
            self.disconnect()
            try:
                self._transact(connection, entries, build)
            except (OperationalError, InterfaceError) as further:
                raise _away(connection, further) from further

    def _transact(
        self, connection: BaseDatabaseWrapper, entries: Entries, build: Callable[[Rows, Entries], Batch]
    ) -> None:
        connection.ensure_connection()
        self._prepare_sqlite(connection)
        batch = build(Rows(connection), entries)
        with transaction.atomic(using=self.using):
            _execute(connection, batch)

    def _prepare_sqlite(self, connection: BaseDatabaseWrapper) -> None:
        """The cursor moves once a batch is committed, so it must be on the disk by then: one sync a batch."""
        if connection.vendor != "sqlite" or connection.connection is self._synced or connection.in_atomic_block:
            return
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA synchronous = FULL")
            mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
        if self._synced is None and mode not in ("wal", "memory"):
            logger.warning(
                "SQLite's journal_mode of database %r is %s: recording and reading block each other. "
                "PRAGMA journal_mode = WAL ends that.",
                self.using, mode,
            )  # fmt: skip
        self._synced = connection.connection

    def disconnect(self) -> None:
        """Drops the connection after an error, so that the next write starts with a new one."""
        connection = connections[self.using]
        if not connection.in_atomic_block:
            try:
                connection.close()
            except Error:
                connection.connection = None


def _execute(connection: BaseDatabaseWrapper, batch: Batch) -> None:
    """Inserts go first: a transaction that begins with a write cannot find its view of an SQLite file out of date."""
    with connection.cursor() as cursor:
        for sql, values in (
            (_insert(connection, TaskResult, rows.RESULT, "id"), batch.results),
            (_replace(connection, TaskResult, rows.RESULT), batch.newer),
            (_replace(connection, TaskResult, rows.UNRECORDED), batch.unrecorded),
            (_insert(connection, DeadTask, rows.DEAD, "task_id", "run"), batch.dead),
            (_requeued(connection), batch.requeued),
        ):
            if values:
                cursor.executemany(sql, values)


def _insert(connection: BaseDatabaseWrapper, model: type[Model], columns: Sequence[str], *unique: str) -> str:
    """INSERT that leaves a row alone which has the same unique columns.

    Not `OR IGNORE` or `INSERT IGNORE`, Django's choice for SQLite and MySQL: those pass over rows that break any other
    constraint as well, and an outcome would be lost in silence.
    """
    quote = connection.ops.quote_name
    names = ", ".join(map(quote, columns))
    places = ", ".join(["%s"] * len(columns))
    key = ", ".join(map(quote, unique))
    if connection.features.supports_update_conflicts_with_target:
        conflict = f"ON CONFLICT ({key}) DO NOTHING"
    else:
        conflict = f"ON DUPLICATE KEY UPDATE {quote(unique[0])} = {quote(unique[0])}"
    return f"INSERT INTO {quote(model._meta.db_table)} ({names}) VALUES ({places}) {conflict}"  # noqa: S608


def _replace(connection: BaseDatabaseWrapper, model: type[Model], columns: Sequence[str]) -> str:
    """UPDATE of a row by a newer run; `run` is the first column and `id` the last."""
    quote = connection.ops.quote_name
    changes = ", ".join(f"{quote(column)} = %s" for column in columns[:-1])
    return f"UPDATE {quote(model._meta.db_table)} SET {changes} WHERE id = %s AND run < %s"  # noqa: S608


def _requeued(connection: BaseDatabaseWrapper) -> str:
    """Dead letters of earlier runs: that a later run ended proves that they were requeued, whatever they say."""
    requeued = DeadTask.State.REQUEUED.value
    return (
        f"UPDATE {connection.ops.quote_name(DeadTask._meta.db_table)} SET state = '{requeued}', "  # noqa: S608
        f"closed_at = %s WHERE task_id = %s AND run < %s AND state <> '{requeued}'"
    )


def _usable(connection: BaseDatabaseWrapper) -> bool:
    try:
        return connection.connection is not None and connection.is_usable()
    except Error:
        return False


def _away(connection: BaseDatabaseWrapper, error: Error) -> Exception:
    """DatabaseAway, or the error itself where the driver calls a refused value operational."""
    if connection.vendor == "mysql" and error.args and error.args[0] in _MYSQL_REFUSALS:
        return error
    return DatabaseAway(f"{type(error).__name__}: {_line(error)}")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300]
