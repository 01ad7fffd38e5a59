"""What a cache handler must do, and what the engine asks of a store."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any
from uuid import UUID

from ..exceptions import StoreNotSupported
from .changes import (
    Applied,
    Change,
    Claim,
    Due,
    Held,
    NewJob,
    Outlook,
    Snapshot,
    TickResult,
    WorkerInfo,
    Write,
)
from .retention import Prunable, PrunableCount, Pruned

Decide = Callable[[Snapshot], Change]

# Seconds. Below the shortest, a busy machine would be taken for a broken one.
LONGEST_DEADLINE, SHORTEST_DEADLINE = 10.0, 2.0


def job_key(job_id: UUID) -> str:
    """Key of a job's document: `job:<uuid>`."""
    return f"job:{job_id}"


def task_key(job_id: UUID, task_id: str) -> str:
    """Key of a task status's document: `job:<uuid>:<task_id>`."""
    return f"job:{job_id}:{task_id}"


def deadline(lease: float) -> float:
    """Seconds that a statement may take, under leases of so many.

    A lease is renewed when a third of it has passed: a statement that hangs leaves time for that.

    >>> deadline(60.0), deadline(15.0), deadline(1.0)
    (10.0, 5.0, 2.0)
    """
    return max(SHORTEST_DEADLINE, min(LONGEST_DEADLINE, lease / 3))


class BaseTaskCacheHandler(ABC):
    """Keeps jobs and task statuses as JSON documents under keys.

    Three methods are enough: jobs kept in such a handler run under the inline, signal or a carried
    start handler, one consumer a job. Keys are `job:<uuid>` and `job:<uuid>:<task_id>`; values are
    dicts of JSON data.

        class DictCacheHandler(BaseTaskCacheHandler):
            def __init__(self): self.documents = {}
            def get(self, key): return self.documents.get(key)
            def set(self, key, value): self.documents[key] = value
            def delete(self, key): self.documents.pop(key, None)
    """

    #: Whether workers can claim jobs from it (`BaseJobStore.claim` and what goes with it).
    supports_claims: bool = False
    #: Whether `atomic=True` tasks can commit together with their outcome.
    supports_atomic_tasks: bool = False
    #: Whether old jobs can be deleted from it by age (`BaseJobStore.prune` and what goes with it).
    supports_pruning: bool = False
    #: Whether it keeps jobs in this app's tables.
    needs_tables: bool = False

    @abstractmethod
    def get(self, key: str) -> dict[str, Any] | None:
        """Return the document under *key*, or None."""

    @abstractmethod
    def set(self, key: str, value: dict[str, Any]) -> None:
        """Keep *value* under *key*."""

    @abstractmethod
    def delete(self, key: str) -> None:
        """Forget *key*; one that is not there is no error."""


