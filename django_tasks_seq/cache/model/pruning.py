"""Deleting old jobs: small batches, each found without a lock and deleted in a transaction of its own.

A batch never waits: it passes by what somebody holds. Whoever writes a row about a job locks the job
first, so that under that lock all rows of a job are there, and they go together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, Final
from uuid import UUID

from django.db import IntegrityError, OperationalError, router
from django.db.models import DO_NOTHING, PROTECT, RESTRICT
from django.db.models.deletion import get_candidate_relations_to_delete
from django.db.models.signals import post_delete, pre_delete

from ...models import Job, JobEvent, TaskAttempt, TaskStatus
from ..retention import Prunable, PrunableCount, Pruned
from .mariadb import MariaDB
from .sql import ATTEMPT, EVENT, JOB, TASK, WORKER, Database, marks

# A row that is to be deleted is locked against references to it as well.
DELETE_LOCK = dict.fromkeys(("postgresql", "mysql"), " FOR UPDATE SKIP LOCKED")
# A worker that was asleep for hours is still the same worker.
WORKER_AGE: Final = 86_400.0
# How databases say that a statement's time is over, that a lock was not to be had, a deadlock.
OUT_OF_TIME = {"57014", "55P03", "40P01", 1969, 1205, 1213, "SQLITE_INTERRUPT"}
STEPS_BETWEEN_LOOKS: Final = 500
# Rows of a locked job are waited for only if somebody locks them without their job.
LOCK_WAIT: Final = "50ms"

CHILDREN = (TASK, ATTEMPT, EVENT)
Counts = tuple[int, int, int, int]


def prune(db: Database, what: Prunable, limit: int, after: Any, seconds: float | None) -> Pruned:
    """See `BaseJobStore.prune`."""
    where, params = _where(db, what)
    ids, reached = _pick(db, where, params, limit, after)
    if not ids:
        return Pruned()
    result = Pruned(found=len(ids), reached=reached)
    # Inside somebody's transaction (a test's) a limit would bind what follows there as well.
    limits = nullcontext() if db.connection.in_atomic_block else _within(db, seconds)
    began = time.perf_counter()
    try:
        with db.atomic():
            began = time.perf_counter()
            with limits:
                ids = _lock(db, ids, where, params)
                counts = _delete(db, ids) if ids else (0, 0, 0, 0)
        result.tasks, result.attempts, result.events, result.jobs = counts
    except IntegrityError as error:
        result.refusal = str(error).strip()
    except OperationalError as error:
        if not _is_out_of_time(error):
            raise
        result.is_slow = True
    result.seconds = time.perf_counter() - began
    return result


def count(db: Database, what: Prunable) -> PrunableCount:
    """See `BaseJobStore.count_prunable`."""
    where, params = _where(db, what)
    jobs = db.query(f"SELECT status, COUNT(*) FROM {JOB} WHERE {where} GROUP BY status", params)
    rows = [
        db.query(
            f"SELECT COUNT(*) FROM {table} WHERE job_id IN (SELECT id FROM {JOB} WHERE {where})",
            params,
        )[0][0]
        for table in CHILDREN
    ]
    return PrunableCount(dict(sorted(jobs)), *rows)


def prune_workers(db: Database, age: float, limit: int) -> int:
    """See `BaseJobStore.prune_workers`; one whose jobs wait to be rescued stays until they were."""
    pick = (
        f"SELECT id FROM {WORKER} WHERE heartbeat_at < (SELECT {db.now('%s')}) AND NOT EXISTS"
        f" (SELECT 1 FROM {JOB} WHERE lease_until IS NOT NULL AND worker_id = {WORKER}.id)"
        f" ORDER BY heartbeat_at LIMIT %s{DELETE_LOCK.get(db.vendor, '')}"
    )
    return db.delete_picked(WORKER, pick, [-max(age, WORKER_AGE), limit])


# --- which


def _where(db: Database, what: Prunable) -> tuple[str, list[Any]]:
    """SQL of what may go. `finished_at` and no other column leads to the index."""
    # Without statistics PostgreSQL takes a comparison for rare, and would read the whole table for it.
    is_settled = "COALESCE(handler_due = '', TRUE)"
    conditions = [f"finished_at < (SELECT {db.now('%s')})", is_settled]
    params: list[Any] = [-what.age]
    for column, values in (("status", what.statuses), ("sequence", what.sequences)):
        if values:
            conditions.append(f"{column} IN ({marks(values)})")
            params.extend(values)
    conditions += [
        f"NOT EXISTS (SELECT 1 FROM {quote(relation.related_model._meta.db_table)}"
        f" WHERE {quote(relation.field.column)} = {JOB}.{quote(relation.field.target_field.column)})"
        for relation in _relations(db)
        if _protects(relation)
        for quote in (db.connection.ops.quote_name,)
    ]
    return " AND ".join(conditions), params


def _relations(db: Database) -> list[Any]:
    """Foreign keys to jobs that a site's own models have in this database."""
    # Typed as Any: django-stubs do not know what these relations are.
    find: Any = get_candidate_relations_to_delete
    return [
        relation
        for relation in find(Job._meta)
        if relation.related_model._meta.app_label != Job._meta.app_label
        and router.allow_migrate_model(db.alias, relation.related_model)
    ]


