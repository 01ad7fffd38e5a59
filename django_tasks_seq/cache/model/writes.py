"""Applying checkpoints and changes: the fence first, then the writes for the rows that came back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from django.db import DataError, IntegrityError

from ...choices import JobStatus, TaskState
from ...transitions import JOB as JOB_TRANSITIONS
from ..changes import Applied, Change, Checkpoint, Snapshot, TaskWrite, Write
from . import group_commit
from .sql import ATTEMPT, EVENT, JOB, TASK, Database

ENDED = JobStatus.SUCCESSFUL
CHECKPOINT_SOURCES = JOB_TRANSITIONS["complete_task"].sources

ATTEMPT_DEFAULTS: dict[str, Any] = {
    "exception_class": "",
    "exception_bases": None,
    "message": "",
    "traceback": "",
    "result": None,
    "started_at": None,
}
EVENT_DEFAULTS: dict[str, Any] = {
    "by": "",
    "reason": "",
    "status_before": "",
    "status_after": "",
    "data": None,
}


Commit = Callable[[Database, Sequence[Any], str, Applied], dict[UUID, str]]


def _commit_checkpoints(
    db: Database, checkpoints: Sequence[Checkpoint], worker_name: str, applied: Applied
) -> dict[UUID, str]:
    return group_commit.commit(db, checkpoints, worker_name)


def apply(db: Database, writes: Sequence[Write], worker_name: str) -> Applied:
    """Write each in full or not at all; see `BaseJobStore.apply`."""
    applied = Applied()
    checkpoints = [write for write in writes if isinstance(write, Checkpoint)]
    changes = [write for write in writes if isinstance(write, Change)]
    if checkpoints:
        _guarded(db, checkpoints, worker_name, applied, _commit_checkpoints)
    if changes:
        _guarded(db, changes, worker_name, applied, _commit_changes)
    return applied


def apply_inside(db: Database, write: Write, worker_name: str) -> Applied:
    """Write inside the caller's transaction; see `BaseJobStore.apply_inside`."""
    applied = Applied()
    if isinstance(write, Change):
        db.query(f"SELECT 1 FROM {JOB} WHERE id = %s{db.wait_lock}", [db.uuid(write.job_id)])
        # Nothing else than what is written here counts as done: the caller's effects go with it.
        requested = _commit_changes(db, [write], worker_name, applied).get(write.job_id)
    else:
        requested = group_commit.commit_inside(db, write, worker_name)
    if requested is None:
        applied.lost.add(write.job_id)
    else:
        applied.done[write.job_id] = requested
    return applied


def _guarded(
    db: Database,
    writes: Sequence[Any],
    worker_name: str,
    applied: Applied,
    commit: Commit,
) -> None:
    """Commit a batch; a row that breaks it is split off and committed alone."""
    try:
        with db.savepoint():
            done = commit(db, writes, worker_name, applied)
    except (DataError, IntegrityError) as error:
        if len(writes) == 1:
            applied.broken[writes[0].job_id] = error
            return
        for write in writes:
            _guarded(db, [write], worker_name, applied, commit)
        return
    applied.done.update(done)
    missing = [write for write in writes if write.job_id not in done]
    if missing:
        _tell_busy_from_lost(db, missing, applied)


def _tell_busy_from_lost(db: Database, writes: Sequence[Write], applied: Applied) -> None:
    """A row that the fence did not return is locked by somebody, or no longer ours."""
    ids = db.uuids(write.job_id for write in writes if write.job_id not in applied.stale)
    if not ids:
        return
    rows = db.query(*db.lookup(JOB, f"id, {FENCED}", {"id": ids}))
    now = {db.as_uuid(row[0]): Fenced(*row[1:]) for row in rows}
    maybe: list[tuple[Write, Fenced]] = []
    for write in writes:
        row = now.get(write.job_id)
        if write.job_id in applied.stale:
            continue
        if row is None or row.token != write.token:
            applied.lost.add(write.job_id)
        elif _holds(write, row):
            applied.busy.add(write.job_id)
        elif _may_have_landed(write, row):
            maybe.append((write, row))
        else:
            applied.lost.add(write.job_id)
    differing = _with_other_tasks(db, maybe)
    for write, row in maybe:
        if write.job_id in differing:
            applied.lost.add(write.job_id)
        else:
            applied.done[write.job_id] = row.requested


