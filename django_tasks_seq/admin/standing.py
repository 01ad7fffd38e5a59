"""Where jobs stand: their tasks in the order of the plan, loaded for many jobs in a few queries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from .. import clock
from ..choices import DONE, FINAL, JobStatus, TaskState
from ..conf import get_config
from ..models import Job, TaskStatus, Worker
from ..registry import find_sequence

# What may be long is left out: a result is up to a megabyte.
LONG_COLUMNS = ("payload", "result", "cursor")


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task of a job: its place in the plan, and its row when it has one.

    `status` is how it is shown, "" when it has not begun: a short task gets no row while it runs.
    """

    number: int
    task_id: str
    status: str
    row: TaskStatus | None
    max_attempts: int | None

    @property
    def spent(self) -> int:
        """Attempts of the present budget; a person's retry grants a new one."""
        return self.row.attempts - self.row.budget_start if self.row else 0

    @property
    def done(self) -> bool:
        """Whether the job goes on behind it."""
        return self.status in DONE


@dataclass(slots=True)
class Standing:
    """A job with all that tells where it is and why; `now` is the database's."""

    job: Job
    now: datetime
    lines: list[TaskLine]
    queue_served: bool
    current: TaskLine | None = field(init=False)

    def __post_init__(self) -> None:
        self.current = _current(self.lines)

    @property
    def done(self) -> int:
        """How many of its tasks are done."""
        return sum(line.done for line in self.lines)

    @property
    def stuck(self) -> bool:
        """Whether it is running on paper only: its lease has ended."""
        lease = self.job.lease_until
        return self.job.status == JobStatus.RUNNING and lease is not None and lease < self.now

    @property
    def end(self) -> datetime | None:
        """When it ended, or now while it goes on; None when it has not begun."""
        if self.job.started_at is None:
            return None
        return self.job.finished_at or self.now


def _current(lines: Sequence[TaskLine]) -> TaskLine | None:
    """The task that failed, or else the first that is not done."""
    failed = next((line for line in lines if line.status == TaskState.FAILED), None)
    return failed or next((line for line in lines if not line.done), None)


def standing_of(job: Job) -> Standing:
    """Where this job stands; costs queries unless `attach_standings` has been there."""
    if "standing" not in job.__dict__:
        attach_standings([job])
    standing: Standing = job.__dict__["standing"]
    return standing


def attach_standings(jobs: Iterable[Job]) -> list[Job]:
    """Load where these jobs stand, in three queries however many they are; returns them."""
    jobs = list(jobs)
    if jobs:
        now = read_now(jobs[0])
        rows = _rows([job.pk for job in jobs])
        served = alive_queues()
        for job in jobs:
            lines = task_lines(job, rows.get(job.pk, {}))
            is_served = served is None or job.queue in served
            job.__dict__["standing"] = Standing(job, now, lines, is_served)
    return jobs


def read_now(job: Job) -> datetime:
    """The database's now: `JobAdminMixin.get_queryset` brings it with each job."""
    now = job.__dict__.get("now")
    if now is None:
        now = (
            Job.objects.filter(pk=job.pk).annotate(now=clock.Now()).values_list("now", flat=True)[0]
        )
    result: datetime = now
    return result


def alive_queues() -> set[str] | None:
    """Queues that living workers serve; None when one of them serves all."""
    texts = list(Worker.objects.alive().filter(draining=False).values_list("queues", flat=True))
    if any(not text.strip() for text in texts):
        return None
    return {queue for text in texts for queue in split_queues(text)}


def split_queues(text: str) -> list[str]:
    """The names in a worker's `queues`."""
    return [name.strip() for name in text.split(",") if name.strip()]


def _rows(job_ids: Sequence[UUID]) -> dict[UUID, dict[str, TaskStatus]]:
    found: dict[UUID, dict[str, TaskStatus]] = {}
    for row in TaskStatus.objects.filter(job_id__in=job_ids).defer(*LONG_COLUMNS):
        found.setdefault(row.job_id, {})[row.task_id] = row
    return found


def plan_of(job: Job) -> list[str]:
    """The ids of a job's plan; none of one that another writer of the database has spoilt."""
    plan: Any = job.plan
    is_right = isinstance(plan, list) and all(isinstance(one, str) for one in plan)
    return [one.encode("utf-8", "replace").decode() for one in plan] if is_right else []


def task_lines(job: Job, rows: dict[str, TaskStatus]) -> list[TaskLine]:
    """The tasks of a job's plan, each with its row of *rows* when it has one."""
    sequence = find_sequence(job.sequence)
    default = get_config().max_attempts
    lines = []
    before_done = True
    for number, task_id in enumerate(plan_of(job), 1):
        row = rows.get(task_id)
        status = _shown_status(job, row, is_next=before_done)
        before_done = before_done and status in DONE
        spec = sequence.spec(task_id) if sequence else None
        limit = (spec.retry.max_attempts if spec.retry else default) if spec else None
        lines.append(TaskLine(number, task_id, status, row, limit))
    return lines


def _shown_status(job: Job, row: TaskStatus | None, *, is_next: bool) -> str:
    """A row's status, corrected by the job's where rows are written late or not at all."""
    status = row.status if row else ""
    if status in DONE or status == TaskState.FAILED:
        return status
    if job.status in FINAL:
        return ""
    if not is_next:
        return status
    if job.status == JobStatus.RUNNING:
        return TaskState.RUNNING
    if job.status == JobStatus.READY:
        return TaskState.READY
    return status
