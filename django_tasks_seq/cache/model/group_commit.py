"""The hot path: the checkpoints of many jobs in one commit.

On PostgreSQL it is one statement and one round trip: the fence (a locking read that re-checks claim
and status and skips rows somebody holds), the end of jobs whose last task this was, and the task rows.
A transaction for each task gives some 300 tasks/s on the machine where this gives over 10,000.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from ...choices import JobStatus, TaskState
from ...transitions import TASK as TASK_TRANSITIONS
from ..changes import Checkpoint
from .arrays import array, plain_array
from .sql import JOB, TASK, Database

RUNNING, ENDED = JobStatus.RUNNING.value, JobStatus.SUCCESSFUL.value
DONE = TaskState.SUCCESSFUL.value
OPEN = TASK_TRANSITIONS["complete_task"].sources

TASK_COLUMNS = (
    "job_id, task_id, position, status, attempts, result, worker_name, started_at, finished_at"
)
# Whatever a RUNNING or WAITING row said before is over; a row that is done already is left alone, so
# that a commit whose answer was lost can be sent again.
OVERWRITTEN = ("status", "attempts", "result", "worker_name", "started_at", "finished_at")
EMPTIED = {"error": "''", "progress": "NULL", "cursor": "NULL"}


def commit(db: Database, checkpoints: Sequence[Checkpoint], worker_name: str) -> dict[UUID, str]:
    """Write *checkpoints* whose claims still hold; return those jobs with what is requested of them."""
    write = _in_one_statement if db.vendor == "postgresql" else _in_one_transaction
    return write(db, checkpoints, worker_name)


def commit_inside(db: Database, checkpoint: Checkpoint, worker_name: str) -> str | None:
    """Write one in the caller's transaction; what is requested of the job, None if the claim is lost.

    It waits for the job's row: whoever else holds it, to renew the lease, is done in a moment.
    """
    db.take_write_lock()
    rows = db.query(
        f"SELECT requested FROM {db.jobs('PRIMARY')}"
        f" WHERE id = %s AND claim_token = %s AND status = '{RUNNING}'{db.wait_lock}",
        [db.uuid(checkpoint.job_id), checkpoint.token],
    )
    if not rows:
        return None
    _write_tasks(db, [checkpoint], worker_name)
    _end_jobs(db, [checkpoint] if checkpoint.ends else [])
    ((requested,),) = rows
    return str(requested)


def _in_one_statement(
    db: Database, checkpoints: Sequence[Checkpoint], worker_name: str
) -> dict[UUID, str]:
    columns = zip(
        *(
            (
                *(c.job_id, c.token, c.task_id, c.position, c.attempt, c.result),
                *(-c.started, -c.ended, c.ends, c.handler),
            )
            for c in checkpoints
        ),
        strict=True,
    )
    rows = db.query(_statement(db), [*map(_array, columns), worker_name])
    return {job_id: requested for job_id, requested in rows}  # noqa: C416


def _array(values: Sequence[Any]) -> str:
    is_plain = isinstance(values[0], int | float | UUID)
    return plain_array(values) if is_plain else array(values)


def _statement(db: Database) -> str:
    # Statuses are literals: compared with a column of the input, the planner would not use the
    # primary key of the job's table in a nested loop.
    return f"""
WITH input AS MATERIALIZED (
  SELECT * FROM unnest(%s::uuid[], %s::bigint[], %s::text[], %s::int[], %s::int[], %s::text[],
    %s::float8[], %s::float8[], %s::bool[], %s::text[])
  AS i(job_id, token, task_id, position, attempts, result, started, ended, ends, handler)
), held AS MATERIALIZED (
  SELECT j.id, j.requested FROM input i CROSS JOIN LATERAL (
    SELECT id, requested FROM {JOB}
    WHERE id = i.job_id AND claim_token = i.token AND status = '{RUNNING}'
    FOR NO KEY UPDATE SKIP LOCKED
  ) j
), ended AS (
  UPDATE {JOB} j SET status = '{ENDED}', result = i.result, finished_at = {db.now("i.ended")},
    requested = '', handler_due = i.handler,
    handler_attempts = CASE WHEN i.handler = '' THEN 0 ELSE 1 END,
    run_after = CASE WHEN i.handler = '' THEN j.run_after ELSE {db.now()} END,
    worker_id = CASE WHEN i.handler = '' THEN NULL ELSE j.worker_id END,
    lease_until = CASE WHEN i.handler = '' THEN NULL ELSE j.lease_until END
  FROM input i JOIN held h ON h.id = i.job_id
  WHERE j.id = ANY(ARRAY(SELECT job_id FROM input WHERE ends))
    AND i.ends AND j.id = i.job_id AND j.claim_token = i.token AND j.status = '{RUNNING}'
), written AS (
  INSERT INTO {TASK} ({TASK_COLUMNS})
  SELECT i.job_id, i.task_id, i.position, '{DONE}', i.attempts, i.result, %s,
    {db.now("i.started")}, {db.now("i.ended")}
  FROM input i JOIN held h ON h.id = i.job_id{_overwrite(db)}
)
SELECT id, requested FROM held"""


def _overwrite(db: Database) -> str:
    return db.overwrite(OVERWRITTEN, EMPTIED, OPEN)


def _in_one_transaction(
    db: Database, checkpoints: Sequence[Checkpoint], worker_name: str
) -> dict[UUID, str]:
    with db.atomic():
        keys = {"id": db.uuids(c.job_id for c in checkpoints)}
        columns, running = "id, claim_token, requested", f"status = '{RUNNING}'"
        rows = db.query(*db.lookup(JOB, columns, keys, where=running, lock=True))
        now = {db.as_uuid(job_id): (token, requested) for job_id, token, requested in rows}
        ours = [c for c in checkpoints if now.get(c.job_id, (None,))[0] == c.token]
        if ours:
            _write_tasks(db, ours, worker_name)
            _end_jobs(db, [c for c in ours if c.ends])
    return {c.job_id: now[c.job_id][1] for c in ours}


def _write_tasks(db: Database, checkpoints: Sequence[Checkpoint], worker_name: str) -> None:
    head = f"INSERT INTO {TASK} ({TASK_COLUMNS}) VALUES "
    row = f"(%s, %s, %s, '{DONE}', %s, %s, %s, {db.now('%s')}, {db.now('%s')})"
    rows: list[list[Any]] = [
        [
            *(db.uuid(c.job_id), c.task_id, c.position, c.attempt, c.result, worker_name),
            *(-c.started, -c.ended),
        ]
        for c in checkpoints
    ]
    db.insert(head, row, _overwrite(db), rows)


def _end_jobs(db: Database, checkpoints: Sequence[Checkpoint]) -> None:
    common = (
        f"UPDATE {db.jobs('PRIMARY')} SET"
        f" status = '{ENDED}', result = %s, finished_at = {db.now('%s')},"
        " requested = '', handler_due = %s,"
    )
    where = f" WHERE id = %s AND claim_token = %s AND status = '{RUNNING}'"
    plain = f"{common} worker_id = NULL, lease_until = NULL{where}"
    handled = f"{common} handler_attempts = 1, run_after = {db.now()}{where}"
    for statement, chosen in (
        (plain, [c for c in checkpoints if not c.handler]),
        (handled, [c for c in checkpoints if c.handler]),
    ):
        if chosen:
            db.executemany(
                statement,
                [[c.result, -c.ended, c.handler, db.uuid(c.job_id), c.token] for c in chosen],
            )