def _holds(write: Write, row: Fenced) -> bool:
    if isinstance(write, Checkpoint):
        return row.status in CHECKPOINT_SOURCES
    if write.handler:
        return row.handler == write.handler and row.is_leased
    return row.status in write.sources


def _may_have_landed(write: Write, row: Fenced) -> bool:
    """Whether the job is as this very write left it, if it was committed and its answer was lost."""
    if isinstance(write, Checkpoint):
        return write.ends and row.status == ENDED
    if write.handler:
        return row.status in write.sources
    return row.status == write.heeding(row.requested).values.get("status")


def _with_other_tasks(db: Database, writes: Sequence[tuple[Write, Fenced]]) -> set[UUID]:
    """Jobs whose tasks are not as these writes would have left them.

    People and rescuers give a job such a status as well, and without a new token: but a task's row
    with this attempt's number, status and error is of this attempt alone.
    """
    wanted: dict[tuple[UUID, str], tuple[Any, ...]] = {}
    for write, row in writes:
        if isinstance(write, Checkpoint):
            wanted[write.job_id, write.task_id] = (TaskState.SUCCESSFUL, write.attempt, "")
            continue
        for task in write.heeding(row.requested).tasks:
            outcome = (task.values.get(name) for name in ("status", "attempts", "error"))
            wanted[write.job_id, task.task_id] = tuple(outcome)
    found = {
        (job_id, task_id): outcome
        for job_id, task_id, *outcome in _task_rows(db, wanted, "status, attempts, error")
    }
    return {
        key[0]
        for key, outcome in wanted.items()
        if any(
            value is not None and value != is_now
            for value, is_now in zip(outcome, found.get(key, ("", 0, "")), strict=True)
        )
    }


def _commit_changes(
    db: Database, changes: Sequence[Change], worker_name: str, applied: Applied
) -> dict[UUID, str]:
    with db.atomic():
        held = fence(db, changes)
        ours = [c.heeding(held[c.job_id].requested) for c in changes if c.job_id in held]
        stale = _with_ended_tasks(db, ours)
        write_changes(db, [c for c in ours if c.job_id not in stale], held, worker_name)
    applied.stale |= stale
    return {job_id: row.requested for job_id, row in held.items() if job_id not in stale}


class Fenced(NamedTuple):
    """A job's row, locked by the fence."""

    status: str
    token: int
    requested: str
    handler: str
    is_leased: bool

    @classmethod
    def of(cls, job: Snapshot) -> Fenced:
        """A row that was locked when its snapshot was read."""
        leased = job.lease_left is not None
        return cls(job.status, job.token, job.requested, job.handler, leased)


FENCED = "status, claim_token, requested, handler_due, lease_until IS NOT NULL"


def fence(db: Database, changes: Sequence[Change]) -> dict[UUID, Fenced]:
    """Lock the rows of *changes* whose claim and status still hold; never wait for one."""
    by_id = {change.job_id: change for change in changes}
    keys = {
        "id": db.uuids(c.job_id for c in changes),
        "claim_token": [c.token for c in changes],
    }
    rows = db.query(*db.lookup(JOB, f"id, {FENCED}", keys, lock=True))
    held = {db.as_uuid(row[0]): Fenced(*row[1:]) for row in rows}
    return {job_id: row for job_id, row in held.items() if _holds(by_id[job_id], row)}


def _with_ended_tasks(db: Database, changes: Sequence[Change]) -> set[UUID]:
    """Jobs of *changes* that would write over a task which has ended meanwhile.

    The commit of an atomic task may have been made although its answer was lost: a failure that is
    recorded then must not end the job.
    """
    wanted = {(c.job_id, task.task_id): task.sources for c in changes for task in c.tasks}
    found = _task_rows(db, wanted, "status")
    return {job_id for job_id, task_id, status in found if status not in wanted[job_id, task_id]}


