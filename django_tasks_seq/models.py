"""The rows: a job, its task statuses, its attempts that did not succeed, what people did, workers.

A short task that succeeds costs one inserted row (its `TaskStatus`) and no update. Foreign keys have
no constraint in the database: checking them would lock the job's row for each task, and all rows of a
job are deleted together.
"""

from __future__ import annotations

from typing import Any

from django.db import models, transaction
from django.db.models import CheckConstraint, F, Index, Q, UniqueConstraint
from django.utils.translation import gettext_lazy as _

from . import clock
from .choices import (
    FINAL,
    AttemptOutcome,
    HandlerDue,
    JobStatus,
    Requested,
    TaskState,
)
from .conf import get_config
from .fields import JSONTextField
from .ids import short_id, uuid7
from .querysets import JobQuerySet, PinnedManager, WorkerQuerySet

JobManager = PinnedManager.from_queryset(JobQuerySet)
WorkerManager = PinnedManager.from_queryset(WorkerQuerySet)
RowManager = PinnedManager.from_queryset(models.QuerySet)


class Worker(models.Model):
    """One life of one worker process, from its start to its end."""

    id = models.BigAutoField(primary_key=True)
    name = models.CharField(_("name"), max_length=200)
    hostname = models.CharField(_("host"), max_length=200)
    pid = models.PositiveIntegerField(_("process id"))
    queues = models.CharField(_("queues"), max_length=1000, blank=True)
    concurrency = models.PositiveIntegerField(_("concurrency"))
    draining = models.BooleanField(_("draining"), default=False)
    started_at = models.DateTimeField(_("started"), default=clock.Now)
    heartbeat_at = models.DateTimeField(_("last seen"), default=clock.Now)
    stopped_at = models.DateTimeField(_("stopped"), null=True)

    objects = WorkerManager()

    class Meta:
        verbose_name = _("worker")
        verbose_name_plural = _("workers")
        indexes = [Index(fields=["heartbeat_at"], name="tseq_worker_heartbeat")]

    def __str__(self) -> str:
        return self.name


