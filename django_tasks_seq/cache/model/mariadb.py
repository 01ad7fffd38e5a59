"""What MariaDB has in place of what PostgreSQL and SQLite share.

It has no `UPDATE … RETURNING`: what is picked is locked, then written by primary key, then read, in one
short transaction at READ COMMITTED. Its planner takes a scan of a small table for the shortest way, or
intersects the primary key with the index of a status, and holds, or waits for, rows that nobody asked
for: where rows of jobs are locked, the statement names the index.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from django.db import transaction

from . import deadlines
from .batches import batches
from .sql import ATTEMPT, EVENT, JOB, TASK, WORKER, Database, listed, marks

# Words of MariaDB's own among the names of our columns.
RESERVED = {"by", "cursor"}
# The index by which rows of a job are found in each table.
BY_KEY = {
    JOB: "PRIMARY",
    TASK: "PRIMARY",
    WORKER: "PRIMARY",
    ATTEMPT: "tseq_attempt_job",
    EVENT: "tseq_event_job",
}
READ_COMMITTED = "read committed"


class MariaDB(Database):
    """One connection to MariaDB 10.6 or later."""

    # A statement of 16 MB is refused; a character may take 4 bytes, and 2 where it is quoted.
    most_characters = 1_000_000
    locks_what_it_meets = True
    skips_by_columns = False
    keeps_order = False

    @property
    def skip_locked(self) -> str:
        return " FOR UPDATE SKIP LOCKED"

    @property
    def wait_lock(self) -> str:
        return " FOR UPDATE"

    @property
    def not_carried(self) -> str:
        return "carried = 0"

    @property
    def handlers_due(self) -> tuple[str, ...]:
        """One for each kind: only behind a value are rows read in the order of the index."""
        return "handler_due = 'success'", "handler_due = 'error'"

    @property
    def reads_a_snapshot(self) -> bool:
        """Whether a plain SELECT may show rows as they were before a lock was waited for."""
        connection: Any = self.connection
        if not connection.in_atomic_block:
            return False
        return bool(connection.isolation_level != READ_COMMITTED)

    def jobs(self, index: str) -> str:
        return f"{JOB} FORCE INDEX ({index})"

    @staticmethod
    def column(name: str) -> str:
        return f"`{name}`" if name in RESERVED else name

    def seconds_until(self, column: str) -> str:
        return f"(TIMESTAMPDIFF(MICROSECOND, {self.now()}, {column}) / 1e6)"

    def placeholder(self, value: Any) -> tuple[str, Any]:
        """As elsewhere; the driver would write a time without its zone."""
        if isinstance(value, datetime) and value.tzinfo:
            value = value.astimezone(UTC).replace(tzinfo=None)
        return super().placeholder(value)

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A short transaction of ours at READ COMMITTED; or, inside somebody's, a savepoint at his.

        At the levels above, a locking read locks the gaps between the rows too, and others wait.
        """
        connection: Any = self.connection
        is_ours = not connection.in_atomic_block and connection.get_autocommit()
        if is_ours and connection.isolation_level != READ_COMMITTED:
            self.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED", ())
        with deadlines.watched(connection), transaction.atomic(using=self.alias):
            yield

    def query(self, statement: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """As elsewhere; the driver gives a tuple of rows."""
        return list(super().query(statement, params))

    def update(  # noqa: PLR0917 (the parts of one statement elsewhere)
        self,
        table: str,
        sets: str,
        params: Sequence[Any],
        pick: str,
        pick_params: Sequence[Any],
        where: str = "",
        returning: str = "",
    ) -> list[tuple[Any, ...]]:
        def write() -> list[tuple[Any, ...]]:
            with self.atomic():
                ids = self._ids(pick, pick_params)
                if ids and where:
                    found = f"{_by_id(table, ids)} AND {where}{self.wait_lock}"
                    ids = self._ids(f"SELECT id FROM {found}", ids)
                if not ids:
                    return []
                self.execute(
                    f"UPDATE {table} FORCE INDEX (PRIMARY) SET {sets} WHERE id IN ({marks(ids)})",
                    [*params, *ids],
                )
                if not returning:
                    return []
                return self.query(f"SELECT {returning} FROM {_by_id(table, ids)}", ids)

        return self.again(write)

    @contextmanager
    def limited(self, seconds: float | None) -> Iterator[None]:
        """End each statement after so many seconds (None: let it end), and no wait for a lock later.

        Not at once: with 0 a COMMIT behind a read that has passed by locked rows fails with 1180.
        """
        names = "max_statement_time = %s, innodb_lock_wait_timeout = %s"
        ((time, wait),) = self.query("SELECT @@max_statement_time, @@innodb_lock_wait_timeout", ())
        self.execute(f"SET {names}", [time if seconds is None else seconds, 1])
        try:
            yield
        finally:
            self.execute(f"SET {names}", [time, wait])

    def delete_picked(self, table: str, pick: str, params: Sequence[Any]) -> int:
        def write() -> int:
            with self.atomic():
                ids = self._ids(pick, params)
                return self.delete(table, "id", ids) if ids else 0

        return self.again(write)

    def delete(self, table: str, key: str, values: Sequence[Any]) -> int:
        return self.execute(f"DELETE {table} FROM {_found(table, [key], len(values))}", values)

    def insert(self, head: str, row: str, end: str, rows: Sequence[Sequence[Any]]) -> None:
        """Many rows in one statement, which the driver does not make of `executemany` here."""
        for batch in batches(rows, len(rows), self.most_characters, _characters):
            statement = f"{head}{', '.join([row] * len(batch))}{end}"
            self.execute(statement, [value for one in batch for value in one])

    def overwrite(
        self, names: Iterable[str], rest: Mapping[str, str], sources: Iterable[str]
    ) -> str:
        holds = f"{TASK}.status IN ({listed(sources)})"
        values = {name: f"VALUES({self.column(name)})" for name in names} | dict(rest)
        # One is set after the other: the status, which all of them ask for, comes last.
        texts = [
            f"{column} = IF({holds}, {values[name]}, {TASK}.{column})"
            for name in sorted(values, key=lambda name: name == "status")
            for column in (self.column(name),)
        ]
        return f" ON DUPLICATE KEY UPDATE {', '.join(texts)}"

    def leave_be(self, key: str) -> str:
        return " ON DUPLICATE KEY UPDATE id = id"

    def lookup(
        self,
        table: str,
        columns: str,
        keys: Mapping[str, Sequence[Any]],
        *,
        where: str = "TRUE",
        order: str = "1",
        lock: bool = False,
    ) -> tuple[str, list[Any]]:
        rows = list(zip(*keys.values(), strict=True))
        names = ", ".join(map(self.column, columns.split(", ")))
        end = self.skip_locked if lock else " LOCK IN SHARE MODE" if self.reads_a_snapshot else ""
        return (f"SELECT {names} FROM {_found(table, list(keys), len(rows))} WHERE {where}{end}"), [
            value for row in rows for value in row
        ]

    def _ids(self, pick: str, params: Sequence[Any]) -> list[Any]:
        return [row[0] for row in self.query(pick, params)]


def _found(table: str, keys: Sequence[str], number: int) -> str:
    """Rows of *table* that have one of so many values of *keys*, each looked up by the index.

    Of a list `IN (…)` that names most rows of a small table a scan is made, whatever index is forced.
    """
    first = ", ".join(f"%s AS wanted_{key}" for key in keys)
    others = f" UNION ALL VALUES {', '.join([f'({marks(keys)})'] * (number - 1))}"
    on = " AND ".join(f"{table}.{key} = wanted_{key}" for key in keys)
    return (
        f"(SELECT {first}{others if number > 1 else ''}) AS wanted"
        f" STRAIGHT_JOIN {table} FORCE INDEX ({BY_KEY[table]}) ON {on}"
    )


def _by_id(table: str, ids: Sequence[Any]) -> str:
    return f"{table} FORCE INDEX (PRIMARY) WHERE id IN ({marks(ids)})"


def _characters(row: Sequence[Any]) -> int:
    return sum(len(value) for value in row if isinstance(value, str))
