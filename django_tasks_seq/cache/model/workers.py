"""Rows of workers: who lives, since when, and who ended in order."""

from __future__ import annotations

from ...clock import Now
from ...models import Worker
from ..changes import WorkerInfo
from .sql import WORKER, Database


def enter(db: Database, worker: WorkerInfo) -> int:
    """A row for this life of the worker; its id is new for each boot, whatever its name."""
    row = Worker.objects.using(db.alias).create(
        name=worker.name,
        hostname=worker.hostname,
        pid=worker.pid,
        queues=", ".join(worker.queues)[:1000],
        concurrency=worker.concurrency,
        started_at=Now(),
        heartbeat_at=Now(),
    )
    return int(row.pk)


def beat(db: Database, worker_id: int, *, draining: bool) -> None:
    """Note that it lives; a row that somebody holds is written at the next beat."""
    mine = f"SELECT id FROM {WORKER} WHERE id = %s{db.skip_locked}"
    db.update(WORKER, f"heartbeat_at = {db.now()}, draining = %s", [draining], mine, [worker_id])


def leave(db: Database, worker_id: int) -> None:
    """Note that it ended in order."""
    db.execute(
        f"UPDATE {WORKER} SET heartbeat_at = {db.now()}, stopped_at = {db.now()} WHERE id = %s",
        [worker_id],
    )