def _task_rows(
    db: Database, wanted: Iterable[tuple[UUID, str]], columns: str
) -> list[tuple[Any, ...]]:
    """Job, task id and *columns* of the rows that are there of *wanted* (job, task id)."""
    pairs = list(wanted)
    if not pairs:
        return []
    keys = {
        "job_id": db.uuids(job_id for job_id, _ in pairs),
        "task_id": [task_id for _, task_id in pairs],
    }
    rows = db.query(*db.lookup(TASK, f"job_id, task_id, {columns}", keys))
    return [(db.as_uuid(job_id), *rest) for job_id, *rest in rows]


def write_changes(
    db: Database, changes: Sequence[Change], held: Mapping[UUID, Fenced], worker_name: str
) -> None:
    """Write what *changes* say of jobs whose rows are locked, statement by statement for all of them."""
    _update_jobs(db, [c for c in changes if c.values], held)
    _upsert_tasks(db, changes, worker_name)
    attempt_defaults = ATTEMPT_DEFAULTS | {"worker_name": worker_name}
    _insert(db, ATTEMPT, attempt_defaults, ((c.job_id, row) for c in changes for row in c.attempts))
    _insert(db, EVENT, EVENT_DEFAULTS, ((c.job_id, row) for c in changes for row in c.events))


Rows = dict[str, list[list[Any]]]


def _update_jobs(db: Database, changes: Iterable[Change], held: Mapping[UUID, Fenced]) -> None:
    groups: Rows = defaultdict(list)
    for change in changes:
        cells = [(name, *db.placeholder(value)) for name, value in change.values.items()]
        sets = ", ".join(f"{db.column(name)} = {mark}" for name, mark, _ in cells)
        row = held[change.job_id]
        groups[
            f"UPDATE {db.jobs('PRIMARY')} SET {sets}"
            " WHERE id = %s AND claim_token = %s AND status = %s"
        ].append([*(param for *_, param in cells), db.uuid(change.job_id), row.token, row.status])
    _run(db, groups)


def _upsert_tasks(db: Database, changes: Iterable[Change], worker_name: str) -> None:
    groups: Rows = defaultdict(list)
    for change in changes:
        for task in change.tasks:
            statement, params = _upsert(db, change.job_id, task, worker_name)
            groups[statement].append(params)
    _run(db, groups)


def _upsert(db: Database, job_id: UUID, task: TaskWrite, worker_name: str) -> tuple[str, list[Any]]:
    """A task's row written over one of its source statuses; any other is left as it is."""
    worker = {"worker_name": worker_name} if worker_name else {}
    values = {"position": task.position, **worker, **task.values}
    cells = [(name, *db.placeholder(value)) for name, value in values.items()]
    statement = (
        f"INSERT INTO {TASK} (job_id, task_id, {', '.join(db.column(name) for name in values)})"
        f" VALUES (%s, %s, {', '.join(mark for _, mark, _ in cells)})"
        f"{db.overwrite(values, {}, task.sources)}"
    )
    return statement, [db.uuid(job_id), task.task_id, *(param for *_, param in cells)]


def _insert(
    db: Database,
    table: str,
    defaults: dict[str, Any],
    rows: Iterable[tuple[UUID, dict[str, Any]]],
) -> None:
    stamp = "finished_at" if table == ATTEMPT else "created_at"
    groups: Rows = defaultdict(list)
    for job_id, given in rows:
        values = {"job_id": job_id, **defaults, **given}
        cells = [(name, *db.placeholder(value)) for name, value in values.items()]
        groups[
            f"INSERT INTO {table} ({', '.join(db.column(name) for name in values)}, {stamp})"
            f" VALUES ({', '.join(mark for _, mark, _ in cells)}, {db.now()})"
        ].append([param for *_, param in cells])
    _run(db, groups)


def _run(db: Database, groups: Rows) -> None:
    for statement, rows in groups.items():
        db.executemany(statement, rows)
