"""What people's verbs write: computed from a snapshot that was read under the job row's lock.

What the transitions table forbids raises an error that says why; nothing is changed then.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .cache.changes import NOW, Change, Snapshot, TaskRow, TaskWrite
from .choices import AttemptOutcome, JobStatus, Requested, TaskState
from .exceptions import (
    InvalidTransition,
    JobNotCancellable,
    JobNotPausable,
    JobNotResumable,
    JobNotRetryable,
    TaskNotSkippable,
    UnknownTask,
)
from .ids import short_id
from .registry import find_sequence
from .status_parts import GIVEN_UP, resend
from .transitions import JOB, TASK

CLEARED: dict[str, Any] = {
    "status": JobStatus.READY,
    "run_after": NOW,
    "finished_at": None,
    "error": "",
    "error_result": None,
    "handler_due": "",
    "handler_error": "",
    "handler_attempts": 0,
    "requested": "",
    "result": None,
    "suspect": False,
    "unknown_since": None,
    "resends": 0,
    "resend_at": None,
    **GIVEN_UP,
}


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does it, and why."""

    by: str = ""
    reason: str = ""

    def event(self, kind: str, before: str, after: str, **data: Any) -> dict[str, Any]:
        """The `JobEvent` of it."""
        return {
            "kind": kind,
            "by": self.by,
            "reason": self.reason,
            "status_before": before,
            "status_after": after,
            "data": json.dumps(data) if data else None,
        }


def cancel(job: Snapshot, actor: Actor, *, force: bool = False) -> Change:
    """Not RUNNING, or *force*: at once; RUNNING: ask."""
    _allowed("cancel", job, JobNotCancellable, "cancelled")
    if job.status == JobStatus.RUNNING and not force:
        return _request(job, actor, Requested.CANCEL)
    values = {"finished_at": NOW, "requested": "", "resend_at": None, **GIVEN_UP}
    values["status"] = JobStatus.CANCELLED
    kind = "force_cancel" if job.status == JobStatus.RUNNING else "cancel"
    return change_of(
        job,
        "cancel",
        values,
        actor.event(kind, job.status, JobStatus.CANCELLED),
        _at_rest(job),
    )


def pause(job: Snapshot, actor: Actor) -> Change:
    """Not RUNNING: at once; RUNNING: ask."""
    if job.requested == Requested.CANCEL:
        text = f"{_name(job)} is being cancelled and cannot be paused; nothing was changed."
        raise JobNotPausable(text, job=job.job_id, status=job.status)
    if job.status == JobStatus.RUNNING:
        return _request(job, actor, Requested.PAUSE)
    _allowed("pause", job, JobNotPausable, "paused")
    values = {"status": JobStatus.PAUSED, "requested": "", "resend_at": None}
    return change_of(job, "pause", values, actor.event("pause", job.status, JobStatus.PAUSED))


def resume(job: Snapshot, actor: Actor) -> Change:
    """Let a paused job go on, or withdraw a pause that was asked of a running one."""
    if job.status == JobStatus.RUNNING and job.requested == Requested.PAUSE:
        event = actor.event("resume", job.status, job.status)
        return change_of(job, "request", {"requested": ""}, event)
    _allowed("resume", job, JobNotResumable, "resumed")
    status = JobStatus.WAITING if job.due_in > 0 else JobStatus.READY
    values: dict[str, Any] = {"status": status, "requested": ""}
    if status == JobStatus.READY:
        values |= resend(job.carried)
    return change_of(job, "resume", values, actor.event("resume", job.status, status))


def retry(job: Snapshot, actor: Actor) -> Change:
    """Go on from the failed task, with new attempts; earlier results are kept."""
    if job.status == JobStatus.SUCCESSFUL:
        raise JobNotRetryable(
            f"{_name(job)} has succeeded. Give from_task= to run it again from there;"
            " nothing was changed.",
            job=job.job_id,
            status=job.status,
        )
    _allowed("retry", job, JobNotRetryable, "retried")
    row = job.next_row
    tasks = () if row is None else (renewed(row, "retry"),)
    event = actor.event("retry", job.status, JobStatus.READY, task_id=next_id(job))
    return change_of(job, "retry", CLEARED | resend(job.carried), event, tasks)


def retry_from(job: Snapshot, actor: Actor, task_id: str) -> Change:
    """Run again from *task_id*; results from there on go to the attempts' history."""
    _allowed("retry_from", job, JobNotRetryable, "retried")
    position = _position(job, task_id)
    if position > job.next_position:
        raise JobNotRetryable(
            f"{_name(job)} cannot go on from {task_id!r}: {next_id(job)!r} before it has not"
            " succeeded. Retry from there, or skip it; nothing was changed.",
            job=job.job_id,
            status=job.status,
        )
    event = actor.event("retry", job.status, JobStatus.READY, task_id=task_id)
    return again(job, "retry_from", position, event)


