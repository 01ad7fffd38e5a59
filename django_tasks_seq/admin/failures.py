"""What stands at the top of a job's page: which task failed, how often, why, and where."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext as _, ngettext

from ..choices import HANDLER_TASK_ID, HandlerDue, JobStatus, TaskState
from ..errors_text import MESSAGE_BYTES, TRACEBACK_BYTES
from ..models import TaskAttempt
from .standing import Standing, TaskLine


@dataclass(frozen=True, slots=True)
class Failure:
    """What failed, its error, and the traceback of the last attempt ("" when there is none)."""

    title: str
    error: str
    traceback: str


def failures_of(standing: Standing, attempts: Sequence[TaskAttempt]) -> tuple[Failure, ...]:
    """The failure of the job, then that of its handler; mostly none."""
    found = (_job_failure(standing, attempts), _handler_failure(standing, attempts))
    return tuple(_cut(one) for one in found if one)


def _cut(failure: Failure) -> Failure:
    """No longer than our own are; another writer's rows may hold more."""
    # Behind the task's and the class's name.
    error = failure.error[: 2 * MESSAGE_BYTES]
    return Failure(failure.title, error, failure.traceback[:TRACEBACK_BYTES])


def _job_failure(standing: Standing, attempts: Sequence[TaskAttempt]) -> Failure | None:
    job, line = standing.job, standing.current
    if job.status != JobStatus.FAILED:
        return None
    if line is None or line.row is None or line.status != TaskState.FAILED:
        return Failure(_("The job failed"), job.error, "")
    return Failure(_title(line), line.row.error or job.error, _traceback(attempts, line.task_id))


def _title(line: TaskLine) -> str:
    values = {"n": line.number, "task": line.task_id, "spent": line.spent, "max": line.max_attempts}
    if line.max_attempts is None:
        text = ngettext(
            "Task %(n)s “%(task)s” failed after %(spent)s attempt",
            "Task %(n)s “%(task)s” failed after %(spent)s attempts",
            line.spent,
        )
    else:
        text = ngettext(
            "Task %(n)s “%(task)s” failed after %(spent)s of %(max)s attempt",
            "Task %(n)s “%(task)s” failed after %(spent)s of %(max)s attempts",
            line.max_attempts,
        )
    return text % values


def _handler_failure(standing: Standing, attempts: Sequence[TaskAttempt]) -> Failure | None:
    kind, _colon, error = standing.job.handler_error.partition(": ")
    if not kind:
        return None
    if kind not in HandlerDue.values:
        return Failure(_("A handler of this job gave up"), standing.job.handler_error, "")
    due = HandlerDue(kind)
    return Failure(str(_GAVE_UP[due]()), error, _traceback(attempts, HANDLER_TASK_ID[due]))


_GAVE_UP: Final = {
    HandlerDue.ERROR: lambda: _("The error handler gave up; the outcome of the job stands"),
    HandlerDue.SUCCESS: lambda: _("The success handler gave up; the outcome of the job stands"),
}


def _traceback(attempts: Sequence[TaskAttempt], task_id: str) -> str:
    """Of the last attempt of this task; fetched alone, because each may be 64 KB."""
    last = next((one for one in reversed(attempts) if one.task_id == task_id), None)
    if last is None:
        return ""
    rows = TaskAttempt.objects.filter(pk=last.pk).values_list("traceback", flat=True)
    return str(rows.first() or "")
