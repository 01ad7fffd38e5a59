"""Millions of rows, made by the server from one that the app has made: what a long life leaves behind."""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

JOB: Final = "django_tasks_seq_job"
TASK: Final = "django_tasks_seq_taskstatus"

# As the app's own ids: they rise with time.
ID: Final = """
    (lpad(to_hex((extract(epoch FROM {born}) * 1000)::bigint), 12, '0') || '7'
     || lpad(to_hex(n % 4096), 3, '0') || '8' || substr(md5(n::text), 1, 15))::uuid"""
# A history of 30 days that ended yesterday.
PAST: Final = "now() - interval '1 day' - interval '30 days' * (1 - n / {jobs}::float8)"
# All due now, the oldest first.
NOW: Final = "now() - interval '1 minute' + interval '1 microsecond' * n"
# Nine of ten on one queue, the others on four.
QUEUE: Final = "CASE WHEN n % 10 = 0 THEN 'other_' || n / 10 % 4 ELSE 'default' END"


def fill_history(url: str, jobs: int) -> None:
    """Put *jobs* finished jobs in place of the one that is there, with its tasks."""
    born = PAST.format(jobs=jobs)
    identity = ID.format(born=born)
    times = dict.fromkeys(("created_at", "run_after", "started_at", "finished_at"), born)
    with psycopg.connect(url, autocommit=True) as db:
        # One transaction has one `now()`, from which both tables' ids are made.
        with db.transaction():
            seed = db.execute(f"SELECT id FROM {JOB}".encode()).fetchall()[0]
            _multiply(db, JOB, jobs, {"id": identity, "sequence": "'history'", **times})
            task_times = dict.fromkeys(("started_at", "finished_at"), born)
            _multiply(db, TASK, jobs, {"job_id": identity, **task_times})
            db.execute(f"DELETE FROM {TASK} WHERE job_id = %s".encode(), seed)
            db.execute(f"DELETE FROM {JOB} WHERE id = %s".encode(), seed)
        db.execute("VACUUM (ANALYZE)")


def fill_ready(url: str, jobs: int, *, is_settled: bool = True) -> None:
    """Put *jobs* ready jobs beside the one that is there; without *is_settled* no statistics know of them."""
    _fill(url, jobs, {"run_after": NOW, "created_at": NOW, "queue": QUEUE}, is_settled=is_settled)


def fill_later(url: str, jobs: int) -> None:
    """Put *jobs* jobs that are due tomorrow in place of the one that is there."""
    tomorrow = "now() + interval '1 day' + interval '1 millisecond' * n"
    _fill(url, jobs, {"run_after": tomorrow, "status": "'WAITING'"})
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"DELETE FROM {JOB} WHERE status = 'READY'".encode())
        db.execute("VACUUM (ANALYZE)")


def _fill(url: str, jobs: int, values: dict[str, str], *, is_settled: bool = True) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        one = f"ctid = (SELECT ctid FROM {JOB} WHERE status = 'READY' LIMIT 1)"
        _multiply(db, JOB, jobs, {"id": ID.format(born=NOW), **values}, where=one)
        if is_settled:
            db.execute("VACUUM (ANALYZE)")


def _multiply(
    db: psycopg.Connection, table: str, times: int, values: dict[str, str], where: str = "true"
) -> None:
    """Insert each row of *table* so many times again, with these expressions of `n` for some columns."""
    columns = [
        name
        for (name,) in db.execute(
            "SELECT column_name FROM information_schema.columns"
            " WHERE table_name = %s AND is_generated = 'NEVER' ORDER BY ordinal_position",
            [table],
        )
    ]
    statement = (
        f"INSERT INTO {table} ({{}}) SELECT {{}}"
        f" FROM generate_series(1, {times}) n, (SELECT * FROM {table} WHERE {where}) seed"
    )
    made = [
        sql.SQL(values[name]) if name in values else sql.Identifier("seed", name)
        for name in columns
    ]
    listed = sql.SQL(", ")
    db.execute(
        sql.SQL(statement).format(listed.join(map(sql.Identifier, columns)), listed.join(made))
    )