def skip(job: Snapshot, actor: Actor, task_id: str, result: str | None, *, handler: str) -> Change:
    """Set the next task aside and go on behind it with *result* (JSON text)."""
    _allowed("skip", job, TaskNotSkippable, "changed by skip")
    position = _position(job, task_id)
    if position != job.next_position:
        raise TaskNotSkippable(
            f"{_name(job)} stands before {next_id(job)!r}, so {task_id!r} cannot be skipped now;"
            " nothing was changed.",
            job=job.job_id,
            status=job.status,
        )
    if job.handler and (job.lease_left or 0.0) > 0:
        # It ends under the token that the job has now, and would take the next handler with it.
        text = f"{_name(job)}: its {job.handler} handler runs. Wait for it; nothing was changed."
        raise TaskNotSkippable(text, job=job.job_id, status=job.status)
    values: dict[str, Any] = {"error": "", "suspect": False, "unknown_since": None, "requested": ""}
    if position + 1 == len(job.plan):
        values |= {"error_result": None, "handler_error": ""}
        values |= {"status": JobStatus.SUCCESSFUL, "finished_at": NOW, "result": result, **GIVEN_UP}
        values |= {
            "handler_due": handler,
            "handler_attempts": 0,
            "run_after": NOW,
            "resend_at": None,
        }
        values |= resend(job.carried) if handler else {}
    elif job.status == JobStatus.PAUSED:
        values["status"] = JobStatus.PAUSED
    else:
        # What was asked of it while it ran, and its worker did not live to hear, is still to be done.
        values = CLEARED | values | {"status": JobStatus.READY, "requested": job.requested}
        values |= resend(job.carried)
    planned = job.plan[position]
    row = job.rows.get(planned) or TaskRow(planned, position, TaskState.READY)
    write = {"status": TaskState.SKIPPED, "result": result, "finished_at": NOW, "progress": None}
    task = TaskWrite(row.task_id, position, TASK["skip"].sources, write)
    event = actor.event("skip", job.status, values["status"], task_id=task_id)
    return change_of(job, "skip", values, event, (task,))


# --- parts


def again(job: Snapshot, verb: str, position: int, event: dict[str, Any]) -> Change:
    """READY from *position* on; what had succeeded from there is history."""
    rows = [row for t in job.plan[position:] if (row := job.rows.get(t)) is not None]
    history = tuple(
        {
            "task_id": row.task_id,
            "attempt": row.attempts,
            "outcome": AttemptOutcome.SUPERSEDED,
            "result": row.result,
        }
        for row in rows
        if row.finished
    )
    change = change_of(
        job, verb, CLEARED | resend(job.carried), event, tuple(renewed(r, verb) for r in rows)
    )
    for task in change.tasks:
        task.values |= {"payload": None, "cursor": None, "result": None}
    change.attempts = history
    return change


def renewed(row: TaskRow, verb: str) -> TaskWrite:
    """A task with a new budget; the number of its next attempt goes on rising."""
    values = {
        "status": TaskState.READY,
        "attempts": row.attempts,
        "budget_start": row.attempts,
        "crashes": 0,
        "error": "",
        "progress": None,
        "started_at": None,
        "finished_at": None,
    }
    return TaskWrite(row.task_id, row.position, TASK[verb].sources, values)


def _at_rest(job: Snapshot) -> tuple[TaskWrite, ...]:
    row = job.next_row
    if row is None or row.status not in (TaskState.RUNNING, TaskState.WAITING):
        return ()
    values = {"status": TaskState.READY, "attempts": row.attempts}
    return (TaskWrite(row.task_id, row.position, TASK["release"].sources, values),)


def _request(job: Snapshot, actor: Actor, requested: Requested) -> Change:
    event = actor.event(f"{requested}_requested", job.status, job.status)
    return change_of(job, "request", {"requested": requested.value}, event)


def change_of(
    job: Snapshot,
    verb: str,
    values: dict[str, Any],
    event: dict[str, Any],
    tasks: Sequence[TaskWrite] = (),
) -> Change:
    return Change(
        verb, job.job_id, job.token, JOB[verb].sources, values, tuple(tasks), (), (event,)
    )


def _allowed(verb: str, job: Snapshot, error: type[InvalidTransition], done: str) -> None:
    if job.status in JOB[verb].sources:
        return
    if job.status == JobStatus.RUNNING:
        who = job.worker_name or "a consumer"
        seen = "" if job.worker_seen is None else f" (heartbeat {job.worker_seen:.0f} s ago)"
        text = f"{_name(job)} is running on {who}{seen}. Cancel it first or wait;"
    else:
        text = f"{_name(job)} is {JobStatus(job.status).label} and cannot be {done};"
    raise error(f"{text} nothing was changed.", job=job.job_id, status=job.status)


def _position(job: Snapshot, task_id: str) -> int:
    """Place in the job's plan of the task that has this id now, or had it when the job started."""
    sequence = find_sequence(job.sequence)
    spec = sequence.spec(task_id) if sequence else None
    for name in (task_id, *((spec.id, *spec.aliases) if spec else ())):
        if name in job.plan:
            return job.plan.index(name)
    raise UnknownTask(task_id, job.sequence, job.plan)


def next_id(job: Snapshot) -> str:
    position = job.next_position
    return job.plan[position] if position < len(job.plan) else ""


def _name(job: Snapshot) -> str:
    return job.label or f"Job {short_id(job.job_id)}"