class BaseJobStore(BaseTaskCacheHandler):
    """A cache handler that the executor and the engine can work with.

    Every write of a status is a `Checkpoint` or a `Change`: computed by `TaskStatusManager`, applied
    here, guarded by old status and claim token. What a store cannot do raises `StoreNotSupported`.
    """

    # --- what every store does -----------------------------------------------------------------

    @abstractmethod
    def add(self, jobs: Sequence[NewJob]) -> list[Any]:
        """Add jobs in the caller's transaction; return a Job or JobRecord for each, in order.

        Where (sequence, idempotency_key) exists, the existing one is returned, `was_started` false.
        """

    def together(self) -> AbstractContextManager[Any]:
        """What is added inside is added as a whole or not at all, where the store can do that."""
        return nullcontext()

    def watching(self, seconds: float) -> AbstractContextManager[None]:
        """Within, each statement of this thread ends in so many seconds, if need be by an error."""
        return nullcontext()

    def bookkeeping(self, seconds: float) -> AbstractContextManager[None]:
        """`watching`, on a thread that asks its databases nothing else: its connection is our own."""
        return nullcontext()

    @abstractmethod
    def load(self, job_id: UUID) -> Any:
        """Return the Job or JobRecord; raises JobNotFound."""

    @abstractmethod
    def claim_job(self, job_id: UUID, task_id: str, lease: float, worker_name: str) -> Claim | str:
        """Claim this job if it is due and *task_id* is next; else say why not, as a word.

        *task_id* may be "@success" or "@error" for a handler that is due.
        """

    @abstractmethod
    def apply(self, writes: Sequence[Write], worker_name: str = "") -> Applied:
        """Write each in full or not at all; one job appears once. Never waits for a row's lock."""

    def apply_inside(self, write: Write, worker_name: str) -> Applied:
        """Write in the caller's transaction, waiting for the job: the last thing an atomic task does.

        What the database refuses is raised, and the caller rolls back.
        """
        raise StoreNotSupported(type(self).__name__, "commit a task together with its outcome")

    def atomic_limit(self) -> float | None:
        """Seconds that an atomic task may take, where it holds up everybody else; None for no limit."""
        return None

    @abstractmethod
    def amend(self, job_id: UUID, decide: Decide) -> Change:
        """Lock the job (waiting), let *decide* compute from what is there, and write that."""

    @abstractmethod
    def results(self, job_id: UUID) -> dict[str, str | None]:
        """Results (text) of tasks that are done, by task id in order."""

    @abstractmethod
    def failure(self, job_id: UUID) -> dict[str, Any]:
        """Facts of the failure that ended this job: the fields of `TaskFailed`."""

    @abstractmethod
    def due(self, job_ids: Iterable[UUID]) -> list[Due]:
        """Of these jobs, those that are carried and due now, with their next task and its payload."""

    @abstractmethod
    def tick(self, held: Sequence[Held], lease: float) -> TickResult:
        """Renew the leases of jobs in hand where a third has passed, and read what people requested."""

    # --- what a store with claims does ---------------------------------------------------------

    def claim(
        self,
        queues: Sequence[str],
        limit: int,
        lease: float,
        worker: Any,
        most_bytes: int | None = None,
    ) -> list[Claim]:
        """Claim up to *limit* due jobs of *queues* (empty: all), most urgent first.

        Once their payloads come to *most_bytes* no further one is claimed; the first always is.
        """
        raise StoreNotSupported(type(self).__name__, "claim jobs")

    def claim_handlers(
        self, queues: Sequence[str], limit: int, lease: float, worker: Any
    ) -> list[Claim]:
        """Claim final jobs with a handler due."""
        raise StoreNotSupported(type(self).__name__, "claim handlers")

    def look(self, queues: Sequence[str]) -> Outlook:
        """What is there to do, for a worker of *queues* (empty: all)."""
        raise StoreNotSupported(type(self).__name__, "look for due jobs")

    def listener(self) -> Any:
        """Something with `fileno()` and `heard()` that wakes idle workers; None when polling must do."""
        return None

    def promote(self, limit: int = 500) -> list[UUID]:
        """Make WAITING jobs that are due READY; return those that are carried."""
        raise StoreNotSupported(type(self).__name__, "promote waiting jobs")

    def rescue(self, decide: Decide, limit: int = 100) -> list[Change]:
        """Take jobs whose lease has ended from workers that are gone."""
        raise StoreNotSupported(type(self).__name__, "rescue jobs")

    def sweep(self, resend: float, limit: int = 100) -> list[UUID]:
        """Return carried jobs that are due, not begun, and whose `handle_start` was *resend* s ago."""
        raise StoreNotSupported(type(self).__name__, "sweep carried jobs")

    def enter(self, worker: WorkerInfo) -> int | None:
        """Note that a worker began; return the id that its claims carry."""
        return None

    def beat(self, worker_id: int | None, *, draining: bool) -> None:
        """Note that this worker lives."""

    def leave(self, worker_id: int | None) -> None:
        """Note that this worker ended in order."""

    def next_due(self, queues: Sequence[str] = ()) -> float | None:
        """Seconds until something may be due: a waiting job, a handler, a lease's end; or None."""
        raise StoreNotSupported(type(self).__name__, "look ahead")

    # --- what a store that can be pruned does --------------------------------------------------

    def prune(
        self, what: Prunable, limit: int, *, after: Any = None, seconds: float | None = 0.08
    ) -> Pruned:
        """Delete up to *limit* jobs with all their rows, the oldest first; nobody is waited for.

        *after* is where the last batch ended (`Pruned.reached`). One that would hold locks for more
        than *seconds* is undone; None lets it take its time, for a job that is large by itself.
        """
        raise StoreNotSupported(type(self).__name__, "delete jobs by age")

    def count_prunable(self, what: Prunable) -> PrunableCount:
        """How much `prune` would delete in all, if nobody retried a job before."""
        raise StoreNotSupported(type(self).__name__, "count jobs by age")

    def prune_workers(self, age: float, limit: int = 1000) -> int:
        """Forget workers not seen for *age* seconds, and for a day; how many there were."""
        return 0
