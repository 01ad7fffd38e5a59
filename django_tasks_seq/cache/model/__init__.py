"""Jobs as rows of the site's own database: the default cache handler, and a store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Any
from uuid import UUID

from django.core.exceptions import ObjectDoesNotExist
from django.db import connections, transaction

from ...choices import AttemptOutcome, JobStatus
from ...conf import get_config
from ...exceptions import JobNotFound
from ...models import Job, TaskAttempt
from ..base import BaseJobStore, Decide
from ..changes import (
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
from ..retention import Prunable, PrunableCount, Pruned
from . import adding, claims, deadlines, documents, notifying, pruning, upkeep, workers, writes
from .frontier import Frontier
from .listening import Listener
from .mariadb import MariaDB
from .sql import Database


class ModelTaskCacheHandler(BaseJobStore):
    """Keeps jobs in `Job`, `TaskStatus`, `TaskAttempt` and `JobEvent` rows of one database.

    *alias* is the database; without it the one that `TASKS_SEQ["DATABASE"]` names.

    >>> ModelTaskCacheHandler().get(f"job:{job.id}")["status"]  # doctest: +SKIP
    'SUCCESSFUL'
    """

    supports_claims = True
    supports_atomic_tasks = True
    supports_pruning = True
    needs_tables = True

    def __init__(self, alias: str | None = None) -> None:
        self._alias = alias
        self._frontiers: dict[int, Frontier] = {}

    @property
    def db(self) -> Database:
        """The jobs' database, on this thread's connection."""
        alias = self._alias or get_config().database
        return MariaDB(alias) if connections[alias].vendor == "mysql" else Database(alias)

    # --- documents ---------------------------------------------------------------------------

    def get(self, key: str) -> dict[str, Any] | None:
        """The row behind *key* as a document, or None."""
        return documents.get(self.db, key)

    def set(self, key: str, value: dict[str, Any]) -> None:
        """Write *value* over the row behind *key*; a status only as the transitions table allows."""
        db = self.db
        db.again(lambda: documents.set(db, key, value))

    def delete(self, key: str) -> None:
        """Delete the row behind *key*, and with a job all its rows."""
        db = self.db
        db.again(lambda: documents.delete(db, key))

    # --- what every store does -----------------------------------------------------------------

    def add(self, jobs: Sequence[NewJob]) -> list[Any]:
        return list(adding.add(self.db, jobs))

    def together(self) -> AbstractContextManager[Any]:
        return transaction.atomic(using=self.db.alias)

    def watching(self, seconds: float) -> AbstractContextManager[None]:
        return deadlines.watching(self.db.alias, seconds)

    def bookkeeping(self, seconds: float) -> AbstractContextManager[None]:
        return deadlines.bookkeeping(self.db.alias, seconds)

    def load(self, job_id: UUID) -> Job:
        try:
            with self.db.watched():
                return Job.objects.using(self.db.alias).get(pk=job_id)
        except ObjectDoesNotExist:
            raise JobNotFound(str(job_id)) from None

    def claim_job(self, job_id: UUID, task_id: str, lease: float, worker_name: str) -> Claim | str:
        db = self.db
        return db.again(lambda: claims.claim_job(db, job_id, task_id, lease))

    def apply(self, writes_: Sequence[Write], worker_name: str = "") -> Applied:
        db = self.db
        return db.again(lambda: writes.apply(db, writes_, worker_name))

    def apply_inside(self, write: Write, worker_name: str) -> Applied:
        return writes.apply_inside(self.db, write, worker_name)

    def atomic_limit(self) -> float | None:
        # On SQLite it holds the only write lock, and nothing can renew a lease meanwhile.
        return get_config().lease_seconds / 3 if self.db.vendor == "sqlite" else None

    def amend(self, job_id: UUID, decide: Decide) -> Change:
        db = self.db
        return db.again(lambda: self._amend(db, job_id, decide))

    @staticmethod
    def _amend(db: Database, job_id: UUID, decide: Decide) -> Change:
        with db.atomic():
            snapshots = upkeep.read_snapshots(db, f"id = %s{db.wait_lock}", [db.uuid(job_id)])
            if not snapshots:
                raise JobNotFound(str(job_id))
            change = decide(_with_results(db, snapshots[0]))
            held = {s.job_id: writes.Fenced.of(s) for s in snapshots}
            writes.write_changes(db, [change], held, "")
            if change.values.get("status") == JobStatus.READY and not snapshots[0].carried:
                notifying.notify(db)
        return change

    def results(self, job_id: UUID) -> dict[str, str | None]:
        return documents.results(self.db, job_id)

    def failure(self, job_id: UUID) -> dict[str, Any]:
        row = (
            TaskAttempt.objects.using(self.db.alias)
            .filter(job_id=job_id)
            .exclude(outcome=AttemptOutcome.SUPERSEDED)
            .exclude(task_id__startswith="@")
            .order_by("-id")
            .values(
                "task_id", "attempt", "exception_class", "exception_bases", "message", "traceback"
            )
            .first()
        )
        return dict(row) if row else {}

    def due(self, job_ids: Iterable[UUID]) -> list[Due]:
        return upkeep.due(self.db, job_ids)

    def tick(self, held: Sequence[Held], lease: float) -> TickResult:
        return upkeep.tick(self.db, held, lease)

    # --- what a store with claims does ---------------------------------------------------------

    def claim(
        self,
        queues: Sequence[str],
        limit: int,
        lease: float,
        worker: Any,
        most_bytes: int | None = None,
    ) -> list[Claim]:
        db = self.db
        # Whom nobody knows has no frontier that would last.
        known = Frontier() if worker is None else self._frontiers.setdefault(worker, Frontier())
        wanted = claims.Wanted(limit, lease, worker, most_bytes)
        return claims.claim(db, known, queues, wanted)

    def claim_handlers(
        self, queues: Sequence[str], limit: int, lease: float, worker: Any
    ) -> list[Claim]:
        return claims.claim_handlers(self.db, queues, limit, lease, worker)

    def look(self, queues: Sequence[str]) -> Outlook:
        return upkeep.look(self.db, queues)

    def promote(self, limit: int = 500) -> list[UUID]:
        return upkeep.promote(self.db, limit)

    def rescue(self, decide: Decide, limit: int = 100) -> list[Change]:
        db = self.db
        return db.again(lambda: upkeep.rescue(db, decide, limit))

    def sweep(self, resend: float, limit: int = 100) -> list[UUID]:
        return upkeep.sweep(self.db, resend, limit)

    def enter(self, worker: WorkerInfo) -> int | None:
        with self.db.watched():
            return workers.enter(self.db, worker)

    def beat(self, worker_id: int | None, *, draining: bool) -> None:
        if worker_id is not None:
            workers.beat(self.db, worker_id, draining=draining)

    def leave(self, worker_id: int | None) -> None:
        if worker_id is not None:
            self._frontiers.pop(worker_id, None)
            workers.leave(self.db, worker_id)

    def listener(self) -> Listener | None:
        db = self.db
        if db.vendor != "postgresql" or get_config().notify is False:
            return None
        return Listener(db)

    def next_due(self, queues: Sequence[str] = ()) -> float | None:
        return upkeep.next_due(self.db, queues)

    # --- what a store that can be pruned does --------------------------------------------------

    def prune(
        self, what: Prunable, limit: int, *, after: Any = None, seconds: float | None = 0.08
    ) -> Pruned:
        return pruning.prune(self.db, what, limit, after, seconds)

    def count_prunable(self, what: Prunable) -> PrunableCount:
        return pruning.count(self.db, what)

    def prune_workers(self, age: float, limit: int = 1000) -> int:
        return pruning.prune_workers(self.db, age, limit)


def _with_results(db: Database, snapshot: Snapshot) -> Snapshot:
    """Results are read for people's verbs alone, which may set them aside."""
    for task_id, text in documents.results(db, snapshot.job_id).items():
        snapshot.rows[task_id].result = text
    return snapshot
