"""What views call: start a job, look at it, wait for it, and repair it.

Every function has an async twin with an `a` before its name. A *job* is a Job, its UUID, or the text
of that; a sequence is its name or the object. Times are seconds. Where jobs are kept without tables,
a `JobRecord` with the same attributes stands in for the `Job` that is returned.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, TypeAlias
from uuid import UUID

from asgiref.sync import sync_to_async
from django.db import models

from . import consuming, repairs
from .announcements import tell_settled
from .cache import as_store
from .cache.base import BaseJobStore
from .cache.changes import NewJob
from .choices import JobStatus
from .conf import get_cache_handler
from .consuming import TaskRun
from .exceptions import JobNotFound
from .handlers import handler_due_for, start as start_handlers
from .new_jobs import new_job, refuse_conflicts, storable
from .payloads import encode
from .registry import find_sequence, get_sequence
from .repairs import Actor
from .sequences import TaskSequence
from .starting import after_commit, hand_over

# What a verb can leave a job in whose task, or handler, is then due.
DUE_AGAIN = (JobStatus.READY, JobStatus.SUCCESSFUL)
if TYPE_CHECKING:
    from .cache import JobRecord
    from .models import Job

# What names a job.
JobRef: TypeAlias = "Job | JobRecord | UUID | str"
WAIT_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)


def store() -> BaseJobStore:
    """The store that `CACHE_HANDLER` names."""
    return as_store(get_cache_handler())


def start_sequence(
    sequence: str | TaskSequence,
    payload: Any = None,
    *,
    queue: str | None = None,
    priority: int = 0,
    run_after: datetime | timedelta | None = None,
    idempotency_key: str | None = None,
    subject: models.Model | None = None,
    created_by: Any = "",
) -> Job:
    """Start a job in the caller's transaction; return it, its id known before the commit.

    It exists if and only if the caller commits (promise G1). *payload* is JSON data, or of the
    sequence's `payload_type`; *priority* is -100 to 100, higher first; *run_after* an aware datetime,
    or a timedelta that the database adds to its own clock. *idempotency_key* is unique for the
    sequence as long as the job is kept: a second start returns the first job, `was_started` false then.
    *subject* is a saved model instance: its label, id and text are kept for people.

    Raises UnknownSequence, InvalidPayload, IdempotencyConflict, ValueError; nothing is written then.

    >>> job = start_sequence("fulfil_order", {"order_id": 7}, subject=order)  # doctest: +SKIP
    """
    declared = get_sequence(sequence)
    new = new_job(
        declared,
        payload,
        queue=queue,
        priority=priority,
        run_after=run_after,
        idempotency_key=idempotency_key,
        subject=subject,
        created_by=created_by,
    )
    return _add([new])[0]


def start_many(
    sequence: str | TaskSequence,
    payloads: Iterable[Any],
    *,
    subjects: Sequence[models.Model] | None = None,
    idempotency_keys: Sequence[str] | None = None,
    queue: str | None = None,
    priority: int = 0,
    run_after: datetime | timedelta | None = None,
    created_by: Any = "",
) -> list[Job]:
    """Start a job for each of *payloads*, with one statement for each 500; all of them or none.

    *subjects* and *idempotency_keys* are lists of the same length. Raises what `start_sequence`
    raises; the path of a bad value begins with its place, `payloads[17]['price']`.

    >>> jobs = start_many("fulfil_order", [{"order_id": n} for n in numbers])  # doctest: +SKIP
    """
    declared = get_sequence(sequence)
    payloads = list(payloads)
    for name, given in (("subjects", subjects), ("idempotency_keys", idempotency_keys)):
        if given is not None and len(given) != len(payloads):
            raise ValueError(
                f"{name} has {len(given)} entries for {len(payloads)} payloads. Nothing was started."
            )
    new = [
        new_job(
            declared,
            payload,
            queue=queue,
            priority=priority,
            run_after=run_after,
            idempotency_key=idempotency_keys[i] if idempotency_keys else None,
            subject=subjects[i] if subjects else None,
            created_by=created_by,
            name=f"payloads[{i}]",
        )
        for i, payload in enumerate(payloads)
    ]
    return _add(new) if new else []


def _add(new: list[NewJob]) -> list[Job]:
    keeper = store()
    with keeper.together() if len(new) > 1 else nullcontext():
        jobs = keeper.add(new)
        refuse_conflicts(jobs, new)
    hand_over(keeper, [job.id for job in jobs if job.was_started and job.carried])
    return jobs


def execute_task(job: JobRef, task_id: str, payload: Any = None) -> TaskRun:
    """Run one task of a carried job: what a carrier's consumer calls.

    The job is claimed only if it is due and *task_id* is its next task; its lease is renewed while
    the task runs; the outcome is recorded, the claim given up, and `handle_start` is called for what
    is due then. The stored payload is used, *payload* is ignored. A doubled, late, early or unknown
    call returns `TaskRun(ran=False, reason=...)`, and a task's exception is recorded, not raised.
    What does raise is a database that cannot be reached before anything has run: let the message
    come again.

    >>> execute_task(job_id, "charge").ran  # doctest: +SKIP
    True
    """
    try:
        job_id = _job_id(job)
    except JobNotFound:
        return TaskRun(ran=False, reason="unknown_job")
    return consuming.execute(store(), job_id, str(task_id))


def cancel(job: JobRef, *, by: Any = None, reason: str = "", force: bool = False) -> Job:
    """Cancel a job; a running one is asked to, and ends before its next task.

    `force=True` ends a running one now: what its task still does is refused. Returns the job.
    Raises JobNotCancellable when it is final; nothing is changed then.

    >>> cancel(job, by=request.user, reason="ordered twice").requested  # doctest: +SKIP
    'cancel'
    """
    return _amend(job, lambda snapshot: repairs.cancel(snapshot, _actor(by, reason), force=force))


def pause(job: JobRef, *, by: Any = None, reason: str = "") -> Job:
    """Pause a job; a running one is asked to, and stops before its next task. Returns the job.

    Raises JobNotPausable when it is final or paused; nothing is changed then.

    >>> pause(job, reason="warehouse closed").status  # doctest: +SKIP
    'PAUSED'
    """
    return _amend(job, lambda snapshot: repairs.pause(snapshot, _actor(by, reason)))


def resume(job: JobRef, *, by: Any = None, reason: str = "") -> Job:
    """Let a paused job go on. Raises JobNotResumable when it is not paused. Returns the job.

    >>> resume(job).status  # doctest: +SKIP
    'READY'
    """
    return _amend(job, lambda snapshot: repairs.resume(snapshot, _actor(by, reason)))


def retry(job: JobRef, *, from_task: str | None = None, by: Any = None, reason: str = "") -> Job:
    """Go on from the failed task, earlier results kept, with `max_attempts` new attempts.

    A handler that is still due is dropped: it belongs to the outcome that this undoes, and the new
    outcome has its own.

    With *from_task* the job runs again from there; results from there on go to the attempts'
    history. Returns the job. Raises JobNotRetryable, which says why; nothing is changed then.

    >>> retry(job, by=request.user, reason="warehouse is back")  # doctest: +SKIP
    """
    actor = _actor(by, reason)
    if from_task is None:
        return _amend(job, lambda snapshot: repairs.retry(snapshot, actor))
    return _amend(job, lambda snapshot: repairs.retry_from(snapshot, actor, from_task))


def skip(job: JobRef, task_id: str, result: Any = None, *, by: Any = None, reason: str = "") -> Job:
    """Set the job's next task aside, and go on behind it with *result* in place of its own.

    Returns the job. Raises TaskNotSkippable when that task is not the next, or runs.

    >>> skip(job, "charge", {"paid": "by hand"}, by="anna")  # doctest: +SKIP
    """
    text = encode(result, name="result", ending="Nothing was changed.")
    actor = _actor(by, reason)
    return _amend(
        job,
        lambda snapshot: repairs.skip(
            snapshot,
            actor,
            task_id,
            text,
            handler=handler_due_for(find_sequence(snapshot.sequence), "success"),
        ),
    )


def get_job(job: JobRef) -> Job:
    """The job as it is now; raises JobNotFound.

    >>> get_job("01a20c5d-3370-7000-830f-e72de635d053").status  # doctest: +SKIP
    'SUCCESSFUL'
    """
    found: Job = store().load(_job_id(job))
    return found


def wait(job: JobRef, timeout: float) -> Job:
    """Return the job when it is settled: final, and no handler of it due.

    Looks every 10 ms at first, every 500 ms later. Raises TimeoutError after *timeout* seconds, and
    JobNotFound. Not for the transaction that started the job: no worker sees it before the commit.

    >>> wait(job, timeout=5).result  # doctest: +SKIP
    {'receipt': 'r-1'}
    """
    deadline = time.monotonic() + timeout
    job_id, keeper, looks = _job_id(job), store(), 0
    while True:
        found: Job = keeper.load(job_id)
        if found.is_settled:
            return found
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"Job {job_id} is {found.status} after {timeout:g} s.")
        time.sleep(min(left, WAIT_PAUSES[min(looks // 10, len(WAIT_PAUSES) - 1)]))
        looks += 1


def _amend(job: JobRef, decide: Any) -> Job:
    keeper, job_id = store(), _job_id(job)
    change = keeper.amend(job_id, decide)
    if change.values.get("status") in DUE_AGAIN:
        hand_over(keeper, [job_id])
    found: Job = keeper.load(job_id)
    if change.settles:
        after_commit(lambda: tell_settled(job_id, found.sequence, change.settles))
    return found


def _actor(by: Any, reason: str) -> Actor:
    return Actor(by=storable(str(by or ""))[:200], reason=storable(str(reason))[:1000])


def _job_id(job: JobRef) -> UUID:
    found = getattr(job, "id", job)
    if isinstance(found, UUID):
        return found
    try:
        return UUID(str(found))
    except ValueError:
        raise JobNotFound(job) from None


astart_sequence = sync_to_async(start_sequence)
astart_many = sync_to_async(start_many)
aexecute_task = sync_to_async(execute_task)
acancel = sync_to_async(cancel)
apause = sync_to_async(pause)
aresume = sync_to_async(resume)
aretry = sync_to_async(retry)
askip = sync_to_async(skip)
aget_job = sync_to_async(get_job)
await_job = sync_to_async(wait)


class TaskExecutor:
    """The functions of this module as methods, for code that gets its executor injected.

    >>> TaskExecutor().start_sequence("fulfil_order", {"order_id": 7})  # doctest: +SKIP
    """

    start_sequence = staticmethod(start_sequence)
    start_many = staticmethod(start_many)
    execute_task = staticmethod(execute_task)
    cancel = staticmethod(cancel)
    pause = staticmethod(pause)
    resume = staticmethod(resume)
    retry = staticmethod(retry)
    skip = staticmethod(skip)
    get_job = staticmethod(get_job)
    wait = staticmethod(wait)
    astart_sequence = staticmethod(astart_sequence)
    astart_many = staticmethod(astart_many)
    aexecute_task = staticmethod(aexecute_task)
    acancel = staticmethod(acancel)
    apause = staticmethod(apause)
    aresume = staticmethod(aresume)
    aretry = staticmethod(aretry)
    askip = staticmethod(askip)
    aget_job = staticmethod(aget_job)
    await_job = staticmethod(await_job)


start_handlers.consumer = execute_task
