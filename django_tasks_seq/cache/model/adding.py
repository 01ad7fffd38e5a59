"""New jobs: one INSERT for each batch, in the caller's transaction."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.db import transaction
from django.utils.dateparse import parse_datetime

from ...choices import JobStatus
from ...models import Job
from ...payloads import decode
from ..changes import Moment, NewJob
from .arrays import array
from .batches import batches
from .notifying import SENT_IF_ALONE, notifies, notify
from .sql import JOB, Database, marks
from .stored import read_plan

BATCH = 500
READY, WAITING = JobStatus.READY.value, JobStatus.WAITING.value

Row = tuple[Any, ...]

COLUMNS = (
    "id, sequence, version, plan, status, queue, priority, payload, carried, run_after,"
    " idempotency_key, subject_type, subject_id, subject_label, created_by, created_at, resend_at"
)
RETURNED = " RETURNING id, status, run_after, created_at"


def add(db: Database, jobs: Sequence[NewJob]) -> list[Job]:
    """Insert *jobs*; where (sequence, idempotency key) exists, return the job that has it."""
    # Two that start the same keys at once would wait for each other, if each took them in its own order.
    ordered = sorted(jobs, key=_key)
    while True:
        try:
            with _undone_together(db, jobs):
                added, existing = _add(db, ordered)
        except _KeyFreedError:
            continue
        break
    if any(_is_to_be_told(added[job.id]) for job in jobs if job.id in added and not job.carried):
        notify(db)
    return [
        _job(db, new, *added[new.id][:3])
        if new.id in added
        else existing[new.sequence, new.idempotency_key]
        for new in jobs
    ]


class _KeyFreedError(Exception):
    """The job that had a key was deleted when it was to be read."""


def _undone_together(db: Database, jobs: Sequence[NewJob]) -> AbstractContextManager[Any]:
    """Keys that were taken are let go, before one that has become free in front of them is taken."""
    has_keys = len(jobs) > 1 and any(job.idempotency_key is not None for job in jobs)
    return transaction.atomic(using=db.alias) if has_keys else nullcontext()


def _add(
    db: Database, jobs: Sequence[NewJob]
) -> tuple[dict[UUID, Row], dict[tuple[str, str | None], Job]]:
    """Rows of those that were added, and the jobs that had the keys of the others."""
    added: dict[UUID, Row] = {}
    existing: dict[tuple[str, str | None], Job] = {}
    if db.locks_what_it_meets:
        existing = _existing(db, [job for job in jobs if job.idempotency_key is not None])
        jobs = [job for job in jobs if (job.sequence, job.idempotency_key) not in existing]
    for batch in batches(jobs, BATCH, db.most_characters, _characters):
        _insert(db, batch, added)
    refused = [job for job in jobs if job.id not in added]
    existing |= _existing(db, refused)
    if any((job.sequence, job.idempotency_key) not in existing for job in refused):
        raise _KeyFreedError
    return added, existing


def _key(job: NewJob) -> tuple[str, str]:
    return job.sequence, job.idempotency_key or ""


def _is_to_be_told(row: Row) -> bool:
    """Whether a worker could claim it at once, and its INSERT has not sent a notification."""
    status, _, _, *sent = row
    return status == READY and sent != [True]


def _insert(db: Database, jobs: Sequence[NewJob], added: dict[UUID, Row]) -> None:
    if db.vendor != "postgresql":
        rows = _from_values(db, jobs)
    elif len(jobs) == 1:
        rows = _from_values(db, jobs, _sent_with(db, jobs[0]))
    else:
        rows = _from_arrays(db, jobs)
    for job_id, status, run_after, created_at, *sent in rows:
        added[db.as_uuid(job_id)] = (status, _aware(run_after), _aware(created_at), *sent)


def _sent_with(db: Database, job: NewJob) -> str:
    """What RETURNING has behind it, where a notification is sent in the same round trip."""
    is_alone = notifies(db) and not job.carried and db.connection.get_autocommit()
    return f", {SENT_IF_ALONE}" if is_alone and _kind(job.due) in {"now", "past"} else ""


def _end(db: Database) -> str:
    return f"{db.leave_be('sequence, idempotency_key')}{RETURNED}"


# --- a row of its own for each job: SQLite, MariaDB, and one job


def _from_values(db: Database, jobs: Sequence[NewJob], returned: str = "") -> list[Row]:
    now, moved, at = db.now(), db.now("%s"), _at(db)
    texts, params = [], []
    for job in jobs:
        kind = _kind(job.due)
        resends = job.resend_after is not None and kind != "later"
        texts.append(_values(now, moved, at, kind, resends=resends))
        params += _params(db, job, kind, resends=resends)
    return db.query(
        f"INSERT INTO {JOB} ({COLUMNS}) VALUES {', '.join(texts)}{_end(db)}{returned}", params
    )


@lru_cache(maxsize=64)
def _values(now: str, moved: str, at: str, kind: str, *, resends: bool) -> str:
    """SQL of one row whose time is of this *kind*; *moved* is now plus a parameter, *at* a time."""
    status = {
        "later": f"'{WAITING}'",
        "at": f"CASE WHEN {at} > {now} THEN '{WAITING}' ELSE '{READY}' END",
    }.get(kind, f"'{READY}'")
    due = {"now": now, "at": at}.get(kind, moved)
    # One that waits is announced, and this time set, when it is promoted.
    resend = f"CASE WHEN {status} = '{READY}' THEN {moved} END" if resends else "NULL"
    return f"(%s, %s, %s, %s, {status}, %s, %s, %s, %s, {due}, %s, %s, %s, %s, %s, {now}, {resend})"


def _params(db: Database, job: NewJob, kind: str, *, resends: bool) -> list[Any]:
    due: list[Any] = []
    if kind == "at":
        due = [_at_param(db, job.due)]
    elif kind != "now":
        due = [job.due.seconds]
    status = due if kind == "at" else []
    return [
        *(db.uuid(job.id), job.sequence, job.version, job.plan, *status),
        *(job.queue, job.priority, job.payload, job.carried, *due),
        *(job.idempotency_key, job.subject_type, job.subject_id, job.subject_label),
        job.created_by,
        *((*status, job.resend_after) if resends else ()),
    ]


def _kind(due: Moment | datetime) -> str:
    if not isinstance(due, Moment):
        return "at"
    if not due.seconds:
        return "now"
    return "later" if due.seconds > 0 else "past"


def _at(db: Database) -> str:
    return "%s::timestamptz" if db.vendor == "postgresql" else "%s"


def _at_param(db: Database, due: datetime) -> Any:
    if db.vendor == "postgresql":
        return due
    return due.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


# --- a parameter for each column: PostgreSQL, and many jobs


def _from_arrays(db: Database, jobs: Sequence[NewJob]) -> list[Row]:
    columns = zip(
        *(
            (
                *(job.id, job.sequence, job.version, job.plan),
                *(job.queue, job.priority, job.payload, job.carried),
                *((job.due.seconds, None) if isinstance(job.due, Moment) else (None, job.due)),
                *(job.idempotency_key, job.subject_type, job.subject_id, job.subject_label),
                *(job.created_by, job.resend_after),
            )
            for job in jobs
        ),
        strict=True,
    )
    return db.query(_arrays_statement(db), [array(column) for column in columns])


def _arrays_statement(db: Database) -> str:
    # Due at one moment, whatever the order they are inserted in: of these the oldest id is first.
    due = f"{db.instant()} + delay * interval '1 second'"
    return f"""
