"""Jobs and task statuses as documents: pure functions from a document and a write to a document.

Payloads, results and whatever else a task or a person made up stay JSON *text* inside a document:
the JSON of a handler need not be exact (1e16, -0.0, the order of keys), text is. Times are ISO-8601
in UTC.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from ..choices import DONE, FINAL, HANDLER_TASK_ID, AttemptOutcome, HandlerDue, JobStatus, TaskState
from .changes import Change, Checkpoint, Claim, Moment, NewJob, Snapshot, TaskRow, TaskWrite

Document = dict[str, Any]

# Attempts and events of a job live in its document; what is older is forgotten.
HISTORY = 100

_JOB_BLANKS: Mapping[str, Any] = {
    "result": None,
    "error": "",
    "error_result": None,
    "handler_error": "",
    "requested": "",
    "started_at": None,
    "finished_at": None,
    "claim_token": 0,
    "worker_id": None,
    "worker_name": "",
    "lease_until": None,
    "suspect": False,
    "unknown_since": None,
    "handler_due": "",
    "handler_attempts": 0,
    "verdicts": None,
    "resends": 0,
    # No task before this one is open: where the search for the next task begins.
    "position": 0,
}
_TASK_BLANKS: Mapping[str, Any] = {
    "status": TaskState.READY.value,
    "attempts": 0,
    "budget_start": 0,
    "crashes": 0,
    "fails_when_lost": False,
    "payload": None,
    "result": None,
    "error": "",
    "progress": None,
    "cursor": None,
    "worker_name": "",
    "started_at": None,
    "finished_at": None,
}


def iso(seconds: float) -> str:
    """Unix seconds as ISO-8601 in UTC, always with microseconds, so that texts sort as times do."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def seconds_until(text: str | None, now: float) -> float | None:
    """Seconds from *now* until the time in *text*, negative when it has passed."""
    return None if text is None else datetime.fromisoformat(text).timestamp() - now


def has_come(text: str | None, now: float) -> bool:
    """Whether the time in *text* is *now* or before; no time at all has come."""
    return text is None or text <= iso(now)


def plain(value: Any, now: float) -> Any:
    """A column's value as a document keeps it: times and statuses as text."""
    if isinstance(value, Moment):
        return iso(now + value.seconds)
    if isinstance(value, datetime):
        return iso(value.timestamp())
    return str(value) if isinstance(value, str) else value


# --- writing


def new_job(job: NewJob, now: float) -> Document:
    """The document of a job that has just been started."""
    due = plain(job.due, now)
    late = not has_come(due, now)
    resend_at = None
    if job.resend_after is not None:
        resend_at = iso(now + max(seconds_until(due, now) or 0.0, 0.0) + job.resend_after)
    return {
        "id": str(job.id),
        "sequence": job.sequence,
        "version": job.version,
        "plan": job.plan,
        "status": (JobStatus.WAITING if late else JobStatus.READY).value,
        "queue": job.queue,
        "priority": job.priority,
        "payload": job.payload,
        "carried": job.carried,
        "run_after": due,
        "idempotency_key": job.idempotency_key,
        "subject_type": job.subject_type,
        "subject_id": job.subject_id,
        "subject_label": job.subject_label,
        "created_by": job.created_by,
        "created_at": iso(now),
        "resend_at": resend_at,
        **_JOB_BLANKS,
        "attempts": [],
        "events": [],
    }


def new_task(job_id: str, task_id: str, position: int) -> Document:
    """The document of a task status that has nothing to tell yet."""
    return {"job": job_id, "task_id": task_id, "position": position, **_TASK_BLANKS}


def take(document: Document, lease: float, now: float) -> None:
    """Claim the job, or the due handler of a final one."""
    document["claim_token"] += 1
    document["lease_until"] = iso(now + lease)
    document["resend_at"] = None
    if document["status"] in FINAL:
        document["handler_attempts"] += 1
        return
    document["status"] = JobStatus.RUNNING.value
    document["started_at"] = document["started_at"] or iso(now)


def complete_task(task: Document, write: Checkpoint, worker_name: str, now: float) -> None:
    """Write a checkpoint into its task's document."""
    task.update(
        status=TaskState.SUCCESSFUL.value,
        attempts=write.attempt,
        result=write.result,
        error="",
        progress=None,
        cursor=None,
        worker_name=worker_name,
        started_at=iso(now - write.started),
        finished_at=iso(now - write.ended),
    )


def complete_job(document: Document, write: Checkpoint, now: float) -> None:
    """Write the checkpoint of a job's last task into the job's document."""
    document.update(
        status=JobStatus.SUCCESSFUL.value,
        result=write.result,
        requested="",
        finished_at=iso(now - write.ended),
        handler_due=write.handler,
        handler_attempts=1 if write.handler else 0,
    )
    if write.handler:
        document["run_after"] = iso(now)
    else:
        document.update(lease_until=None, worker_id=None, worker_name="")


