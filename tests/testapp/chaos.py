"""What the chaos tests need inside worker processes: sequences, and switches that only they throw.

`TASKS_SEQ_TEST_PATCHES` names functions of the tests (dotted paths, with commas) that are called when
the app is ready; no production code knows of it.
"""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING, Any

from django_tasks_seq import TaskSpec
from tests.testapp.hard_sequences import (
    LEDGER,
    atomic_link,
    chain_link,
    declare,
    note,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from uuid import UUID

    from django_tasks_seq import TaskContext
    from django_tasks_seq.cache.changes import Applied, Checkpoint, Held, TickResult, Write
    from django_tasks_seq.cache.model.sql import Database

PATCHES = "TASKS_SEQ_TEST_PATCHES"
FENCE_OFF = "tests.testapp.chaos.fence_off"
WATCH_WRITES = "tests.testapp.chaos.watch_writes"


# --- sequences -------------------------------------------------------------------------------------


def die(payload: dict[str, Any], context: TaskContext) -> None:
    """End the process as `payload["how"]` says, in each attempt."""
    note("call", context)
    if payload["how"] == "exit":
        os._exit(3)
    os.kill(os.getpid(), getattr(signal, payload["how"]))


def hog(payload: dict[str, Any], context: TaskContext) -> int:
    """Take memory until there is none."""
    note("call", context)
    taken: list[bytearray] = []
    while True:
        taken.append(bytearray(payload["bytes"]))


declare(
    "chain3",
    ("first", chain_link),
    TaskSpec("second", atomic_link, atomic=True),
    ("third", chain_link),
)
declare("deadly", ("dies", die), ("after", chain_link))
declare("hog", ("hogs", hog), ("after", chain_link))


# --- switches --------------------------------------------------------------------------------------


def fence_off() -> None:
    """Write outcomes by the job's id alone, as many queues do, and never look whether a claim is lost."""
    from django_tasks_seq.cache.model import group_commit, upkeep

    look = upkeep.tick

    def tick(db: Database, held: Sequence[Held], lease: float) -> TickResult:
        result = look(db, held, lease)
        result.lost.clear()
        return result

    group_commit.commit = _commit_by_id
    group_commit.commit_inside = _commit_inside_by_id
    upkeep.tick = tick


def _commit_by_id(
    db: Database, checkpoints: Sequence[Checkpoint], worker_name: str
) -> dict[UUID, str]:
    from django_tasks_seq.cache.model import group_commit

    with db.atomic():
        group_commit._write_tasks(db, checkpoints, worker_name)
        for one in checkpoints:
            if one.ends:
                _end_by_id(db, one)
    return {one.job_id: "" for one in checkpoints}


def _commit_inside_by_id(db: Database, checkpoint: Checkpoint, worker_name: str) -> str:
    _commit_by_id(db, [checkpoint], worker_name)
    return ""


def _end_by_id(db: Database, checkpoint: Checkpoint) -> None:
    from django_tasks_seq.cache.model.sql import JOB

    db.execute(
        f"UPDATE {JOB} SET status = 'SUCCESSFUL', result = %s, finished_at = {db.now()},"
        " worker_id = NULL, lease_until = NULL WHERE id = %s",
        [checkpoint.result, db.uuid(checkpoint.job_id)],
    )


def watch_writes() -> None:
    """Note in the ledger what became of each write of an outcome: `wrote` or `refused`, with its token."""
    from django_tasks_seq.cache.model import ModelTaskCacheHandler as Store

    apply, apply_inside = Store.apply, Store.apply_inside

    def watched_apply(self: Store, writes_: Sequence[Write], worker_name: str = "") -> Applied:
        applied = apply(self, writes_, worker_name)
        _note_writes(writes_, applied)
        return applied

    def watched_apply_inside(self: Store, write: Write, worker_name: str) -> Applied:
        applied = apply_inside(self, write, worker_name)
        _note_writes([write], applied)
        return applied

    patches = {"apply": watched_apply, "apply_inside": watched_apply_inside}
    for name, patch in patches.items():
        setattr(Store, name, patch)


def _note_writes(writes: Iterable[Write], applied: Applied) -> None:
    lines = []
    for write in writes:
        what = getattr(write, "task_id", "") or f"({getattr(write, 'verb', '')})"
        if write.job_id in applied.lost:
            lines.append(f"refused {write.job_id} {what} {write.token} {os.getpid()}\n")
        elif write.job_id in applied.done and not what.startswith("("):
            lines.append(f"wrote {write.job_id} {what} {write.token} {os.getpid()}\n")
    if lines:
        fd = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, "".join(lines).encode())
        os.close(fd)
