"""Cells of the lists: `format_html` alone, no style attribute, words beside every colour."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from typing import Any, Final

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _, ngettext, pgettext

from ..choices import JobStatus, TaskState
from ..models import Job, Worker
from .standing import Standing, TaskLine
from .why import why
from .words import WAITS_TO_RETRY, ago, between, exact, icon, precise, task_word

SEGMENT, GAP, HEIGHT = 13, 2, 9
WIDTH: Final = 7 * (SEGMENT + GAP) - GAP
# A plan of more tasks than this is drawn as a bar, one piece for each run of tasks with one status.
MOST_SEGMENTS: Final = 20


def short_id(job: Job) -> str:
    """Eight digits that tell jobs apart: the last, since the first are the time, to the minute."""
    return job.pk.hex[-8:]


def pill(status: str, word: Any) -> SafeString:
    """A status as sign, word and colour."""
    return format_html(
        '<span class="dts-pill dts-{}"><span aria-hidden="true">{}</span> {}</span>',
        status.lower() or "none",
        icon(status),
        word,
    )


def job_pill(job: Job, current: TaskLine | None) -> SafeString:
    """A job's status; a job that waits after a failed attempt says so."""
    retries = job.status == JobStatus.WAITING and current is not None and current.spent
    return pill(job.status, WAITS_TO_RETRY if retries else JobStatus(job.status).label)


def job_cell(job: Job) -> SafeString:
    """Whom the job is for, and below it the sequence and the short id."""
    if not job.subject_label:
        return format_html(
            '<span class="dts-name">{}</span><span class="dts-sub">{}</span>',
            job.sequence,
            short_id(job),
        )
    return format_html(
        '<span class="dts-name">{}</span><span class="dts-sub">{} · {}</span>',
        job.subject_label,
        job.sequence,
        short_id(job),
    )


def status_cell(standing: Standing) -> SafeString:
    """The pill, the progress in segments, and the count."""
    return format_html(
        '{}<span class="dts-progress">{} <span>{}/{}</span></span>',
        job_pill(standing.job, standing.current),
        progress_svg(standing.lines),
        standing.done,
        len(standing.lines),
    )


def progress_svg(lines: Sequence[TaskLine]) -> SafeString:
    """One segment for each task; of a long plan, one for each run of tasks with one status."""
    done = sum(line.done for line in lines)
    label = ngettext("%(done)s of %(n)s task done", "%(done)s of %(n)s tasks done", len(lines)) % {
        "done": done,
        "n": len(lines),
    }
    segments = _runs(lines) if len(lines) > MOST_SEGMENTS else _segments(lines)
    return format_html(
        '<svg class="dts-segments" role="img" width="{}" height="{}"><title>{}</title>{}</svg>',
        WIDTH,
        HEIGHT,
        label,
        format_html_join(
            "",
            '<rect class="dts-{}" x="{}" width="{}" height="{}" rx="2"><title>{}</title></rect>',
            ((kind, x, wide, HEIGHT, title) for kind, x, wide, title in segments),
        ),
    )


Segment = tuple[str, float, float, str]


def _segments(lines: Sequence[TaskLine]) -> list[Segment]:
    wide = min(SEGMENT, round((WIDTH + GAP) / len(lines) - GAP, 2)) if lines else 0
    return [
        (_kind(line), round(n * (wide + GAP), 2), wide, f"{line.task_id}: {task_word(line.status)}")
        for n, line in enumerate(lines)
    ]


def _runs(lines: Sequence[TaskLine]) -> list[Segment]:
    segments: list[Segment] = []
    begun = 0
    for status, run in groupby(lines, key=lambda line: line.status):
        names = [line.task_id for line in run]
        x, wide = (round(n / len(lines) * WIDTH, 2) for n in (begun, len(names)))
        title = names[0] if len(names) == 1 else f"{names[0]} … {names[-1]}"
        segments.append((_kind_of(status), x, max(wide, 2), f"{title}: {task_word(status)}"))
        begun += len(names)
    return segments


def _kind(line: TaskLine) -> str:
    return _kind_of(line.status)


def _kind_of(status: str) -> str:
    return "none" if status in ("", TaskState.READY) else status.lower()


def why_cell(standing: Standing) -> SafeString:
    """The task it stands at, and what it does there or why it does not move."""
    found = why(standing)
    parts = (
        (f"dts-task dts-{found.tone or 'plain'}", found.task_id),
        (f"dts-text dts-{found.tone}" if found.tone == "warning" else "dts-text", found.text),
        ("dts-text dts-warning", found.note),
    )
    shown = [(name, text) for name, text in parts if text]
    if not shown:
        return format_html('<span class="dts-text">{}</span>', "—")
    return format_html_join(" ", '<span class="{}">{}</span>', shown)


def created_cell(standing: Standing) -> SafeString:
    """How long ago it was started, and how long it has taken."""
    job, end = standing.job, standing.end
    took = _("took %(time)s") % {"time": between(job.started_at, end)} if end else ""
    return format_html(
        '{}<span class="dts-sub">{}</span>', time_tag(job.created_at, standing.now), took
    )


def time_tag(moment: datetime, now: datetime) -> SafeString:
    """`2 minutes ago`, with the exact moment for machines and on hovering."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        precise(moment),
        ago(moment, now),
    )


def exact_tag(moment: datetime) -> SafeString:
    """A moment to the second; to the millisecond and with its zone on hovering."""
    return format_html(
        '<time datetime="{}" title="{}">{}</time>',
        moment.isoformat(),
        precise(moment),
        exact(moment),
    )


def worker_pill(worker: Worker, *, dead: bool) -> SafeString:
    """Whether a worker is alive, draining, stopped or dead."""
    if worker.stopped_at:
        return pill(JobStatus.CANCELLED, pgettext("Worker", "Stopped"))
    if dead:
        return pill(JobStatus.FAILED, pgettext("Worker", "Dead"))
    if worker.draining:
        return pill(JobStatus.PAUSED, pgettext("Worker", "Draining"))
    return pill(JobStatus.SUCCESSFUL, pgettext("Worker", "Alive"))