def change_task(task: Document, write: TaskWrite, worker_name: str, now: float) -> None:
    """Write one task status of a change into its document."""
    if worker_name:
        task["worker_name"] = worker_name
    for name, value in write.values.items():
        task[name] = plain(value, now)


def change_job(document: Document, change: Change, worker_name: str, now: float) -> None:
    """Write a change's columns, attempts and events into the job's document."""
    for name, value in change.values.items():
        document[name] = plain(value, now)
    if document["worker_id"] is None and document["lease_until"] is None:
        document["worker_name"] = ""
    opened = [task.position for task in change.tasks if task.values.get("status") not in DONE]
    document["position"] = min([document["position"], *opened])
    blank = {"worker_name": worker_name, "finished_at": Moment()}
    _remember(document["attempts"], change.attempts, blank, now)
    _remember(document["events"], change.events, {"created_at": Moment()}, now)


def _remember(
    history: list[Document], rows: Iterable[dict[str, Any]], blank: dict[str, Any], now: float
) -> None:
    history.extend(
        {name: plain(value, now) for name, value in (blank | row).items()} for row in rows
    )
    del history[:-HISTORY]


# --- reading


def task_row(task: Document) -> TaskRow:
    """What the engine needs of a task status."""
    names = TaskRow.__dataclass_fields__
    return TaskRow(**{name: task[name] for name in names})


def plan(document: Document) -> tuple[str, ...]:
    """Ids of the job's tasks, in order."""
    return tuple(json.loads(document["plan"]))


def verdicts(document: Document) -> dict[str, int]:
    """How often a handler has changed the job's outcome."""
    return dict(json.loads(document["verdicts"] or "{}"))


def handler_task_id(document: Document) -> str:
    """`@success` or `@error` when that handler is due, else nothing."""
    due = document["handler_due"]
    return HANDLER_TASK_ID[HandlerDue(due)] if due else ""


def holds(document: Document, sources: Iterable[str], token: int | None) -> bool:
    """Whether a write over these statuses, under this claim, may still be applied."""
    return document["status"] in sources and token in (None, document["claim_token"])


def is_unsettled_job(key: str, document: Document) -> bool:
    """Whether *key* is that of a job on which something is still to be done."""
    if key != f"job:{document.get('id')}":
        return False
    return document["status"] not in FINAL or bool(document["handler_due"])


def snapshot(document: Document, tasks: Iterable[Document], now: float) -> Snapshot:
    """The job and its tasks, for `status.py` to compute with."""
    return Snapshot(
        job_id=UUID(document["id"]),
        sequence=document["sequence"],
        version=document["version"],
        plan=plan(document),
        status=document["status"],
        token=document["claim_token"],
        requested=document["requested"],
        carried=document["carried"],
        suspect=document["suspect"],
        handler=document["handler_due"],
        payload=document["payload"],
        label=document["subject_label"],
        due_in=seconds_until(document["run_after"], now) or 0.0,
        worker_name=document["worker_name"],
        lease_left=seconds_until(document["lease_until"], now),
        result=document["result"],
        verdicts=verdicts(document),
        rows={task["task_id"]: task_row(task) for task in tasks},
    )


def claim(
    document: Document, position: int, payload: str | None, row: TaskRow | None, now: float
) -> Claim:
    """The claim that has just been written into *document*, standing before this task."""
    unknown = seconds_until(document["unknown_since"], now)
    return Claim(
        job_id=UUID(document["id"]),
        token=document["claim_token"],
        sequence=document["sequence"],
        version=document["version"],
        plan=plan(document),
        queue=document["queue"],
        job_payload=document["payload"],
        payload=payload,
        position=position,
        row=row,
        suspect=document["suspect"],
        requested=document["requested"],
        carried=document["carried"],
        unknown_for=None if unknown is None else -unknown,
        handler=document["handler_due"],
        handler_attempts=document["handler_attempts"],
        verdicts=verdicts(document),
        subject_label=document["subject_label"],
    )


def failure(document: Document) -> dict[str, Any]:
    """The fields of `TaskFailed` from the last attempt of a task that failed; none, no fields."""
    for row in reversed(document["attempts"]):
        is_handler = row["task_id"].startswith("@")
        if row["outcome"] != AttemptOutcome.SUPERSEDED and not is_handler:
            texts = ("exception_class", "message", "traceback")
            return {
                "task_id": row["task_id"],
                "attempt": row["attempt"],
                **{name: row.get(name, "") for name in texts},
                "exception_bases": json.loads(row.get("exception_bases") or "[]"),
            }
    return {}
