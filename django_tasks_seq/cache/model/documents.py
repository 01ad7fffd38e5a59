"""Rows as JSON documents: what `get`, `set` and `delete` of the cache handler's contract work on."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import models

from ...choices import DONE, FINAL, JobStatus
from ...conf import get_config
from ...exceptions import InvalidTransition, JobNotFound
from ...fields import JSONTextField
from ...models import Job, TaskStatus
from ...payloads import encode
from ...transitions import JOB as JOB_TRANSITIONS, TASK as TASK_TRANSITIONS, Transition
from ..changes import NOW, Change, Moment, Snapshot, TaskWrite
from .sql import JOB, TASK, Database, listed
from .upkeep import read_snapshots
from .writes import Fenced, write_changes

READY = JobStatus.READY
# What a document may change of a row that exists: what the engine itself writes, never identity,
# plan or claim.
JOB_WRITABLE = (
    "status",
    "result",
    "error",
    "error_result",
    "handler_error",
    "run_after",
    "finished_at",
)
TASK_WRITABLE = ("status", "attempts", "result", "error", "progress", "started_at", "finished_at")


def split_key(key: str) -> tuple[UUID, str | None]:
    """`job:<uuid>[:<task_id>]` as its parts."""
    kind, _, rest = key.partition(":")
    job_id, _, task_id = rest.partition(":")
    try:
        if kind == "job":
            return UUID(job_id), task_id or None
    except ValueError:
        pass
    raise ValueError(f"{key!r} is no key of a job: expected job:<uuid> or job:<uuid>:<task_id>.")


def get(db: Database, key: str) -> dict[str, Any] | None:
    """The row behind *key* as a document, or None."""
    try:
        job_id, task_id = split_key(key)
    except ValueError:
        return None
    rows: models.QuerySet[Any]
    if task_id is None:
        rows = Job.objects.using(db.alias).filter(pk=job_id)
    else:
        rows = TaskStatus.objects.using(db.alias).filter(job_id=job_id, task_id=task_id)
    row = rows.first()
    return None if row is None else document(row)


def document(row: models.Model) -> dict[str, Any]:
    """A row's columns as JSON data: UUIDs and times as text."""
    values = {}
    for field in row._meta.concrete_fields:
        if field.name == "pk":
            continue
        value = getattr(row, field.attname)
        if isinstance(value, UUID):
            value = str(value)
        elif isinstance(value, datetime):
            value = value.isoformat()
        values[field.attname] = value
    return values


def set(db: Database, key: str, value: Mapping[str, Any]) -> None:  # noqa: A001
    """Write *value* over the row behind *key*; a job that is not there is made."""
    job_id, task_id = split_key(key)
    with db.atomic():
        snapshots = read_snapshots(db, f"id = %s{db.wait_lock}", [db.uuid(job_id)])
        if not snapshots and task_id is not None:
            raise JobNotFound(str(job_id))
        if not snapshots:
            _create(db, job_id, value)
            return
        snapshot = snapshots[0]
        change = Change("set", job_id, snapshot.token, (snapshot.status,))
        if task_id is None:
            change.values = _columns(db, Job, value, JOB_WRITABLE)
            _check(JOB_TRANSITIONS, snapshot.status, change.values, key)
            change.values |= _implied(snapshot, change.values)
        else:
            values = _columns(db, TaskStatus, value, TASK_WRITABLE)
            row = snapshot.rows.get(task_id)
            old = row.status if row else TaskStatus.Status.READY.value
            _check(TASK_TRANSITIONS, old, values, key)
            position = int(value.get("position", row.position if row else 0))
            change.tasks = (TaskWrite(task_id, position, (old,), values),)
        held = {job_id: Fenced.of(snapshot)}
        write_changes(db, [change], held, str(value.get("worker_name", "")))


def _implied(old: Snapshot, values: Mapping[str, Any]) -> dict[str, Any]:
    """What goes with a status that is set: no claim, an end where it is final, a resend where due."""
    new = values.get("status", old.status)
    if new == old.status:
        return {}
    implied: dict[str, Any] = {"lease_until": None, "worker_id": None, "requested": ""}
    if new in FINAL:
        return implied | {"finished_at": values.get("finished_at") or NOW, "resend_at": None}
    is_due = old.carried and new == READY
    wait = Moment(get_config().resend_seconds) if is_due else None
    return implied | {"finished_at": None, "handler_due": "", "resend_at": wait, "resends": 0}


def _check(table: Mapping[str, Transition], old: str, values: Mapping[str, Any], key: str) -> None:
    new = values.get("status", old)
    # RUNNING is a claim, which has a token and a lease, and cannot be set.
    verbs = [transition for verb, transition in table.items() if verb != "claim"]
    allowed = any(old in verb.sources and new in verb.targets for verb in verbs)
    if new != old and not allowed:
        raise InvalidTransition(f"{key}: {old} cannot become {new}. Nothing was changed.")


def _columns(
    db: Database, model: type[models.Model], value: Mapping[str, Any], names: tuple[str, ...]
) -> dict[str, Any]:
    columns: dict[str, Any] = {}
    for name in names:
        if name not in value:
            continue
        field = model._meta.get_field(name)
        if isinstance(field, JSONTextField):
            columns[name] = encode(value[name], name=name)
        elif isinstance(field, models.DateTimeField):
            columns[name] = field.get_db_prep_value(
                field.to_python(value[name]), db.connection, prepared=False
            )
        else:
            columns[name] = value[name]
    return columns


def _create(db: Database, job_id: UUID, value: Mapping[str, Any]) -> None:
    names = {f.attname for f in Job._meta.concrete_fields if not f.generated and f.attname != "id"}
    Job.objects.using(db.alias).create(id=job_id, **{k: v for k, v in value.items() if k in names})


def delete(db: Database, key: str) -> None:
    """Delete the row behind *key*; with a job all that belongs to it."""
    job_id, task_id = split_key(key)
    with db.atomic():
        # Rows about a job are locked behind the job, whatever is done to them.
        db.query(f"SELECT 1 FROM {JOB} WHERE id = %s{db.wait_lock}", [db.uuid(job_id)])
        if task_id is not None:
            TaskStatus.objects.using(db.alias).filter(job_id=job_id, task_id=task_id).delete()
            return
        Job.objects.using(db.alias).filter(pk=job_id).delete()


def results(db: Database, job_id: UUID) -> dict[str, str | None]:
    """Results (text) of tasks that are done, by task id in order."""
    rows = db.query(
        f"SELECT task_id, result FROM {TASK} WHERE job_id = %s AND status IN ({listed(DONE)})"
        " ORDER BY position",
        (db.uuid(job_id),),
    )
    return dict(rows)