def _protects(relation: Any) -> bool:
    if relation.on_delete is DO_NOTHING:
        return bool(relation.field.db_constraint)
    return relation.on_delete in (PROTECT, RESTRICT)


def _pick(
    db: Database, where: str, params: Sequence[Any], limit: int, after: Any
) -> tuple[list[UUID], Any]:
    """The oldest that may go, and the place behind them: (end, id) of the last."""
    # SQLite keeps text, and a datetime made of it need not become the same text again.
    end = "CAST(finished_at AS text)" if db.vendor == "sqlite" else "finished_at"
    place = " AND (finished_at, id) > (%s, %s)" if after else ""
    rows = db.query(
        f"SELECT id, {end} FROM {db.jobs('tseq_job_finished')}"
        f" WHERE {where}{place} ORDER BY finished_at, id LIMIT %s",
        [*params, *(after or ()), limit],
    )
    ids = [db.as_uuid(job_id) for job_id, _ in rows]
    return ids, (rows[-1][1], rows[-1][0]) if rows else None


# --- one transaction


@contextmanager
def _within(db: Database, seconds: float | None) -> Iterator[None]:
    """End what this transaction does after *seconds* (None: let it end); never wait for a lock."""
    if db.vendor == "postgresql":
        # A commit that a crash of the machine loses is made again: nobody waits for the disk.
        # Sequential scans are off because statistics are poorest for the largest tables; what has to
        # be scanned all the same would look so dear that it were compiled first.
        db.query(
            "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', %s, true),"
            " set_config('synchronous_commit', 'off', true), set_config('enable_seqscan', 'off', true),"
            " set_config('jit', 'off', true)",
            [f"{round((seconds or 0) * 1000)}ms", LOCK_WAIT],
        )
        yield
    elif isinstance(db, MariaDB):
        with db.limited(seconds):
            yield
    elif db.vendor == "sqlite" and seconds is not None:
        with _interrupted(db.connection.connection, time.monotonic() + seconds):
            yield
    else:
        yield


@contextmanager
def _interrupted(raw: Any, end: float) -> Iterator[None]:
    def is_over() -> bool:
        return time.monotonic() > end

    watch: Callable[[Callable[[], bool] | None, int], None] = raw.set_progress_handler
    watch(is_over, STEPS_BETWEEN_LOOKS)
    try:
        yield
    finally:
        watch(None, 0)


def _is_out_of_time(error: OperationalError) -> bool:
    cause = error.__cause__
    state = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    known = {state, next(iter(error.args), None)}
    return not known.isdisjoint(OUT_OF_TIME)


def _lock(db: Database, ids: Sequence[UUID], where: str, params: Sequence[Any]) -> list[UUID]:
    """Those of *ids* that nobody holds and that still may go: somebody may have retried one."""
    rows = db.query(
        f"SELECT id FROM {db.jobs('PRIMARY')} WHERE id IN ({marks(ids)}) AND {where}"
        f"{DELETE_LOCK.get(db.vendor, '')}",
        [*db.uuids(ids), *params],
    )
    return [db.as_uuid(job_id) for (job_id,) in rows]


def _delete(db: Database, ids: Sequence[UUID]) -> Counts:
    """Delete these jobs and their rows; how many task statuses, attempts, events and jobs."""
    if _relations(db) or pre_delete.has_listeners(Job) or post_delete.has_listeners(Job):
        return _delete_with_the_orm(db, ids)
    params = db.uuids(ids)
    if db.vendor != "postgresql":
        tables = [(table, "job_id") for table in CHILDREN] + [(JOB, "id")]
        tasks, attempts, events, jobs = (db.delete(table, key, params) for table, key in tables)
        return tasks, attempts, events, jobs
    parts = [f"DELETE FROM {table} WHERE job_id = ANY(%s) RETURNING 1" for table in CHILDREN]
    parts.append(f"DELETE FROM {JOB} WHERE id = ANY(%s) RETURNING 1")
    names = ("tasks", "attempts", "events", "jobs")
    # One statement, whose time is limited as a whole.
    (row,) = db.query(
        f"WITH {', '.join(f'{n} AS ({part})' for n, part in zip(names, parts, strict=True))}"
        f" SELECT {', '.join(f'(SELECT COUNT(*) FROM {name})' for name in names)}",
        [params] * len(names),
    )
    return row[0], row[1], row[2], row[3]


def _delete_with_the_orm(db: Database, ids: Sequence[UUID]) -> Counts:
    """As Django does it: what `on_delete` says of a site's own foreign keys happens, signals are sent."""
    _, counts = Job.objects.using(db.alias).filter(pk__in=ids).only("pk").delete()
    tasks, attempts, events, jobs = (
        counts.get(model._meta.label, 0) for model in (TaskStatus, TaskAttempt, JobEvent, Job)
    )
    return tasks, attempts, events, jobs
