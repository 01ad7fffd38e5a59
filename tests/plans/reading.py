"""Statements as a store sends them, and what a plan reads for them: tables, indexes, rows."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from django.db.backends.base.base import BaseDatabaseWrapper

from tests.plans.history import ATTEMPT, EVENT, JOB, TASK, WORKER, undone

TABLES = {JOB, TASK, ATTEMPT, EVENT, WORKER}
PRIMARY = "primary key"
DEAD = 50_000
SORT = "what was read, to be sorted"
# Statements that read no table.
NOTHING = re.compile(r"SAVEPOINT|RELEASE|ROLLBACK|SELECT (set_config|pg_notify)|.* WHERE 0$")


class Statement(NamedTuple):
    """One statement; of an `executemany` the first parameters."""

    sql: str
    params: Any


@dataclass(frozen=True)
class Read:
    """One place of a plan that reads a table: by which index ("" for none), and how many rows."""

    table: str
    index: str
    has_condition: bool
    rows: float = 0.0
    pages: int = 0

    def __str__(self) -> str:
        by = f"by {self.index}" if self.index else "from end to end"
        return f"{self.rows:.0f} rows ({self.pages} pages) of {self.table} {by}"


@dataclass
class Plan:
    """What one statement reads."""

    statement: Statement
    text: str
    reads: list[Read] = field(default_factory=list)

    def indexes(self, table: str) -> set[str]:
        """Names of the indexes by which *table* is read; "" where it is read from end to end."""
        return {read.index for read in self.reads if read.table == table}

    def rows(self, table: str) -> float:
        """Rows read of *table*, those that a condition refuses included."""
        return sum(read.rows for read in self.reads if read.table == table)


def sent(connection: BaseDatabaseWrapper, call: Callable[[], Any]) -> list[Statement]:
    """What *call* sends about rows; what it does is rolled back."""
    found: list[Statement] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not NOTHING.match(sql):
            found.append(Statement(sql, params[0] if many else params))
        return execute(sql, params, many, context)

    with undone(connection), connection.execute_wrapper(note):
        call()
    return found


def explain(
    connection: BaseDatabaseWrapper, statement: Statement, mode: str = "", *, run: bool = True
) -> Plan:
    """The plan of *statement*, and with *run* what it has read (on PostgreSQL).

    *mode* prepares it as a connection with server-side parameters does: with `force_generic_plan`
    the planner does not see them, with `force_custom_plan` it does.
    """
    with undone(connection), connection.cursor() as cursor:
        if connection.vendor == "sqlite":
            cursor.execute(f"EXPLAIN QUERY PLAN {statement.sql}", statement.params)
            lines = [str(row[-1]) for row in cursor.fetchall()]
            reads = [read for line in lines if (read := _sqlite_read(connection, line))]
            return Plan(statement, "\n".join(lines), reads)
        options = "ANALYZE, BUFFERS, TIMING off, FORMAT json" if run else "FORMAT json"
        sql, params = statement
        if mode:
            sql, params = _prepared(connection, statement, mode), None
        cursor.execute(f"EXPLAIN ({options}) {sql}", params)
        ((answer,),) = cursor.fetchall()
    tree = (json.loads(answer) if isinstance(answer, str) else answer)[0]["Plan"]
    return Plan(statement, json.dumps(tree, indent=1), list(_reads(tree)))


def _prepared(connection: BaseDatabaseWrapper, statement: Statement, mode: str) -> str:
    from psycopg import sql as pieces

    numbers = iter(range(1, len(statement.params) + 1))
    text = re.sub(r"%([s%])", lambda m: f"${next(numbers)}" if m[1] == "s" else "%", statement.sql)
    values = [pieces.Literal(value).as_string(connection.connection) for value in statement.params]
    with connection.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
        cursor.execute(f"SET LOCAL plan_cache_mode = {mode}")
        # As psycopg has it: a number has its type, a text that of its place.
        cursor.execute(f"PREPARE probe AS {text}")
    return f"EXECUTE probe ({', '.join(values)})" if values else "EXECUTE probe"


def _reads(node: dict[str, Any]) -> Iterator[Read]:
    kind = node["Node Type"]
    if "Relation Name" in node and kind.endswith("Scan"):
        bitmaps = list(_bitmaps(node))
        names = [node["Index Name"]] if "Index Name" in node else [name for name, _ in bitmaps]
        names = [PRIMARY if name.endswith("_pkey") else name for name in names]
        # What a bitmap has collected is read as well, whatever is left of it: if it is more than what
        # tests before have left of dead versions.
        rows = max([_rows(node), *(rows for _, rows in bitmaps if rows > DEAD)])
        pages = node.get("Shared Hit Blocks", 0) + node.get("Shared Read Blocks", 0)
        is_guided = "Index Cond" in node or "Recheck Cond" in node
        name = " and ".join(sorted(set(names)))
        yield Read(node["Relation Name"], name, is_guided, rows, pages)
        return
    for child in node.get("Plans", ()):
        yield from _reads(child)


def _rows(node: dict[str, Any]) -> float:
    removed = ("Rows Removed by Filter", "Rows Removed by Index Recheck")
    each = node.get("Actual Rows", 0) + sum(node.get(key, 0) for key in removed)
    return float(each * node.get("Actual Loops", 0))


def _bitmaps(node: dict[str, Any]) -> Iterator[tuple[str, float]]:
    for child in node.get("Plans", ()):
        if child["Node Type"] == "Bitmap Index Scan":
            yield child["Index Name"], _rows(child)
        yield from _bitmaps(child)


SQLITE = re.compile(
    r"(SCAN|SEARCH) (\w+)(?: USING (?:COVERING )?INDEX (\w+)| USING (INTEGER PRIMARY KEY))?"
)


def _sqlite_read(connection: BaseDatabaseWrapper, line: str) -> Read | None:
    found = SQLITE.match(line)
    if line.startswith("USE TEMP B-TREE"):
        return Read(SORT, "", has_condition=False)
    if found is None or found[2] not in TABLES:
        return None
    index = PRIMARY if found[4] else found[3] or ""
    if index.startswith("sqlite_autoindex"):
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA index_info({index})")
            columns = [row[2] for row in cursor.fetchall()]
        is_key = columns in (["id"], ["job_id", "task_id"])
        index = PRIMARY if is_key else "tseq_job_idempotency"
    return Read(found[2], index, found[1] == "SEARCH")


def steps(connection: BaseDatabaseWrapper, call: Callable[[], Any]) -> int:
    """Instructions that SQLite's machine runs for *call*, to some tens; it is undone."""
    count = 0

    def tick() -> int:
        nonlocal count
        count += 10
        return 0

    raw = connection.connection
    with undone(connection):
        raw.set_progress_handler(tick, 10)
        try:
            call()
        finally:
            raw.set_progress_handler(None, 0)
    return count
