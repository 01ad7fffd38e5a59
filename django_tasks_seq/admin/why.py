"""One line that says what a job does now, or why it does not move."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from django.utils.translation import gettext as _

from ..choices import JobStatus, Requested, TaskState
from ..text import one_line
from .standing import Standing, TaskLine
from .words import duration

Tone = Literal["", "error", "warning"]
ERROR_LENGTH = 200


@dataclass(frozen=True, slots=True)
class Why:
    """The task it is about (or none), the words, and how loud they are."""

    task_id: str = ""
    text: str = ""
    tone: Tone = ""
    note: str = ""


def why(standing: Standing) -> Why:
    """What this job does now, or why it does not move."""
    job = standing.job
    found = _BY_STATUS[JobStatus(job.status)](standing)
    return Why(found.task_id, found.text, found.tone, _handler_note(standing) or found.note)


def _running(standing: Standing) -> Why:
    job, line = standing.job, standing.current
    if standing.stuck:
        return Why(_task_id(line), _lost(standing), "warning", _requested(job.requested))
    text = _progress(line)
    begin = (line.row.started_at if line and _is_running(line) and line.row else None) or None
    if begin:
        held = _("for %(time)s") % {"time": _span(standing, begin)}
        text = f"{text} {held}".strip()
    return Why(_task_id(line), text, "", _requested(job.requested))


def _is_running(line: TaskLine) -> bool:
    """Whether a row says so: a short task has none while it runs."""
    return line.row is not None and line.row.status == TaskState.RUNNING


def _lost(standing: Standing) -> str:
    worker = standing.job.worker
    assert standing.job.lease_until is not None  # noqa: S101 (it is stuck)
    values = {
        "time": duration((standing.now - standing.job.lease_until).total_seconds()),
        "worker": worker.name if worker else "",
    }
    if worker is None:
        return _("its lease ended %(time)s ago; the next worker takes it over") % values
    return _("lease of worker %(worker)s ended %(time)s ago; the next one takes it over") % values


def _requested(requested: str) -> str:
    if requested == Requested.CANCEL:
        return _("asked to cancel: ends before its next task")
    if requested == Requested.PAUSE:
        return _("asked to pause: stops before its next task")
    return ""


def _waiting(standing: Standing) -> Why:
    line = standing.current
    left = (standing.job.run_after - standing.now).total_seconds()
    values: dict[str, Any] = {"time": duration(left)}
    if line is None or not line.spent:
        text = _("starts in %(time)s") if left > 0 else _("is due, no worker has taken it yet")
        return Why(_task_id(line), text % values)
    values |= {"n": line.spent + 1, "max": line.max_attempts}
    if left <= 0:
        return Why(line.task_id, _("retry %(n)s is due, no worker has taken it yet") % values)
    if line.max_attempts is None:
        return Why(line.task_id, _("retry %(n)s in %(time)s") % values)
    return Why(line.task_id, _("retry %(n)s of %(max)s in %(time)s") % values)


def _ready(standing: Standing) -> Why:
    job, task_id = standing.job, _task_id(standing.current)
    if job.carried:
        return Why(task_id, _("handed to its carrier, waiting for a consumer"))
    if standing.queue_served:
        return Why(task_id, _("waiting for a free worker"))
    text = _("waiting for a worker: none is running on queue %(queue)s") % {"queue": job.queue}
    return Why(task_id, text, "warning")


def _paused(standing: Standing) -> Why:
    return Why(_task_id(standing.current), _("paused before this task"))


def _failed(standing: Standing) -> Why:
    line = standing.current
    if line is None or line.row is None or line.status != TaskState.FAILED:
        return Why("", one_line(standing.job.error, ERROR_LENGTH), "error")
    return Why(line.task_id, one_line(line.row.error or standing.job.error, ERROR_LENGTH), "error")


def _cancelled(standing: Standing) -> Why:
    line = standing.current
    return Why(_task_id(line), _("cancelled before this task") if line else "")


def _successful(standing: Standing) -> Why:
    return Why()


_BY_STATUS = {
    JobStatus.READY: _ready,
    JobStatus.WAITING: _waiting,
    JobStatus.RUNNING: _running,
    JobStatus.PAUSED: _paused,
    JobStatus.SUCCESSFUL: _successful,
    JobStatus.FAILED: _failed,
    JobStatus.CANCELLED: _cancelled,
}


def _handler_note(standing: Standing) -> str:
    job = standing.job
    if job.handler_error:
        text = one_line(job.handler_error, ERROR_LENGTH)
        return _("a handler gave up: %(error)s") % {"error": text}
    if job.handler_due:
        return _("%(handler)s is due") % {"handler": job.get_handler_due_display()}
    return ""


def _progress(line: TaskLine | None) -> str:
    return progress_text(line.row.progress) if line and line.row else ""


def progress_text(progress: Any) -> str:
    """`4/6 resizing` of what a task reported; "" when it has reported nothing."""
    if not isinstance(progress, dict) or "done" not in progress:
        return ""
    total = progress.get("total")
    count = f"{progress['done']}/{total}" if total is not None else f"{progress['done']}"
    return one_line(f"{count} {progress.get('message') or ''}".strip(), 100)


def _task_id(line: TaskLine | None) -> str:
    return line.task_id if line else ""


def _span(standing: Standing, begin: Any) -> str:
    return duration((standing.now - begin).total_seconds())
