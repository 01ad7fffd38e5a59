"""How far an order's job is: one reading for the order's page and for the terminal."""

from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Prefetch

from django_tasks_seq.models import Job, TaskStatus

from .models import Order

MARKS = {"SUCCESSFUL": "✓", "FAILED": "✗", "WAITING": "↻", "RUNNING": "▶", "SKIPPED": "»"}
LABELS = {
    "validate": "Checking the order",
    "charge": "Charging the card",
    "reserve": "Putting the goods aside",
    "invoice": "Writing the invoice",
    "photos": "Making pictures",
    "email": "Sending the confirmation",
}
SEGMENT = 17
WORDS = {"SUCCESSFUL": "done", "FAILED": "failed", "RUNNING": "running", "SKIPPED": "skipped"}


@dataclass(frozen=True, slots=True)
class TaskLine:
    """One task: its status, and in words what there is to say of it."""

    task_id: str
    status: str
    attempts: int = 0
    note: str = ""
    done: int = 0
    total: int = 0

    @property
    def label(self) -> str:
        """What a customer would call it."""
        return LABELS.get(self.task_id, self.task_id)

    @property
    def mark(self) -> str:
        """One character for the status."""
        return MARKS.get(self.status, "·")

    @property
    def word(self) -> str:
        """One word for the status."""
        if self.status == "WAITING":
            return f"retry after attempt {self.attempts}"
        return WORDS.get(self.status, "to do")


@dataclass(frozen=True, slots=True)
class Progress:
    """One order, its job and its tasks."""

    order: Order
    job: Job
    tasks: tuple[TaskLine, ...]

    @property
    def done(self) -> int:
        """How many tasks are behind it."""
        return sum(task.status in {"SUCCESSFUL", "SKIPPED"} for task in self.tasks)

    @property
    def current(self) -> TaskLine | None:
        """The task that is neither done nor to come, if there is one."""
        return next((t for t in self.tasks if t.status in {"RUNNING", "WAITING", "FAILED"}), None)

    @property
    def segments(self) -> list[tuple[int, TaskLine]]:
        """Each task with the place of its segment in a bar."""
        return [(index * SEGMENT, task) for index, task in enumerate(self.tasks)]

    @property
    def bar_width(self) -> int:
        """How wide that bar is."""
        return len(self.tasks) * SEGMENT

    @property
    def active(self) -> bool:
        """Whether anything may still happen by itself."""
        return not self.job.is_settled

    @property
    def word(self) -> str:
        """What one would say of the job."""
        return str(self.job.get_status_display()).lower()


def read_progress(orders: Iterable[Order]) -> list[Progress]:
    """The progress of these orders, as they come, in two queries; without a job it is left out."""
    by_id = {str(order.pk): order for order in orders}
    statuses = Prefetch("task_statuses", queryset=TaskStatus.objects.order_by("position"))
    jobs = Job.objects.filter(
        sequence="fulfil_order", subject_type=Order._meta.label_lower, subject_id__in=by_id
    ).prefetch_related(statuses)
    found = {job.subject_id: job for job in jobs.order_by("id")}
    return [
        Progress(order, found[key], _task_lines(found[key]))
        for key, order in by_id.items()
        if key in found
    ]


def _task_lines(job: Job) -> tuple[TaskLine, ...]:
    rows = {row.task_id: row for row in job.task_statuses.all()}
    lines = [_task_line(task_id, rows.get(task_id)) for task_id in job.plan]
    if job.status == Job.Status.RUNNING:
        lines = _mark_running(lines)
    return tuple(lines)


def _task_line(task_id: str, row: TaskStatus | None) -> TaskLine:
    if row is None:
        return TaskLine(task_id, "")
    progress = row.progress or {}
    done, total = progress.get("done", 0), progress.get("total", 0)
    return TaskLine(task_id, row.status, row.attempts, row.error, done, total)


def _mark_running(lines: list[TaskLine]) -> list[TaskLine]:
    """A short task has no row while it runs: the first one that is not done is the one."""
    for index, line in enumerate(lines):
        if line.status not in {"SUCCESSFUL", "SKIPPED"}:
            running = TaskLine(line.task_id, "RUNNING", line.attempts, "", line.done, line.total)
            return [*lines[:index], running, *lines[index + 1 :]]
    return lines