class Job(models.Model):
    """One run of a sequence.

    >>> Job.objects.for_subject(order).first().status  # doctest: +SKIP
    'SUCCESSFUL'
    """

    Status = JobStatus

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    sequence = models.CharField(_("sequence"), max_length=200)
    version = models.PositiveIntegerField(_("version"), default=1)
    plan = JSONTextField(
        _("plan"), help_text=_("Ids of its tasks in order, as they were at its start.")
    )
    status = models.CharField(
        _("status"), max_length=10, choices=JobStatus.choices, default=JobStatus.READY
    )
    queue = models.CharField(_("queue"), max_length=100, default="default")
    priority = models.SmallIntegerField(_("priority"), default=0)
    # Claims go through an index that is ascending in all its columns, so the priority is turned round.
    rank = models.GeneratedField(
        expression=F("priority") * -1, output_field=models.SmallIntegerField(), db_persist=True
    )
    payload = JSONTextField(_("payload"), null=True)
    result = JSONTextField(_("result"), null=True)
    error = models.TextField(_("error"), blank=True, default="", db_default="")
    error_result = JSONTextField(_("result of the error handler"), null=True)
    handler_error = models.TextField(_("error of a handler"), blank=True, default="", db_default="")
    requested = models.CharField(
        _("requested"),
        max_length=10,
        choices=Requested.choices,
        blank=True,
        default="",
        db_default="",
    )
    carried = models.BooleanField(_("carried"), default=False, db_default=False)
    run_after = models.DateTimeField(_("due"), default=clock.Now)
    idempotency_key = models.CharField(_("idempotency key"), max_length=200, null=True)
    subject_type = models.CharField(_("subject type"), max_length=200, blank=True, default="")
    subject_id = models.CharField(_("subject id"), max_length=200, blank=True, default="")
    subject_label = models.CharField(_("subject"), max_length=200, blank=True, default="")
    created_by = models.CharField(_("started by"), max_length=200, blank=True, default="")
    created_at = models.DateTimeField(_("created"), default=clock.Now)
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    # The claim: a number that only rises, and only by a claim, who holds it and until when.
    claim_token = models.BigIntegerField(default=0, db_default=0, editable=False)
    worker = models.ForeignKey(
        Worker,
        verbose_name=_("worker"),
        null=True,
        on_delete=models.DO_NOTHING,
        db_constraint=False,
        db_index=False,
        related_name="jobs",
    )
    lease_until = models.DateTimeField(null=True, editable=False)
    # Lost by a dead worker, and no checkpoint since: its next task is watched (promise G9).
    suspect = models.BooleanField(default=False, db_default=False, editable=False)
    unknown_since = models.DateTimeField(null=True, editable=False)
    handler_due = models.CharField(
        max_length=10,
        choices=HandlerDue.choices,
        blank=True,
        default="",
        db_default="",
        editable=False,
    )
    handler_attempts = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)
    # How often a handler has changed this job's outcome, by verdict.
    verdicts = JSONTextField(null=True, editable=False)
    # When `handle_start` is called again for a carried job that has not begun, and how often it was.
    resend_at = models.DateTimeField(null=True, editable=False)
    resends = models.PositiveSmallIntegerField(default=0, db_default=0, editable=False)

    # Set by `executor.start_sequence`: false when the idempotency key had started this job before.
    was_started: bool = True

    objects = JobManager()

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        permissions = [
            ("retry_job", "Can retry jobs"),
            ("cancel_job", "Can cancel jobs"),
            ("pause_job", "Can pause and resume jobs"),
            ("skip_job", "Can skip tasks of jobs"),
            ("view_payload", "Can see payloads and results"),
        ]
        constraints = [
            UniqueConstraint(fields=["sequence", "idempotency_key"], name="tseq_job_idempotency"),
            CheckConstraint(condition=Q(status__in=JobStatus.values), name="tseq_job_status"),
            CheckConstraint(
                condition=Q(status__in=FINAL, finished_at__isnull=False)
                | (~Q(status__in=FINAL) & Q(finished_at__isnull=True, handler_due="")),
                name="tseq_job_final",
            ),
            CheckConstraint(
                condition=Q(priority__gte=-100, priority__lte=100), name="tseq_job_priority"
            ),
        ]
        indexes = [
            Index(
                fields=["queue", "rank", "run_after", "id"],
                condition=Q(status=JobStatus.READY, carried=False),
                name="tseq_job_claim",
            ),
            Index(
                fields=["run_after"], condition=Q(status=JobStatus.WAITING), name="tseq_job_waiting"
            ),
            Index(
                fields=["lease_until"],
                condition=Q(lease_until__isnull=False),
                name="tseq_job_lease",
            ),
            Index(fields=["run_after"], condition=~Q(handler_due=""), name="tseq_job_handler"),
            Index(
                fields=["resend_at"], condition=Q(resend_at__isnull=False), name="tseq_job_resend"
            ),
            Index(
                fields=["subject_type", "subject_id"],
                condition=~Q(subject_id=""),
                name="tseq_job_subject",
            ),
            # For pruning: a job is entered once, by the write that ends it.
            Index(
                fields=["finished_at"],
                condition=Q(finished_at__isnull=False),
                name="tseq_job_finished",
            ),
        ]

    def __str__(self) -> str:
        return self.subject_label or f"{self.sequence} {short_id(self.id)}"

    @property
    def is_final(self) -> bool:
        """Whether it is SUCCESSFUL, FAILED or CANCELLED."""
        return self.status in FINAL

    @property
    def is_settled(self) -> bool:
        """Whether it is final and no handler of it is due."""
        return self.is_final and not self.handler_due

    def refresh(self) -> Job:
        """Read this job again from the database; returns itself."""
        self.refresh_from_db(using=self._state.db or get_config().database)
        return self

    async def arefresh(self) -> Job:
        """Async twin of `refresh`."""
        await self.arefresh_from_db(using=self._state.db or get_config().database)
        return self

    def delete(
        self,
        using: str | None = None,
        keep_parents: bool = False,  # noqa: FBT001, FBT002 (Django's own signature)
    ) -> tuple[int, dict[str, int]]:
        """Delete this job and all rows about it, under its lock; returns what Django returns."""
        alias = using or self._state.db or get_config().database
        with transaction.atomic(using=alias):
            list(Job.objects.using(alias).select_for_update().filter(pk=self.pk).values_list("pk"))
            return super().delete(using=alias, keep_parents=keep_parents)

    delete.alters_data = True  # type: ignore[attr-defined]

    def task_results(self) -> dict[str, Any]:
        """Results of its tasks that have succeeded or were skipped, by task id."""
        rows = self.task_statuses.filter(status__in=(TaskState.SUCCESSFUL, TaskState.SKIPPED))
        return dict(rows.order_by("position").values_list("task_id", "result"))


