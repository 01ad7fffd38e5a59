"""Pieces that the verbs of `status.py` and `repairs.py` are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from json import dumps  # bound here: a task may put something else in the module
from typing import Any

from .cache.changes import Checkpoint, Claim, Failure, Moment, Report, Snapshot, TaskWrite
from .choices import AttemptOutcome, TaskState
from .conf import get_config
from .transitions import TASK

# Columns of a claim that is given up.
GIVEN_UP: Mapping[str, Any] = {"lease_until": None, "worker_id": None}


def checkpoint(claim: Claim, result: str | None, report: Report, handler: str) -> Checkpoint:
    """The common case, for which stores have a path of their own."""
    return Checkpoint(
        claim.job_id,
        claim.token,
        claim.task_id,
        claim.position,
        claim.attempt,
        result,
        report.started or 0.0,
        report.ended,
        claim.is_last,
        handler if claim.is_last else "",
    )


def at_rest(task: TaskWrite) -> TaskWrite:
    """A task that was to be retried, of a job that is cancelled."""
    if task.values["status"] == TaskState.WAITING:
        task = replace(task, values={**task.values, "status": TaskState.READY})
    return task


def ago(seconds: float | None) -> Moment | None:
    """That many seconds before now, by the store's clock."""
    return None if seconds is None else Moment(-seconds)


def resend(carried: bool) -> dict[str, Any]:  # noqa: FBT001 (a column's value)
    """A carried job that is due is announced again when nobody begins it."""
    return {"resend_at": Moment(get_config().resend_seconds), "resends": 0} if carried else {}


def task_write(claim: Claim, verb: str, values: dict[str, Any]) -> TaskWrite:
    """A write of the claim's task, as *verb* may make it."""
    return TaskWrite(claim.task_id, claim.position, TASK[verb].sources, values)


def attempt_row(task_id: str, attempt: int, failure: Failure, report: Report) -> dict[str, Any]:
    """The `TaskAttempt` of a failure."""
    return {
        "task_id": task_id,
        "attempt": attempt,
        "outcome": failure.outcome,
        "exception_class": failure.text.exception_class,
        "exception_bases": dumps(failure.text.bases),
        "message": failure.text.message,
        "traceback": failure.text.traceback,
        "started_at": ago(report.started),
    }


def lost_attempt_row(task_id: str, attempt: int, text: str, snapshot: Snapshot) -> dict[str, Any]:
    """The `TaskAttempt` of an attempt that was lost with its worker."""
    return {
        "task_id": task_id,
        "attempt": attempt,
        "outcome": AttemptOutcome.LOST,
        "exception_class": "django_tasks_seq.exceptions.WorkerLost",
        "message": text,
        "worker_name": snapshot.worker_name,
    }


def lost_text(snapshot: Snapshot) -> str:
    """Who is gone, and since when, for people."""
    name = snapshot.worker_name or "a consumer"
    seen = "" if snapshot.worker_seen is None else f", last seen {snapshot.worker_seen:.0f} s ago,"
    return f"lost with {name}{seen} whose lease has ended"
