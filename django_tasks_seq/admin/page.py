"""The facts of one job's page, read in a fixed number of queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from ..choices import HANDLER_TASK_ID, HandlerDue, JobStatus, TaskState
from ..models import Job, JobEvent, TaskAttempt
from ..text import one_line
from .columns import exact_tag, pill
from .documents import Document, documents_of, results_of
from .failures import Failure, failures_of
from .spans import AxisTick, axis_ticks, job_timeline
from .standing import Standing, TaskLine, standing_of
from .timeline import Bar, Track
from .why import Why, progress_text, why
from .words import between, duration, icon, task_word

SHOWN: Final = 200  # of the newest attempts, and of the newest events


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """One row of the table of tasks, and its track of the timeline."""

    line: TaskLine
    pill: SafeString
    kind: str
    sign: str
    label: str
    attempts: str
    took: str
    worker: str
    progress: str
    error: str
    result: Document | None
    bars: tuple[Bar, ...]
    gaps: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """One row of the table of attempts that did not succeed."""

    attempt: TaskAttempt
    task: str
    error: str
    took: str
    when: SafeString


@dataclass(frozen=True, slots=True)
class EventFacts:
    """One row of the table of events: when, who, what, why."""

    event: JobEvent
    what: str
    change: str
    when: SafeString


@dataclass(frozen=True, slots=True)
class JobPage:
    """Everything a job's page shows but links and buttons, which depend on who looks."""

    job: Job
    standing: Standing
    why: Why
    failures: tuple[Failure, ...]
    tasks: tuple[TaskFacts, ...]
    ticks: tuple[AxisTick, ...]
    attempts: tuple[AttemptFacts, ...]
    events: tuple[EventFacts, ...]
    documents: dict[str, Document] | None
    shown: int = SHOWN

    @property
    def took(self) -> str:
        """How long it ran, or has been running."""
        return between(self.job.started_at, self.standing.end)


def job_page(job: Job, *, show_data: bool) -> JobPage:
    """Read all facts of *job*; payloads and results only with *show_data*."""
    standing = standing_of(job)
    attempts = _newest(TaskAttempt.objects.filter(job=job).defer("traceback", "result"))
    events = _newest(JobEvent.objects.filter(job=job))
    results = results_of(job) if show_data else {}
    axis = job_timeline(standing, attempts)
    return JobPage(
        job=job,
        standing=standing,
        why=why(standing),
        failures=failures_of(standing, attempts),
        tasks=tuple(
            _task_facts(standing, line, track, results.get(line.task_id))
            for line, track in zip(standing.lines, axis.tracks, strict=True)
        ),
        ticks=axis_ticks(axis),
        attempts=tuple(map(_attempt_facts, attempts)),
        events=tuple(map(_event_facts, events)),
        documents=documents_of(job) if show_data else None,
    )


def _newest(rows: Any) -> list[Any]:
    """The newest rows, oldest first."""
    return list(rows.order_by("-id")[:SHOWN])[::-1]


def _task_facts(
    standing: Standing, line: TaskLine, track: Track, result: Document | None
) -> TaskFacts:
    row, word = line.row, task_word(line.status)
    took = "—" if track.seconds is None else duration(track.seconds)
    return TaskFacts(
        line=line,
        pill=pill(line.status, word),
        kind=line.status.lower() or "none",
        sign=icon(line.status),
        label=f"{line.task_id}: {word}" if took == "—" else f"{line.task_id}: {word}, {took}",
        attempts=_attempts(line, standing),
        took=took,
        worker=row.worker_name if row else "",
        progress=progress_text(row.progress) if row else "",
        error=one_line(row.error) if row and not line.done else "",
        result=result,
        bars=track.bars,
        gaps=track.gaps,
    )


def _attempts(line: TaskLine, standing: Standing) -> str:
    """`2/3`: attempts of the present budget; a running one counts, also before it has a row."""
    is_written = line.row is not None and line.row.status == TaskState.RUNNING
    is_running = standing.job.status == JobStatus.RUNNING and line is standing.current
    begun = line.spent + (is_running and not is_written)
    return f"{begun}/{line.max_attempts}" if line.max_attempts else str(begun)


def _attempt_facts(attempt: TaskAttempt) -> AttemptFacts:
    name = attempt.exception_class.rpartition(".")[2]
    return AttemptFacts(
        attempt,
        str(_HANDLERS.get(attempt.task_id, attempt.task_id)),
        one_line(": ".join(filter(None, [name, attempt.message]))),
        between(attempt.started_at, attempt.finished_at),
        exact_tag(attempt.finished_at),
    )


def _event_facts(event: JobEvent) -> EventFacts:
    what = str(_EVENTS.get(event.kind) or event.kind.replace("_", " "))
    task_id = event.data.get("task_id") if isinstance(event.data, dict) else None
    before, after = (JobStatus(s).label if s in JobStatus.values else s for s in _statuses(event))
    change = f"{before} → {after}" if before != after else str(after)
    return EventFacts(
        event, f"{what}: {task_id}" if task_id else what, change, exact_tag(event.created_at)
    )


def _statuses(event: JobEvent) -> tuple[str, str]:
    return event.status_before, event.status_after


_HANDLERS: Final = {HANDLER_TASK_ID[due]: due.label for due in HandlerDue}
_EVENTS: Final = {
    "retry": _("Retried"),
    "skip": _("Task skipped"),
    "cancel": _("Cancelled"),
    "force_cancel": _("Cancelled by force"),
    "cancel_requested": _("Asked to cancel"),
    "cancel_done": _("Cancelled as asked"),
    "pause": _("Paused"),
    "pause_requested": _("Asked to pause"),
    "pause_done": _("Paused as asked"),
    "resume": _("Resumed"),
    "change_outcome": _("Outcome changed by its error handler"),
    "lost": _("Lost by its worker"),
    "unknown_task": _("Given back: the worker does not know this task"),
}