class TaskStatus(models.Model):
    """One task of a job: there is a row once it has begun, ended, waits or was skipped."""

    Status = TaskState

    # One index fewer to write for each task than with a key of its own.
    pk = models.CompositePrimaryKey("job_id", "task_id")
    job = models.ForeignKey(
        Job,
        on_delete=models.CASCADE,
        related_name="task_statuses",
        db_constraint=False,
        db_index=False,
    )
    task_id = models.CharField(_("task"), max_length=200)
    position = models.PositiveSmallIntegerField(_("position"))
    status = models.CharField(_("status"), max_length=10, choices=TaskState.choices)
    attempts = models.PositiveIntegerField(_("attempts"), default=0, db_default=0)
    # Attempts that were spent when a person granted new ones.
    budget_start = models.PositiveIntegerField(default=0, db_default=0)
    # Declared `on_lost="fail"`: kept here, for whoever rescues it may not know its sequence.
    fails_when_lost = models.BooleanField(default=False, db_default=False)
    # Losses with a worker while a row said that this task was running (promise G9).
    crashes = models.PositiveSmallIntegerField(default=0, db_default=0)
    # Given by an error handler in place of the previous result.
    payload = JSONTextField(null=True)
    result = JSONTextField(_("result"), null=True)
    error = models.TextField(_("error"), blank=True, default="", db_default="")
    progress = JSONTextField(_("progress"), null=True)
    cursor = JSONTextField(_("cursor"), null=True)
    worker_name = models.CharField(
        _("worker"), max_length=200, blank=True, default="", db_default=""
    )
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), null=True)

    objects = RowManager()

    class Meta:
        verbose_name = _("task status")
        verbose_name_plural = _("task statuses")
        constraints = [
            CheckConstraint(condition=Q(status__in=TaskState.values), name="tseq_task_status"),
        ]

    def __str__(self) -> str:
        return f"{self.task_id}: {self.get_status_display()}"


class TaskAttempt(models.Model):
    """An attempt that did not succeed, or whose success a person has set aside."""

    Outcome = AttemptOutcome

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, related_name="attempts", db_constraint=False, db_index=False
    )
    task_id = models.CharField(_("task"), max_length=200)
    attempt = models.PositiveIntegerField(_("attempt"))
    outcome = models.CharField(_("outcome"), max_length=10, choices=AttemptOutcome.choices)
    exception_class = models.CharField(_("exception"), max_length=300, blank=True, default="")
    exception_bases = JSONTextField(null=True)
    message = models.TextField(_("message"), blank=True, default="")
    traceback = models.TextField(_("traceback"), blank=True, default="")
    result = JSONTextField(_("result"), null=True)
    worker_name = models.CharField(_("worker"), max_length=200, blank=True, default="")
    started_at = models.DateTimeField(_("started"), null=True)
    finished_at = models.DateTimeField(_("finished"), default=clock.Now)

    objects = RowManager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        indexes = [Index(fields=["job", "id"], name="tseq_attempt_job")]

    def __str__(self) -> str:
        return f"{self.task_id} {self.attempt}: {self.get_outcome_display()}"


class JobEvent(models.Model):
    """Something a person did to a job, or an anomaly; never plain progress."""

    id = models.BigAutoField(primary_key=True)
    job = models.ForeignKey(
        Job, on_delete=models.CASCADE, related_name="events", db_constraint=False, db_index=False
    )
    kind = models.CharField(_("event"), max_length=50)
    by = models.CharField(_("by"), max_length=200, blank=True, default="")
    reason = models.CharField(_("reason"), max_length=1000, blank=True, default="")
    status_before = models.CharField(_("before"), max_length=10, blank=True, default="")
    status_after = models.CharField(_("after"), max_length=10, blank=True, default="")
    data = JSONTextField(_("data"), null=True)
    created_at = models.DateTimeField(_("at"), default=clock.Now)

    objects = RowManager()

    class Meta:
        verbose_name = _("event")
        verbose_name_plural = _("events")
        indexes = [Index(fields=["job", "id"], name="tseq_event_job")]

    def __str__(self) -> str:
        return f"{self.kind} {self.by}".strip()
