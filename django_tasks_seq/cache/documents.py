"""A store over any handler that can get, set and delete documents.

What no handler of three methods can do is tell two processes apart that write one job at the same
moment: hence one consumer a job. Threads of one process are kept apart here.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import UUID

from .. import clock
from ..choices import DONE, FINAL, HandlerDue, JobStatus
from ..exceptions import InvalidTransition
from ..transitions import JOB, TASK
from . import rendering
from .base import BaseJobStore, BaseTaskCacheHandler, Decide, job_key
from .changes import (
    Applied,
    Change,
    Checkpoint,
    Claim,
    Due,
    Held,
    NewJob,
    Snapshot,
    TickResult,
    Write,
)
from .journal import Journal
from .records import JobRecord, TaskStatusRecord
from .rendering import Document

_RENEW_BELOW = 2 / 3  # of a lease left
# One for all wrappers: a second wrapper of a handler must not undo what the first keeps apart.
_locks = [threading.RLock() for _ in range(64)]


class _Added(threading.local):
    """Keys that this thread has set inside `together`."""

    keys: list[str] | None = None


def as_store(handler: BaseTaskCacheHandler) -> BaseJobStore:
    """Return *handler* as the engine and the executor need it; a store is returned as it is.

    >>> as_store(MyRedisHandler())  # doctest: +SKIP
    <DocumentJobStore over MyRedisHandler>
    """
    return handler if isinstance(handler, BaseJobStore) else DocumentJobStore(handler)


def idempotency_key(sequence: str, key: str) -> str:
    """Key of the document that leads from an idempotency key to its job."""
    return f"idempotency:{sequence}:{key}"


class DocumentJobStore(BaseJobStore):
    """Jobs in a third party's handler: started, run one consumer a job, repaired; not claimed from.

    Starting a job does not join the caller's transaction. Nobody rescues here: a claim whose lease
    has ended may be taken by the next consumer that is called for the job.

    Example: `DocumentJobStore(DictCacheHandler()).load(job_id).status`
    """

    def __init__(self, handler: BaseTaskCacheHandler) -> None:
        self.handler = handler
        self._journal = Journal(handler)
        self._added = _Added()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} over {type(self.handler).__name__}>"

    def get(self, key: str) -> Document | None:
        """Return the document under *key*, or None."""
        return self.handler.get(key)

    def set(self, key: str, value: Document) -> None:
        """Keep *value* under *key*."""
        self.handler.set(key, value)

    def delete(self, key: str) -> None:
        """Forget *key*; one that is not there is no error."""
        self.handler.delete(key)

    def add(self, jobs: Sequence[NewJob]) -> list[JobRecord]:
        """Add jobs at once, outside of any transaction; see `BaseJobStore.add`."""
        return [self._add(job) for job in jobs]

    @contextmanager
    def together(self) -> Iterator[None]:
        """Delete again what was added inside when the block ends with an exception."""
        self._added.keys = []
        try:
            yield
        except BaseException:
            for key in self._added.keys:
                self.delete(key)
            raise
        finally:
            self._added.keys = None

    def load(self, job_id: UUID) -> JobRecord:
        """Return the job's record; raises JobNotFound."""
        return JobRecord.from_document(self._journal.job(job_id), self)

    def claim_job(self, job_id: UUID, task_id: str, lease: float, worker_name: str) -> Claim | str:
        """Claim this job, or say why not; see `BaseJobStore.claim_job`."""
        with self._lock(job_id):
            document, now = self._journal.find(job_id), clock.unix_seconds()
            if document is None:
                return "unknown_job"
            is_handler = task_id.startswith("@")
            refusal = self._refusal(document, task_id if is_handler else "", now)
            if not (refusal or is_handler):
                refusal = self._misplaced(document, task_id)
            if refusal:
                return refusal
            document.update(worker_id=None, worker_name=worker_name)
            return self._take(document, lease, now)

    def apply(self, writes: Sequence[Write], worker_name: str = "") -> Applied:
        """Write each job's in full or not at all; see `BaseJobStore.apply`."""
        applied = Applied()
        for write in writes:
            with self._lock(write.job_id):
                requested = self._apply(write, worker_name)
            if requested is None:
                applied.lost.add(write.job_id)
            else:
                applied.done[write.job_id] = requested
        return applied

    def amend(self, job_id: UUID, decide: Decide) -> Change:
        """Let *decide* compute a change and write it, nothing between; see `BaseJobStore.amend`."""
        with self._lock(job_id):
            return self._amend(self._journal.job(job_id), decide)

    def results(self, job_id: UUID) -> dict[str, str | None]:
        """Results (text) of tasks that are done, by task id in order; raises JobNotFound."""
        tasks = self._journal.tasks(self._journal.job(job_id))
        return {task["task_id"]: task["result"] for task in tasks if task["status"] in DONE}

    def failure(self, job_id: UUID) -> dict[str, Any]:
        """Facts of the failure that ended this job; raises JobNotFound."""
        return rendering.failure(self._journal.job(job_id))

    def due(self, job_ids: Iterable[UUID]) -> list[Due]:
        """Of these jobs, those that are carried and due now."""
        documents = map(self._journal.find, job_ids)
        found = (self._due(document) for document in documents if document is not None)
        return [due for due in found if due is not None]

    def tick(self, held: Sequence[Held], lease: float) -> TickResult:
        """Renew leases of which a third has passed, and read what people requested."""
        result = TickResult()
        for one in held:
            with self._lock(one.job_id):
                requested = self._renew(one, lease, clock.unix_seconds())
            if requested is None:
                result.lost.add(one.job_id)
            else:
                result.requested[one.job_id] = requested
        return result

    def task_statuses(self, job_id: UUID) -> list[TaskStatusRecord]:
        """Task statuses of a job, in order; raises JobNotFound."""
        tasks = self._journal.tasks(self._journal.job(job_id))
        return [TaskStatusRecord.from_document(task) for task in tasks]

    def _lock(self, of: object) -> AbstractContextManager[Any]:
        return _locks[hash(of) % len(_locks)]

    # --- starting ------------------------------------------------------------------------------

    def _add(self, job: NewJob) -> JobRecord:
        if job.idempotency_key is None:
            return self._insert(job)
        key = idempotency_key(job.sequence, job.idempotency_key)
        with self._lock(key):
            first = self._started_with(key)
            if first is not None:
                return first
            # In this order a crash leaves a key that leads nowhere, which counts as none.
            self._set_new(key, {"job_id": str(job.id)})
            return self._insert(job)

    def _started_with(self, key: str) -> JobRecord | None:
        known = self.get(key)
        document = self._journal.find(UUID(known["job_id"])) if known else None
        if document is None:
            return None
        record = JobRecord.from_document(document, self)
        record.was_started = False
        return record

    def _insert(self, job: NewJob) -> JobRecord:
        document = rendering.new_job(job, clock.unix_seconds())
        self._set_new(job_key(job.id), document)
        return JobRecord.from_document(document, self)

    def _set_new(self, key: str, document: Document) -> None:
        if self._added.keys is not None:
            self._added.keys.append(key)
        self.set(key, document)

    # --- claiming ------------------------------------------------------------------------------

    def _refusal(self, document: Document, handler: str, now: float) -> str:
        """Why its next task, or this handler, cannot begin now, as a word; nothing when it can."""
        status = document["status"]
        due = rendering.has_come(document["run_after"], now)
        free = rendering.has_come(document["lease_until"], now)
        if handler:
            if rendering.handler_task_id(document) != handler:
                return "done" if status in FINAL else "not_next"
            return "" if due and free else "not_due"
        if status == JobStatus.RUNNING:
            return "" if free and not self.supports_claims else "running"
        if status in FINAL or status == JobStatus.PAUSED:
            return "paused" if status == JobStatus.PAUSED else "final"
        return "" if due else "not_due"

    def _misplaced(self, document: Document, task_id: str) -> str:
        plan, (position, _, _) = rendering.plan(document), self._journal.standing(document)
        if task_id in plan[:position]:
            return "done"
        return "" if plan[position : position + 1] == (task_id,) else "not_next"

    def _take(self, document: Document, lease: float, now: float) -> Claim:
        # Only where nobody rescues can a running job get here: its consumer has gone.
        if document["status"] == JobStatus.RUNNING:
            document["suspect"] = True
        rendering.take(document, lease, now)
        if document["handler_due"] == HandlerDue.SUCCESS:
            claim = rendering.claim(document, 0, document["result"], None, now)
        else:
            # A job that has failed stands before the task that failed.
            position, payload, row = self._journal.standing(document)
            document["position"] = position
            claim = rendering.claim(document, position, payload, row, now)
            if document["attempts"]:
                tasks = self._journal.tasks(document)[position + 1 :]
                claim.later = {task["task_id"]: rendering.task_row(task) for task in tasks}
        self._journal.write(document)
        return claim

    def _due(self, document: Document) -> Due | None:
        handler = rendering.handler_task_id(document)
        if not document["carried"] or self._refusal(document, handler, clock.unix_seconds()):
            return None
        task_id, payload = handler, document["result"]
        if not handler:
            position, payload, _ = self._journal.standing(document)
            task_id = rendering.plan(document)[position]
        return Due(UUID(document["id"]), document["sequence"], task_id, payload)

    def _renew(self, held: Held, lease: float, now: float) -> str | None:
        document = self._journal.find(held.job_id)
        if document is None or document["claim_token"] != held.token:
            return None
        if document["status"] != JobStatus.RUNNING and not document["handler_due"]:
            return None
        left = rendering.seconds_until(document["lease_until"], now) or 0.0
        if left < lease * _RENEW_BELOW:
            document["lease_until"] = rendering.iso(now + lease)
            self._journal.write(document)
        return str(document["requested"])

    def _snapshot(self, document: Document, now: float) -> Snapshot:
        return rendering.snapshot(document, self._journal.tasks(document), now)

    # --- writing -------------------------------------------------------------------------------

    def _apply(self, write: Write, worker_name: str) -> str | None:
        """What is requested of the job, or None when the claim is not the writer's any more."""
        document, now = self._journal.find(write.job_id), clock.unix_seconds()
        checkpoint_sources = JOB["complete_task"].sources
        sources = write.sources if isinstance(write, Change) else checkpoint_sources
        if document is None or not rendering.holds(document, sources, write.token):
            return None
        requested = str(document["requested"])
        if isinstance(write, Change):
            self._change(document, write.heeding(requested), worker_name, now)
        else:
            self._checkpoint(document, write, worker_name, now)
        return requested

    def _checkpoint(
        self, document: Document, write: Checkpoint, worker_name: str, now: float
    ) -> None:
        task = self._journal.task_or_new(document, write.task_id, write.position)
        # One that is done already is left alone: a write whose answer was lost may be sent again.
        if task["status"] in TASK["complete_task"].sources:
            rendering.complete_task(task, write, worker_name, now)
        if write.ends:
            rendering.complete_job(document, write, now)
            self._journal.write(document, [task])
        else:
            self._journal.write_task(document, task)

    def _change(self, document: Document, change: Change, worker_name: str, now: float) -> None:
        tasks = []
        for write in change.tasks:
            task = self._journal.task_or_new(document, write.task_id, write.position)
            if task["status"] in write.sources:
                rendering.change_task(task, write, worker_name, now)
                tasks.append(task)
        rendering.change_job(document, change, worker_name, now)
        self._journal.write(document, tasks)

    def _amend(self, document: Document, decide: Decide) -> Change:
        now = clock.unix_seconds()
        change = decide(self._snapshot(document, now))
        if not rendering.holds(document, change.sources, change.token):
            status, job_id = document["status"], document["id"]
            text = f"Job {job_id} is {status}, which {change.verb!r} does not allow."
            raise InvalidTransition(f"{text} Nothing was changed.", job=job_id, status=status)
        self._change(document, change, "", now)
        return change
