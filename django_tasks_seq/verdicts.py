"""What an error handler's verdict writes: a job that had failed goes on, or is successful after all."""

from __future__ import annotations

from json import dumps  # bound here: a task may put something else in the module

from .cache.changes import NOW, Change, Snapshot
from .choices import JobStatus
from .exceptions import ClaimLost, InvalidTransition
from .handlers.base import Complete, RetryJob, RetryTask
from .repairs import CLEARED, Actor, again, change_of, next_id, renewed
from .status_parts import resend
from .transitions import JOB

LIMIT = 3
Verdict = RetryJob | RetryTask | Complete


def change_outcome(
    job: Snapshot, token: int, verdict: Verdict, *, text: str | None, handler: str
) -> Change:
    """*text* is the verdict's payload or result as JSON text, None for none given.

    Raises `ClaimLost` when the handler's claim is not the job's any more, `InvalidTransition` when
    this job has been changed by that verdict three times already.
    """
    is_claimed = job.token == token and job.lease_left is not None
    if not is_claimed or not job.handler or job.status not in JOB["change_outcome"].sources:
        raise ClaimLost(job.job_id)
    change = _change(job, verdict, text, handler)
    change.values["verdicts"] = dumps(_counted(job, type(verdict).__name__))
    return change


def _counted(job: Snapshot, kind: str) -> dict[str, int]:
    given = job.verdicts.get(kind, 0) + 1
    if given > LIMIT:
        raise InvalidTransition(
            f"The error handler gave {kind} for the {given}. time, {LIMIT} are allowed;"
            " the outcome stands.",
            job=job.job_id,
            status=job.status,
        )
    return {**job.verdicts, kind: given}


def _change(job: Snapshot, verdict: Verdict, text: str | None, handler: str) -> Change:
    actor = Actor(by="error handler", reason=type(verdict).__name__)
    if isinstance(verdict, Complete):
        return _complete(job, actor, text, handler)
    event = actor.event("change_outcome", job.status, JobStatus.READY, task_id=next_id(job))
    if isinstance(verdict, RetryJob):
        return again(job, "retry_from", 0, event)
    row = job.next_row
    tasks = () if row is None else (renewed(row, "retry"),)
    if text is not None and tasks:
        tasks[0].values["payload"] = text
    return change_of(job, "change_outcome", CLEARED | resend(job.carried), event, tasks)


def _complete(job: Snapshot, actor: Actor, text: str | None, handler: str) -> Change:
    values = CLEARED | {"status": JobStatus.SUCCESSFUL, "finished_at": NOW, "result": text}
    values |= {"handler_due": handler} | (resend(job.carried) if handler else {})
    event = actor.event("change_outcome", job.status, JobStatus.SUCCESSFUL)
    return change_of(job, "change_outcome", values, event)