INSERT INTO {JOB} ({COLUMNS})
SELECT id, sequence, version, plan, CASE WHEN waits THEN '{WAITING}' ELSE '{READY}' END,
  queue, priority, payload, carried, COALESCE(at, {due}),
  idempotency_key, subject_type, subject_id, subject_label, created_by, {db.now()},
  CASE WHEN NOT waits THEN {db.now("resend")} END
FROM (
  SELECT *, COALESCE(delay > 0, at > {db.now()}) AS waits
  FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::text[], %s::smallint[],
    %s::text[], %s::bool[], %s::float8[], %s::timestamptz[], %s::text[], %s::text[], %s::text[],
    %s::text[], %s::text[], %s::float8[])
  AS i(id, sequence, version, plan, queue, priority, payload, carried, delay, at,
    idempotency_key, subject_type, subject_id, subject_label, created_by, resend)
) AS input{_end(db)}"""


# --- what comes back


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
            f"SELECT id FROM {JOB} WHERE sequence = %s AND idempotency_key IN ({marks(keys)})"
            f"{db.wait_lock if db.reads_a_snapshot else ''}",
            [sequence, *keys],
        )
    ]
    rows = Job.objects.using(db.alias).filter(pk__in=ids)
    for job in rows.select_for_update() if db.reads_a_snapshot else rows:
        job.was_started = False
        found[job.sequence, job.idempotency_key] = job
    return found


def _characters(job: NewJob) -> int:
    return len(job.payload or "") + len(job.plan)


@lru_cache(maxsize=1)
def _defaults() -> dict[str, Any]:
    """What a new job has in each column, in the order of the fields."""
    blank = vars(Job())
    return {field.attname: blank.get(field.attname) for field in Job._meta.concrete_fields}


def _job(db: Database, new: NewJob, status: str, run_after: datetime, created_at: datetime) -> Job:
    values = {
        **_defaults(),
        "id": new.id,
        "sequence": new.sequence,
        "version": new.version,
        "plan": list(read_plan(new.plan)),
        "status": status,
        "queue": new.queue,
        "priority": new.priority,
        "payload": decode(new.payload),
        "carried": new.carried,
        "run_after": run_after,
        "idempotency_key": new.idempotency_key,
        "subject_type": new.subject_type,
        "subject_id": new.subject_id,
        "subject_label": new.subject_label,
        "created_by": new.created_by,
        "created_at": created_at,
        "rank": -new.priority,
    }
    # By position, as rows that are read are made: by name takes four times as long.
    return Job.from_db(db.alias, list(values), list(values.values()))
