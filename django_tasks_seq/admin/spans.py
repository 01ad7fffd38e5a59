"""A job's rows as spans of its timeline: one for each attempt."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from django.utils.translation import gettext as _

from ..choices import DONE, AttemptOutcome, JobStatus, TaskState
from ..models import TaskAttempt
from ..text import one_line
from .standing import Standing, TaskLine
from .timeline import Span, Timeline, timeline
from .words import between, task_word, tick_label

TITLE_LENGTH: Final = 160
STANDS: Final = (JobStatus.WAITING, JobStatus.READY, JobStatus.PAUSED)


@dataclass(frozen=True, slots=True)
class AxisTick:
    """A vertical line and what stands below it; *anchor* keeps the text inside the picture."""

    x: float
    label: str
    anchor: str


def axis_ticks(axis: Timeline) -> tuple[AxisTick, ...]:
    """The ticks of the axis with their labels."""
    return tuple(AxisTick(tick.x, tick_label(tick.seconds), _anchor(tick.x)) for tick in axis.ticks)


def _anchor(x: float) -> str:
    if x < 4:
        return "start"
    return "end" if x > 96 else "middle"


def job_timeline(standing: Standing, attempts: Sequence[TaskAttempt]) -> Timeline:
    """A track for each task of the plan; a job that stands still waits until now."""
    spans: dict[str, list[Span]] = {}
    for attempt in attempts:
        spans.setdefault(attempt.task_id, []).append(_attempt_span(attempt))
    for line in standing.lines:
        span = _row_span(line, standing)
        if span:
            spans.setdefault(line.task_id, []).append(span)
    return timeline(
        [spans.get(line.task_id, ()) for line in standing.lines],
        waits_until=standing.now if standing.job.status in STANDS else None,
    )


def _attempt_span(attempt: TaskAttempt) -> Span:
    start = attempt.started_at or attempt.finished_at
    words = _attempt_words(attempt.attempt, AttemptOutcome(attempt.outcome).label)
    took = between(attempt.started_at, attempt.finished_at)
    title = one_line(f"{words}, {took}. {attempt.message}".strip(" ."), TITLE_LENGTH)
    return Span(start, attempt.finished_at, attempt.outcome.lower(), title)


def _attempt_words(number: int, outcome: object) -> str:
    return _("attempt %(n)s: %(outcome)s") % {"n": number, "outcome": outcome}


def _row_span(line: TaskLine, standing: Standing) -> Span | None:
    """The attempt a row itself tells of: the one that succeeded, or the one that runs."""
    row = line.row
    if row is None or row.started_at is None or row.status != line.status:
        return None
    if line.status not in (*DONE, TaskState.RUNNING):
        return None
    end = row.finished_at if line.done else standing.now
    took = between(row.started_at, end)
    title = f"{_attempt_words(max(row.attempts, 1), task_word(line.status))}, {took}"
    return Span(row.started_at, end or row.started_at, line.status.lower(), title)
