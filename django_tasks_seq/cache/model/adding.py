"""New jobs: one INSERT for each batch, in the caller's transaction, with the NOTIFY in it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.utils.dateparse import parse_datetime

from ...choices import JobStatus
from ...conf import get_config
from ...models import Job
from ..changes import Moment, NewJob
from .sql import JOB, Database, marks

BATCH = 500
CHANNEL = "django_tasks_seq"

Times = dict[UUID, tuple[str, datetime, datetime]]

COLUMNS = (
    "id, sequence, version, plan, status, queue, priority, payload, carried, run_after,"
    " idempotency_key, subject_type, subject_id, subject_label, created_by, created_at, resend_at"
)


def notify(db: Database) -> None:
    """Wake idle workers, once the transaction commits."""
    if _notifies(db):
        db.query("SELECT pg_notify(%s, '')", (CHANNEL,))


def _notifies(db: Database) -> bool:
    return db.vendor == "postgresql" and get_config().notify is not False


def add(db: Database, jobs: Sequence[NewJob]) -> list[Job]:
    """Insert *jobs*; where (sequence, idempotency key) exists, return the job that has it."""
    times: Times = {}
    existing: dict[tuple[str, str | None], Job] = {}
    wanted = list(jobs)
    while wanted:
        for start in range(0, len(wanted), BATCH):
            times.update(_insert(db, wanted[start : start + BATCH]))
        refused = [job for job in wanted if job.id not in times]
        existing.update(_existing(db, refused))
        # The job that had the key may have been pruned between the two statements.
        wanted = [job for job in refused if (job.sequence, job.idempotency_key) not in existing]
    return [
        _job(db, new, *times[new.id])
        if new.id in times
        else existing[new.sequence, new.idempotency_key]
        for new in jobs
    ]


def _insert(db: Database, jobs: Sequence[NewJob]) -> Times:
    rows = [_row(db, job) for job in jobs]
    values = ", ".join(f"({', '.join(mark for mark, _ in row)})" for row in rows)
    params = [param for row in rows for _, params in row for param in params]
    insert = (
        f"INSERT INTO {JOB} ({COLUMNS}) VALUES {values}"
        " ON CONFLICT (sequence, idempotency_key) DO NOTHING"
        " RETURNING id, status, run_after, created_at"
    )
    if not jobs[0].carried and _notifies(db):
        # One round trip for both; PostgreSQL sends equal notifications of a transaction once.
        insert = f"WITH added AS ({insert}) SELECT added.*, pg_notify('{CHANNEL}', '') FROM added"
    returned = db.query(insert, params)
    return {db.as_uuid(row[0]): (row[1], _aware(row[2]), _aware(row[3])) for row in returned}


def _row(db: Database, job: NewJob) -> list[tuple[str, list[Any]]]:
    due, due_params = _due(db, job.due)
    later = isinstance(job.due, Moment) and job.due.seconds > 0
    if isinstance(job.due, Moment):
        status = f"'{JobStatus.WAITING if later else JobStatus.READY}'"
        status_params: list[Any] = []
    else:
        status = (
            f"CASE WHEN {due} > {db.now()} THEN '{JobStatus.WAITING}' ELSE '{JobStatus.READY}' END"
        )
        status_params = due_params
    resend: tuple[str, list[Any]] = ("NULL", [])
    if job.resend_after is not None and not later:
        # One that waits is announced, and this time set, when it is promoted.
        resend = (f"CASE WHEN {status} = '{JobStatus.READY}' THEN {db.now('%s')} END", [])
        resend[1].extend([*status_params, job.resend_after])
    plain = [db.uuid(job.id), job.sequence, job.version, job.plan]
    middle = [job.queue, job.priority, job.payload, job.carried]
    last = [
        job.idempotency_key,
        job.subject_type,
        job.subject_id,
        job.subject_label,
        job.created_by,
    ]
    return [
        *(("%s", [value]) for value in plain),
        (status, status_params),
        *(("%s", [value]) for value in middle),
        (due, due_params),
        *(("%s", [value]) for value in last),
        (db.now(), []),
        resend,
    ]


def _due(db: Database, due: Moment | datetime) -> tuple[str, list[Any]]:
    if isinstance(due, Moment):
        return (db.now("%s"), [due.seconds]) if due.seconds else (db.now(), [])
    if db.vendor == "postgresql":
        return "%s::timestamptz", [due]
    return "%s", [due.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")]


def _aware(value: Any) -> datetime:
    found: datetime | None = parse_datetime(value) if isinstance(value, str) else value
    if found is None:
        raise ValueError(f"the database gave {value!r} for a time")
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _existing(db: Database, jobs: Sequence[NewJob]) -> dict[tuple[str, str | None], Job]:
    if not jobs:
        return {}
    found: dict[tuple[str, str | None], Job] = {}
    keys = [job.idempotency_key for job in jobs]
    sequence = jobs[0].sequence
    ids = [
        db.as_uuid(job_id)
        for (job_id,) in db.query(
            f"SELECT id FROM {JOB} WHERE sequence = %s AND idempotency_key IN ({marks(keys)})",
            [sequence, *keys],
        )
    ]
    for job in Job.objects.using(db.alias).filter(pk__in=ids):
        job.was_started = False
        found[job.sequence, job.idempotency_key] = job
    return found


def _job(db: Database, new: NewJob, status: str, run_after: datetime, created_at: datetime) -> Job:
    job = Job(
        id=new.id,
        sequence=new.sequence,
        version=new.version,
        plan=json.loads(new.plan),
        status=status,
        queue=new.queue,
        priority=new.priority,
        payload=None if new.payload is None else json.loads(new.payload),
        carried=new.carried,
        run_after=run_after,
        idempotency_key=new.idempotency_key,
        subject_type=new.subject_type,
        subject_id=new.subject_id,
        subject_label=new.subject_label,
        created_by=new.created_by,
        created_at=created_at,
        rank=-new.priority,
    )
    job._state.adding = False
    job._state.db = db.alias
    return job
