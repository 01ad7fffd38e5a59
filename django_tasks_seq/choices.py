"""The words a job, a task and a request can be in."""

from __future__ import annotations

from django.db.models import TextChoices
from django.utils.translation import pgettext_lazy


class JobStatus(TextChoices):
    """Where a job stands. Final: SUCCESSFUL, FAILED, CANCELLED."""

    # Its next task may begin now.
    READY = "READY", pgettext_lazy("Job", "Ready")
    # Its next task may begin at `run_after`: a late start, or a retry.
    WAITING = "WAITING", pgettext_lazy("Job", "Waiting")
    # A worker or a consumer holds the claim.
    RUNNING = "RUNNING", pgettext_lazy("Job", "Running")
    # A person stopped it; nothing happens until somebody resumes it.
    PAUSED = "PAUSED", pgettext_lazy("Job", "Paused")
    SUCCESSFUL = "SUCCESSFUL", pgettext_lazy("Job", "Successful")
    FAILED = "FAILED", pgettext_lazy("Job", "Failed")
    CANCELLED = "CANCELLED", pgettext_lazy("Job", "Cancelled")


class TaskState(TextChoices):
    """Where a task of a job stands. A task that has no row yet is READY."""

    READY = "READY", pgettext_lazy("Task", "Ready")
    # An attempt failed, the next is due later.
    WAITING = "WAITING", pgettext_lazy("Task", "Waiting to retry")
    RUNNING = "RUNNING", pgettext_lazy("Task", "Running")
    SUCCESSFUL = "SUCCESSFUL", pgettext_lazy("Task", "Successful")
    FAILED = "FAILED", pgettext_lazy("Task", "Failed")
    SKIPPED = "SKIPPED", pgettext_lazy("Task", "Skipped")


class AttemptOutcome(TextChoices):
    """How an attempt that did not succeed ended."""

    FAILED = "FAILED", pgettext_lazy("Attempt", "Failed")
    TIMED_OUT = "TIMED_OUT", pgettext_lazy("Attempt", "Timed out")
    LOST = "LOST", pgettext_lazy("Attempt", "Lost with its worker")
    # It had succeeded, and a person let the job run again from here or before.
    SUPERSEDED = "SUPERSEDED", pgettext_lazy("Attempt", "Superseded")


class Requested(TextChoices):
    """What a person asked of a running job."""

    CANCEL = "cancel", pgettext_lazy("Job request", "Cancel")
    PAUSE = "pause", pgettext_lazy("Job request", "Pause")


class HandlerDue(TextChoices):
    """Which handler of a final job is still to be run."""

    SUCCESS = "success", pgettext_lazy("Handler", "Success handler")
    ERROR = "error", pgettext_lazy("Handler", "Error handler")


FINAL = (JobStatus.SUCCESSFUL, JobStatus.FAILED, JobStatus.CANCELLED)
DONE = (TaskState.SUCCESSFUL, TaskState.SKIPPED)
# A handler is due under a task id of its own, which no declared task can have.
HANDLER_TASK_ID = {HandlerDue.SUCCESS: "@success", HandlerDue.ERROR: "@error"}


def handler_task_id(handler: str) -> str:
    """The id that a handler's attempts are kept under; `@unknown` for one that a spoilt row names."""
    found = (task_id for due, task_id in HANDLER_TASK_ID.items() if due == handler)
    return next(found, "@unknown")
