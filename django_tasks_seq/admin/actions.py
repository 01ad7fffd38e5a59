"""What people do to jobs from the admin: the verbs, one by one and in bulk.

The executor decides what is allowed and writes the `JobEvent`; here are permissions, words and the
log entry.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.utils.functional import Promise
from django.utils.translation import gettext as _, gettext_lazy, ngettext_lazy

from .. import executor
from ..choices import JobStatus, Requested, TaskState
from ..exceptions import JobNotFound, TasksSeqError
from ..models import Job
from ..transitions import JOB
from .standing import Standing, plan_of

Text = str | Promise
# Whether a person may do this verb, to this job or, with None, to any at all.
May = Callable[["Verb", Job | None], bool]


class Act(Protocol):
    """An executor's verb."""

    def __call__(self, job: Job, *, by: str, reason: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Verb:
    """Something a person may do to a job.

    `permission` is the codename's first word (`retry` for `retry_job`), `transitions` the verbs of
    the transitions table that allow it, `bulk` the beginning of the message after a bulk action.
    """

    name: str
    permission: str
    transitions: tuple[str, ...]
    act: Act
    log: Text
    bulk: Callable[[int], Text]
    label: Text
    primary: bool = False

    def is_offered(self, standing: Standing) -> bool:
        """Whether a job in this status shows the button; the executor has the last word."""
        job = standing.job
        if self.name == "resume" and job.requested == Requested.PAUSE:
            return True
        if self.name == job.requested:  # it was asked for already
            return False
        return any(job.status in JOB[verb].sources for verb in self.transitions)


def _retry_all(job: Job, *, by: str, reason: str) -> Any:
    return executor.retry(job, from_task=next(iter(plan_of(job)), ""), by=by, reason=reason)


def _plural(one: str, many: str) -> Callable[[int], Text]:
    return lambda n: ngettext_lazy(one, many, n) % {"n": n}


VERBS: Final[dict[str, Verb]] = {
    verb.name: verb
    for verb in (
        Verb(
            "retry",
            "retry",
            ("retry",),
            executor.retry,
            gettext_lazy("Retried from the failed task."),
            _plural("Retried %(n)s job", "Retried %(n)s jobs"),
            gettext_lazy("Retry"),
            primary=True,
        ),
        Verb(
            "retry-all",
            "retry",
            ("retry_from",),
            _retry_all,
            gettext_lazy("Retried from the first task."),
            _plural("Retried %(n)s job", "Retried %(n)s jobs"),
            gettext_lazy("Retry all"),
        ),
        Verb(
            "resume",
            "pause",
            ("resume",),
            executor.resume,
            gettext_lazy("Resumed."),
            _plural("Resumed %(n)s job", "Resumed %(n)s jobs"),
            gettext_lazy("Resume"),
            primary=True,
        ),
        Verb(
            "pause",
            "pause",
            ("pause", "request"),
            executor.pause,
            gettext_lazy("Paused."),
            _plural("Paused %(n)s job", "Paused %(n)s jobs"),
            gettext_lazy("Pause"),
        ),
        Verb(
            "cancel",
            "cancel",
            ("cancel",),
            executor.cancel,
            gettext_lazy("Cancelled."),
            _plural("Cancelled %(n)s job", "Cancelled %(n)s jobs"),
            gettext_lazy("Cancel"),
        ),
    )
}


@dataclass(frozen=True, slots=True)
class Button:
    """A button of the job page: it posts to *url*."""

    url: str
    label: str
    primary: bool


def button_label(verb: Verb, standing: Standing) -> str:
    """`Retry from “reserve_stock”`: it says where the job will go on."""
    line = standing.current
    if verb.name == "retry" and line is not None:
        if line.status == TaskState.FAILED:
            return _("Retry from “%(task)s”") % {"task": line.task_id}
        return _("Go on from “%(task)s”") % {"task": line.task_id}
    if verb.name == "retry-all" and standing.job.status == JobStatus.SUCCESSFUL:
        return _("Run again from the first task")
    return str(verb.label)


def told(verb: Verb, job: Job) -> str:
    """What to say after *verb* was done to *job*, which was read again since."""
    if job.requested == Requested.CANCEL and verb.name == "cancel":
        return _("“%(job)s” was asked to cancel: it ends before its next task.") % {"job": job}
    if job.requested == Requested.PAUSE and verb.name == "pause":
        return _("“%(job)s” was asked to pause: it stops before its next task.") % {"job": job}
    return f"{job}: {verb.log}"


@dataclass(slots=True)
class Bulk:
    """What came of a verb done to many jobs."""

    verb: Verb
    done: list[Job] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)

    @property
    def level(self) -> int:
        """A warning when a job was skipped."""
        return messages.WARNING if self.skipped else messages.SUCCESS

    @property
    def message(self) -> str:
        """`Retried 3 jobs, skipped 1 (running)`."""
        done = str(self.verb.bulk(len(self.done)))
        if not self.skipped:
            return f"{done}."
        return _("%(done)s, skipped %(n)s (%(why)s).") % {
            "done": done,
            "n": self.skipped.total(),
            "why": self._why(),
        }

    def _why(self) -> str:
        if len(self.skipped) == 1:
            return next(iter(self.skipped))
        return ", ".join(f"{n} {word}" for word, n in self.skipped.most_common())


def perform(verb: Verb, job: Job, may: May, *, by: str, reason: str = "") -> None:
    """Do *verb* to *job*; raises PermissionDenied unless this person *may*, however he came here."""
    if not may(verb, job):
        raise PermissionDenied
    verb.act(job, by=by, reason=reason)


def anyone(verb: Verb, job: Job | None) -> bool:
    """For code that acts for nobody in particular."""
    return True


def in_bulk(
    verb: Verb, job_ids: Iterable[UUID], *, by: str, reason: str = "", may: May = anyone
) -> Bulk:
    """Do *verb* to each job by itself; one that is refused is skipped and counted."""
    bulk = Bulk(verb)
    # In one order, for two people's actions may each be one transaction (ATOMIC_REQUESTS).
    for job_id in sorted(job_ids):
        job = Job.objects.without_blobs().filter(pk=job_id).first()
        try:
            if job is None:
                raise JobNotFound(job_id)
            perform(verb, job, may, by=by, reason=reason)
        except (TasksSeqError, PermissionDenied) as error:
            bulk.skipped[_status_word(error)] += 1
        else:
            bulk.done.append(job)
    return bulk


def _status_word(error: Exception) -> str:
    """The status that forbade it, as it was when the executor looked."""
    if isinstance(error, PermissionDenied):
        return _("not allowed")
    status = getattr(error, "status", "")
    if status in JobStatus.values:
        return str(JobStatus(status).label).lower()
    return _("gone") if isinstance(error, JobNotFound) else _("not possible")
