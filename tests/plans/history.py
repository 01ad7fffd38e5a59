"""A database of its own with a long history, so that its rows and statistics are nobody else's."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from django.db import connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks_seq import clock
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus, Worker

ALIAS = "plans"
JOB, TASK = Job._meta.db_table, TaskStatus._meta.db_table
ATTEMPT, EVENT = TaskAttempt._meta.db_table, JobEvent._meta.db_table
WORKER = Worker._meta.db_table

QUEUES = ("default", "mail", "reports")
FINISHED = 100_000
LATER = 300_000
READY = 700  # in each queue
RUNNING = 600
EXPIRED = HANDLERS = UNSENT = 150
OVERDUE = 700
WORKERS = 1000

COMMON = {
    "sequence": "'plans'",
    "version": "1",
    "plan": """'["one", "two", "three"]'""",
    "status": "'READY'",
    "queue": "'default'",
    "priority": "0",
    "carried": "false",
    "subject_type": "''",
    "subject_id": "''",
    "subject_label": "''",
    "created_by": "''",
}


class Kind(NamedTuple):
    """So many jobs, and their columns as SQL over `i`, their number among all rows."""

    number: int
    columns: Mapping[str, str]


def kinds(vendor: str) -> list[Kind]:
    """What is in the table, in the order it came."""

    def at(seconds: str) -> str:
        return clock.sql(vendor, f"({seconds})")

    queue = f"CASE i %% 3 {' '.join(f'WHEN {n} THEN {q!r}' for n, q in enumerate(QUEUES))} END"
    ended = {"status": "'SUCCESSFUL'", "finished_at": at("i - 500000"), "run_after": at("-600000")}
    held = {"status": "'RUNNING'", "claim_token": "1", "worker_id": "i %% 100 + 1"}
    return [
        Kind(FINISHED, {**ended, "queue": queue, "idempotency_key": "'key-' || i"}),
        Kind(LATER, {"status": "'WAITING'", "run_after": at("i + 86400"), "queue": queue}),
        Kind(READY * len(QUEUES), {"queue": queue, "priority": "i %% 5"}),
        Kind(RUNNING, {**held, "lease_until": at("3600")}),
        Kind(EXPIRED, {**held, "lease_until": at("-i / 1000")}),
        Kind(HANDLERS, {**ended, "handler_due": "'success'", "queue": queue}),
        Kind(OVERDUE, {"status": "'WAITING'", "run_after": at("-i / 1000"), "queue": queue}),
        Kind(UNSENT, {"carried": "true", "resend_at": at("-i / 1000")}),
    ]


def fill(connection: BaseDatabaseWrapper) -> None:
    """Each kind by one statement; whoever has begun has a row of the first task."""
    now = clock.sql(connection.vendor)
    key = "lpad(to_hex(i), 32, '0')::uuid"
    if connection.vendor == "sqlite":
        key = "printf('%%032x', i)"
    first = 1
    for kind in kinds(connection.vendor):
        columns = {"id": key, **COMMON, "run_after": now, "created_at": now, **kind.columns}
        insert(connection, JOB, columns, first, first + kind.number - 1)
        first += kind.number
    row = {"name": "'old'", "hostname": "'old'", "pid": "i", "queues": "''", "concurrency": "8"}
    times = dict.fromkeys(("started_at", "heartbeat_at", "stopped_at"), now)
    insert(connection, WORKER, {**row, "draining": "false", **times}, 1, WORKERS)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TASK} (job_id, task_id, position, status, attempts, result)"
            f" SELECT id, 'one', 0, 'SUCCESSFUL', 1, '1' FROM {JOB} WHERE status <> 'WAITING'"
        )
        cursor.execute(
            f"INSERT INTO {ATTEMPT} (job_id, task_id, attempt, outcome, exception_class, message,"
            f" traceback, worker_name, finished_at) SELECT job_id, 'one', 1, 'FAILED', '', '', '', '',"
            f" {now} FROM {TASK}",
            (),
        )


def insert(
    connection: BaseDatabaseWrapper, table: str, columns: Mapping[str, str], first: int, last: int
) -> None:
    """Rows number *first* to *last*, by one statement."""
    numbers = f"WITH numbers AS (SELECT i FROM generate_series({first}, {last}) AS n(i))"
    if connection.vendor == "sqlite":
        count = f"VALUES ({first}) UNION ALL SELECT i + 1 FROM numbers WHERE i < {last}"
        numbers = f"WITH RECURSIVE numbers(i) AS ({count})"
    into = f"INSERT INTO {table} ({', '.join(columns)}) SELECT {', '.join(columns.values())}"
    with connection.cursor() as cursor:
        cursor.execute(f"{numbers} {into} FROM numbers", ())


@contextmanager
def undone(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """What happens inside is rolled back."""
    with transaction.atomic(using=connection.alias):
        yield
        transaction.set_rollback(True, using=connection.alias)


@contextmanager
def known(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """The alias is there in this block only: other tests walk through all that are."""
    connections.databases[ALIAS] = connection.settings_dict
    connections[ALIAS] = connection
    try:
        yield
    finally:
        del connections[ALIAS]
        del connections.databases[ALIAS]


@contextmanager
def database() -> Iterator[BaseDatabaseWrapper]:
    """A database with that history and its statistics; it is dropped at the end."""
    connection: Any = connections["default"].copy(ALIAS)
    settings = connection.settings_dict
    settings["TEST"] = {**settings["TEST"], "NAME": f"{settings['TEST']['NAME']}_{ALIAS}"}
    name = settings["NAME"]
    with known(connection):
        connection.creation.create_test_db(verbosity=0, autoclobber=True)
    try:
        fill(connection)
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                for table in (JOB, TASK):
                    # Statistics change only when a test changes them.
                    cursor.execute(f"ALTER TABLE {table} SET (autovacuum_enabled = off)")
                cursor.execute("VACUUM ANALYZE")
            else:
                cursor.execute("ANALYZE")
        yield connection
    finally:
        connection.close()
        with known(connection):
            connection.creation.destroy_test_db(name, verbosity=0)
