"""What differs between databases, and how values become SQL; the only place that knows a vendor.

Statements are plain SQL over Django's cursor. On PostgreSQL the fence is a locking read that skips
rows somebody holds (`SKIP LOCKED`), so the engine never waits for a row; on SQLite the transaction
itself is the lock, taken by its first statement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, TypeVar
from uuid import UUID

from django.db import OperationalError, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ... import clock
from ...models import Job, JobEvent, TaskAttempt, TaskStatus, Worker
from ..changes import Moment
from ..transient import TRIES, is_transient, pause
from . import deadlines

JOB = Job._meta.db_table
TASK = TaskStatus._meta.db_table
ATTEMPT = TaskAttempt._meta.db_table
EVENT = JobEvent._meta.db_table
WORKER = Worker._meta.db_table

SKIP_LOCKED = {"postgresql": " FOR NO KEY UPDATE SKIP LOCKED"}
WAIT_LOCK = {"postgresql": " FOR NO KEY UPDATE"}
T = TypeVar("T")
ARRAYS = {"id": "uuid[]", "job_id": "uuid[]", "claim_token": "bigint[]", "task_id": "text[]"}


class Database:
    """One connection of the jobs' database, with its vendor's ways."""

    # Of values in one statement, where more would be refused.
    most_characters = 2**53
    # Whether an INSERT locks a row that has its key: what is there already is better read before.
    locks_what_it_meets = False
    # Whether an index is entered behind the value of another row's column, or read from its start.
    skips_by_columns = True
    # Whether a window that names no order goes by that of the subquery it looks at.
    keeps_order = True

    def __init__(self, alias: str) -> None:
        self.alias = alias

    @property
    def connection(self) -> BaseDatabaseWrapper:
        """This thread's connection."""
        return connections[self.alias]

    @property
    def vendor(self) -> str:
        """`postgresql`, `sqlite` or, for MariaDB, `mysql`."""
        return self.connection.vendor

    @property
    def skip_locked(self) -> str:
        """Clause of a locking read that leaves out rows somebody holds."""
        return SKIP_LOCKED.get(self.vendor, "")

    @property
    def wait_lock(self) -> str:
        """Clause of a locking read that waits."""
        return WAIT_LOCK.get(self.vendor, "")

    @property
    def handlers_due(self) -> tuple[str, ...]:
        """Conditions, each of an index of its own, of jobs with a handler due."""
        return ("NOT (handler_due = '')",)

    def jobs(self, index: str) -> str:
        """The table of jobs in a FROM, where *index* is to lead to the rows, or `PRIMARY`."""
        return JOB

    @staticmethod
    def column(name: str) -> str:
        """*name* as SQL."""
        return name

    def overwrite(
        self, names: Iterable[str], rest: Mapping[str, str], sources: Iterable[str]
    ) -> str:
        """End of an INSERT of task rows: what it does to a row that is there already.

        *names* get what is to be inserted and *rest* what it says (columns and their SQL), unless the
        row's status is none of *sources*: then it is left as it is.
        """
        sets = {name: f"excluded.{name}" for name in names} | dict(rest)
        texts = ", ".join(f"{name} = {value}" for name, value in sets.items())
        return (
            f" ON CONFLICT (job_id, task_id) DO UPDATE SET {texts}"
            f" WHERE {TASK}.status IN ({listed(sources)})"
        )

    @property
    def reads_a_snapshot(self) -> bool:
        """Whether rows that a statement has met must be read under a lock, or are not seen."""
        return False

    def leave_be(self, key: str) -> str:
        """End of an INSERT: a row that has this unique *key* already is left as it is.

        What is returned may have that row, or not.
        """
        return f" ON CONFLICT ({key}) DO NOTHING"

    @property
    def not_carried(self) -> str:
        """SQL of the claim index's condition; a partial index is used only if it stands in the text.

        For SQLite Django 5.2 writes `NOT carried` into the index, later ones `carried = 0`.
        """
        return "NOT carried AND carried = 0" if self.vendor == "sqlite" else "NOT carried"

    def now(self, seconds: str | None = None) -> str:
        """SQL of now, plus *seconds* (SQL)."""
        return clock.sql(self.vendor, seconds)

    def instant(self) -> str:
        """SQL of now for comparing a column with, so that an index can be entered."""
        return clock.instant(self.vendor)

    def seconds_until(self, column: str) -> str:
        """SQL of the seconds from now until *column*."""
        if self.vendor == "sqlite":
            return f"((julianday({column}) - julianday({self.now()})) * 86400.0)"
        return f"EXTRACT(EPOCH FROM ({column} - {self.now()}))::float8"

    def bytes(self, column: str) -> str:
        """SQL of how many bytes a text column holds; on PostgreSQL without reading what is TOASTed."""
        size = (
            f"length(CAST({column} AS BLOB))"
            if self.vendor == "sqlite"
            else f"octet_length({column})"
        )
        return f"COALESCE({size}, 0)"

    def uuid(self, value: UUID) -> Any:
        """*value* as this database's parameter."""
        return value if self.connection.features.has_native_uuid_field else value.hex

    @staticmethod
    def as_uuid(value: Any) -> UUID:
        """A column's value as UUID."""
        return value if isinstance(value, UUID) else UUID(value)

    def uuids(self, values: Iterable[UUID]) -> list[Any]:
        """Parameters for `IN (...)`."""
        return [self.uuid(value) for value in values]

    @contextmanager
    def atomic(self) -> Iterator[None]:
        """A short transaction of ours that on SQLite holds the write lock from its start.

        A deferred transaction that reads, then writes, fails with "database is locked" under other
        writers, whatever the time-out; a write as the first statement does not, in any mode.
        """
        is_ours = not self.connection.in_atomic_block
        # Its BEGIN and COMMIT have a deadline as well.
        with deadlines.watched(self.connection), transaction.atomic(using=self.alias):
            if is_ours and self.vendor == "postgresql":
                # A process that stands still holds its rows no longer than that: others pass them by.
                idle = round(deadlines.idle_seconds() * 1000)
                self.execute(f"SET LOCAL idle_in_transaction_session_timeout = {idle}", None)
            self.take_write_lock()
            yield

    def take_write_lock(self) -> None:
        """On SQLite, hold the write lock from here on; elsewhere rows are locked one by one."""
        if self.vendor == "sqlite":
            self.execute(f"UPDATE {JOB} SET id = id WHERE 0", ())

    def savepoint(self) -> AbstractContextManager[None]:
        """Inside somebody's transaction (a test's) a savepoint, else nothing."""
        if self.connection.in_atomic_block:
            return transaction.atomic(using=self.alias)
        return nullcontext()

    def watched(self) -> AbstractContextManager[None]:
        """Around what the ORM asks for us: its statements have the deadlines of ours."""
        return deadlines.watched(self.connection)

    def again(self, call: Callable[[], T]) -> T:
        """What *call* returns, which is one transaction of ours: run again if the database gave it up."""
        for tries in range(1, TRIES):
            try:
                return call()
            except OperationalError as error:
                if self.connection.in_atomic_block or not is_transient(error):
                    raise
                pause(tries)
        return call()

    def execute(self, statement: str, params: Sequence[Any] | None) -> int:
        """Run one statement; return the number of rows it touched."""
        return self._run(statement, params, _count)

    def query(self, statement: str, params: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Run one statement; return its rows."""
        return self._run(statement, params, _rows)

    def _run(self, statement: str, params: Sequence[Any] | None, read: Callable[[Any], T]) -> T:
        connection, tries, watch = self.connection, 1, deadlines.here.watch
        while True:
            try:
                # Not `with`, which by itself costs a microsecond.
                if watch is not None:
                    watch.begin(connection)
                with connection.cursor() as cursor:
                    cursor.execute(statement, params)
                    return read(cursor)
            except OperationalError as error:
                # By itself it is a transaction: given up, it has not happened, whatever the isolation.
                is_whole = connection.autocommit and not connection.in_atomic_block
                if not is_whole or tries >= TRIES or not is_transient(error):
                    raise
                pause(tries)
                tries += 1
            finally:
                if watch is not None:
                    watch.depth -= 1

    def executemany(self, statement: str, rows: Sequence[Sequence[Any]]) -> None:
        """Run one statement for each row of parameters."""
        with deadlines.watched(self.connection), self.connection.cursor() as cursor:
            if len(rows) == 1:
                cursor.execute(statement, rows[0])
            else:
                cursor.executemany(statement, rows)

    def insert(self, head: str, row: str, end: str, rows: Sequence[Sequence[Any]]) -> None:
        """INSERT *rows* of parameters: *row* is the SQL of one, between *head* and *end*."""
        self.executemany(f"{head}{row}{end}", rows)

    def update(  # noqa: PLR0917 (the parts of one statement)
        self,
        table: str,
        sets: str,
        params: Sequence[Any],
        pick: str,
        pick_params: Sequence[Any],
        where: str = "",
        returning: str = "",
    ) -> list[tuple[Any, ...]]:
        """Write *sets* to the rows whose ids *pick* selects and locks, where *where* holds as well.

        Their columns *returning* as they are then.
        """
        statement = f"UPDATE {table} SET {sets} WHERE {self.among(pick)}"
        statement += f" AND {where}" if where else ""
        if not returning:
            self.execute(statement, [*params, *pick_params])
            return []
        return self.query(f"{statement} RETURNING {returning}", [*params, *pick_params])

    def delete_picked(self, table: str, pick: str, params: Sequence[Any]) -> int:
        """Delete the rows whose ids *pick* selects and locks; how many."""
        return self.execute(f"DELETE FROM {table} WHERE {self.among(pick)}", params)

    def delete(self, table: str, key: str, values: Sequence[Any]) -> int:
        """Delete the rows whose *key*, a job's id, is one of *values*; how many."""
        return self.execute(f"DELETE FROM {table} WHERE {key} IN ({marks(values)})", values)

    def among(self, pick: str) -> str:
        """`id` is one of those that the subquery *pick* selects, which is run once and not for each row.

        On PostgreSQL an array looks rows up by primary key whatever the statistics say, and a LIMIT
        in it cannot be passed by a plan that runs the subquery again.
        """
        return f"id = ANY(ARRAY({pick}))" if self.vendor == "postgresql" else f"id IN ({pick})"

    @staticmethod
    def still(status: str) -> str:
        """`status` is this one, in the WHERE of an UPDATE whose rows are looked up by primary key.

        Not a literal: for that, the planner may read all of a partial index on that status.
        """
        return f"status = (SELECT '{status}')"

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
        """SELECT of the rows that have these *keys* (columns and their values), and its parameters.

        One row after the other through the index of the keys, whatever the statistics say. Of a list
        `IN (…)` of hundreds a planner makes a scan of the table, or plans longer than it reads.
        """
        if self.vendor == "postgresql":
            arrays = ", ".join(f"%s::{ARRAYS[key]}" for key in keys)
            names = ", ".join(f"wanted_{key}" for key in keys)
            on = " AND ".join(f"{key} = wanted_{key}" for key in keys)
            # Locked or ordered, the inner SELECT is never made a join that the planner turns round.
            end = self.skip_locked if lock else f" ORDER BY {order}"
            return (
                f"SELECT found.* FROM unnest({arrays}) AS wanted({names}) CROSS JOIN LATERAL"
                f" (SELECT {columns} FROM {table} WHERE {on} AND {where}{end}) AS found"
            ), [list(values) for values in keys.values()]
        rows = ", ".join([f"({marks(list(keys))})"] * len(next(iter(keys.values()))))
        # A plain list of pairs would be compared with each row of the table.
        return (
            f"SELECT {columns} FROM {table} WHERE ({', '.join(keys)}) IN"
            f" (SELECT * FROM (VALUES {rows})) AND {where}"
        ), [value for row in zip(*keys.values(), strict=True) for value in row]

    def placeholder(self, value: Any) -> tuple[str, Any]:
        """SQL and parameter of a value: a `Moment` becomes a time by the database's clock."""
        if isinstance(value, Moment):
            return self.now("%s"), value.seconds
        if isinstance(value, UUID):
            return "%s", self.uuid(value)
        return "%s", value


def _count(cursor: Any) -> int:
    return int(cursor.rowcount)


def _rows(cursor: Any) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = cursor.fetchall()
    return found


def marks(values: Sequence[Any]) -> str:
    """Placeholders for `IN (...)`."""
    return ", ".join(["%s"] * len(values))


def listed(values: Iterable[str]) -> str:
    """Statuses as SQL literals: a partial index is only used when its condition stands in the text."""
    return ", ".join(f"'{value}'" for value in values)
