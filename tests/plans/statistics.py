"""What a planner may have been told about the tables; inside a transaction, which is rolled back."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

from django.db.backends.base.base import BaseDatabaseWrapper

from tests.plans.history import JOB, TASK, undone

# Of all tables and indexes about jobs.
RELATIONS = (
    f"SELECT unnest(ARRAY[oid] || ARRAY(SELECT indexrelid FROM pg_index WHERE indrelid = c.oid))"
    f" FROM pg_class c WHERE relname IN ('{JOB}', '{TASK}')"
)
NO_COLUMNS = f"DELETE FROM pg_statistic WHERE starelid IN ('{JOB}'::regclass, '{TASK}'::regclass)"


def _counts(rows: str, pages: str) -> str:
    """Rows and pages of all relations, as expressions; pages that do not fit are scaled by the planner."""
    return (
        f"UPDATE pg_class SET reltuples = {rows}, relpages = {pages}, relallvisible = 0"
        f" WHERE oid IN ({RELATIONS})"
    )


def _learned_from(table: str, rows: str) -> list[str]:
    """Statistics of columns as if *table* had held these *rows* (SQL) when it was analyzed."""
    return [
        f"CREATE TEMP TABLE seen ON COMMIT DROP AS {rows}",
        "ANALYZE seen",
        f"DELETE FROM pg_statistic WHERE starelid = '{table}'::regclass",
        (
            f"UPDATE pg_statistic s SET starelid = t.attrelid, staattnum = t.attnum"
            " FROM pg_attribute a JOIN pg_attribute t ON t.attname = a.attname"
            f" WHERE a.attrelid = 'seen'::regclass AND t.attrelid = '{table}'::regclass"
            " AND s.starelid = a.attrelid AND s.staattnum = a.attnum"
        ),
        "DROP TABLE seen",
    ]


def _some(status: str) -> str:
    return f"SELECT * FROM {JOB} WHERE status = '{status}' LIMIT 500"


POSTGRESQL: dict[str, list[str]] = {
    "as it is": [],
    "never analyzed": [NO_COLUMNS, _counts("-1", "0")],
    "analyzed when empty": [NO_COLUMNS, _counts("0", "0")],
    "emptied once": [_counts("0", "relpages")],
    "columns unknown": [NO_COLUMNS],
    "ten rows": [_counts("10", "1")],
    "a row a page": [_counts("relpages", "relpages")],
    "a billion rows": [_counts("1e9", "1e5")],
    "a billion in each page": [_counts("1e9", "1")],
    "all were READY": _learned_from(JOB, _some("READY")),
    "all were RUNNING": _learned_from(JOB, _some("RUNNING")),
    "all were SUCCESSFUL": _learned_from(JOB, _some("SUCCESSFUL")),
    "all were WAITING": _learned_from(JOB, _some("WAITING")),
    "all tasks were of one job": _learned_from(
        TASK,
        "SELECT job_id, 'task-' || n AS task_id, position, status, attempts, result"
        f" FROM {TASK} CROSS JOIN generate_series(1, 500) n WHERE job_id ="
        f" (SELECT job_id FROM {TASK} LIMIT 1)",
    ),
}


PARTIAL = (
    f"SELECT indexrelid FROM pg_index WHERE indrelid = '{JOB}'::regclass AND indpred IS NOT NULL"
)
NONE_OF_THEM = f"UPDATE pg_class SET reltuples = 0, relpages = 1 WHERE oid IN ({PARTIAL})"
POSTGRESQL |= {
    # As a table is analyzed at night, when all is done, before the day's jobs come.
    "all had ended": [*_learned_from(JOB, _some("SUCCESSFUL")), NONE_OF_THEM],
    "all had ended, no columns": [NO_COLUMNS, NONE_OF_THEM],
    "few had ended": [*_learned_from(JOB, _some("SUCCESSFUL")), _counts("100", "12"), NONE_OF_THEM],
}


def _random_counts(seed: int) -> list[str]:
    """Another lie for each table and index."""
    cases = random.Random(seed)
    numbers = ", ".join(
        f"({n}, {cases.choice([-1, 0, 1, 100, 1e4, 1e6, 1e9])}, {cases.choice([0, 1, 100, 1e4, 1e6])})"
        for n in range(20)
    )
    return [
        (
            "UPDATE pg_class SET reltuples = l.rows, relpages = l.pages"
            f" FROM (SELECT o, row_number() OVER (ORDER BY o) AS n FROM ({RELATIONS}) r(o)) r"
            f" JOIN (VALUES {numbers}) l(n, rows, pages) ON l.n = r.n WHERE pg_class.oid = r.o"
        ),
        *([NO_COLUMNS] if seed % 2 else []),
    ]


POSTGRESQL |= {f"lies {seed}": _random_counts(seed) for seed in range(12)}

# As if tables had some thousand rows, which are read from end to end for less than some dozens are
# looked up: right for a look now and then, but not for each commit. For whoever asks for this state.
SMALL = "small tables"
POSTGRESQL_SMALL = [
    f"SET LOCAL {name} = {cost}"
    for name, cost in (
        ("seq_page_cost", 0.005),
        ("cpu_tuple_cost", 0.0001),
        ("cpu_operator_cost", 0.00005),
    )
]

# What a planner has heard when a backlog came after the last ANALYZE, or before the first.
UNHEARD = ("never analyzed", "analyzed when empty", "all had ended", "all were WAITING")

RELOAD = "ANALYZE sqlite_master"
OF_JOBS = f"tbl IN ('{JOB}', '{TASK}')"
SQLITE: dict[str, list[str]] = {
    "as it is": [],
    "never analyzed": ["DELETE FROM sqlite_stat1"],
    "jobs alone": [f"DELETE FROM sqlite_stat1 WHERE tbl <> '{JOB}'"],
    "tasks alone": [f"DELETE FROM sqlite_stat1 WHERE tbl <> '{TASK}'"],
    # The last number is of rows with the same key: one, for an index that is unique.
    "ten jobs": [f"UPDATE sqlite_stat1 SET stat = '10 1 1 1 1' WHERE tbl = '{JOB}'"],
    "ten jobs alike": [
        (
            "UPDATE sqlite_stat1 SET stat = CASE WHEN idx LIKE 'tseq%' THEN '10 10 10 1'"
            f" WHEN stat LIKE '% % %' THEN '10 10 1' ELSE '10 1' END WHERE tbl = '{JOB}'"
        ),
    ],
    "a billion rows": [
        f"UPDATE sqlite_stat1 SET stat = '1000000000 9000 1' WHERE {OF_JOBS} AND idx NOT LIKE 'tseq%'"
    ],
    "tiny indexes": [
        f"UPDATE sqlite_stat1 SET stat = '1 1 1 1' WHERE {OF_JOBS} AND idx LIKE 'tseq%'"
    ],
}


def states(vendor: str) -> dict[str, list[str]]:
    """Statements that bring the statistics of this database into each state."""
    return POSTGRESQL if vendor == "postgresql" else SQLITE


@contextmanager
def told(connection: BaseDatabaseWrapper, state: str) -> Iterator[None]:
    """The planner believes that *state* in this block."""
    try:
        with undone(connection), connection.cursor() as cursor:
            for statement in (
                POSTGRESQL_SMALL if state == SMALL else states(connection.vendor)[state]
            ):
                cursor.execute(statement)
            if connection.vendor == "sqlite":
                cursor.execute(RELOAD)
            yield
    finally:
        if connection.vendor == "sqlite":
            with connection.cursor() as cursor:
                cursor.execute(RELOAD)
