"""Questions about rows, each with one name; the worker, the admin and metrics ask the same ones."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from django.db import models, transaction
from django.db.models import Q

from . import clock
from .choices import FINAL, JobStatus
from .conf import get_config

if TYPE_CHECKING:
    from .models import Job, Worker  # noqa: F401

# A worker beats every second; one that missed this many seconds is taken for dead by people's views.
# What becomes of its jobs is decided by their leases, never by this.
SEEN_SECONDS = 15.0
DELETED_AT_ONCE = 500


class JobQuerySet(models.QuerySet["Job"]):
    """Jobs, by what one asks about them."""

    def due(self) -> JobQuerySet:
        """Jobs whose next task, or whose handler, may begin now."""
        ready = Q(status=JobStatus.READY) | Q(status=JobStatus.WAITING, run_after__lte=clock.Now())
        handler = Q(run_after__lte=clock.Now()) & ~Q(handler_due="")
        free = Q(lease_until__isnull=True) | Q(lease_until__lt=clock.Now())
        return self.filter(ready | (handler & free))

    def active(self) -> JobQuerySet:
        """Jobs that are not final."""
        return self.exclude(status__in=FINAL)

    def failed(self) -> JobQuerySet:
        """Jobs that ended as FAILED."""
        return self.filter(status=JobStatus.FAILED)

    def stuck(self) -> JobQuerySet:
        """Jobs that are running on paper only: their lease has ended."""
        return self.filter(status=JobStatus.RUNNING, lease_until__lt=clock.Now())

    def needs_attention(self) -> JobQuerySet:
        """Jobs a person should look at: failed, stuck, or with a handler that gave up."""
        stuck = Q(status=JobStatus.RUNNING, lease_until__lt=clock.Now())
        return self.filter(Q(status=JobStatus.FAILED) | stuck | ~Q(handler_error=""))

    def settled(self) -> JobQuerySet:
        """Jobs that are final and have no handler due."""
        return self.filter(status__in=FINAL, handler_due="")

    def queues_in_use(self) -> list[str]:
        """Queues of the thousand jobs that were started last, by name."""
        recent = self.order_by("-id").values_list("queue", flat=True)[:1000]
        return sorted(set(recent))

    def for_subject(self, subject: models.Model) -> JobQuerySet:
        """Jobs that were started with `subject=` this instance, newest first."""
        return self.filter(
            subject_type=subject._meta.label_lower, subject_id=str(subject.pk)
        ).order_by("-id")

    def without_blobs(self) -> JobQuerySet:
        """Leave out what may be a megabyte a row; for lists."""
        return self.defer("payload", "result", "error_result")

    def delete(self) -> tuple[int, dict[str, int]]:
        """Delete these jobs and all rows about them; returns what Django returns.

        Each job is locked before the rows about it are deleted, and several in the order of their
        ids, as everybody does it. One that does not match any more by then stays.
        """
        total: Counter[str] = Counter()
        with transaction.atomic(using=self.db):
            ids = sorted(self.values_list("pk", flat=True))
            for start in range(0, len(ids), DELETED_AT_ONCE):
                some = ids[start : start + DELETED_AT_ONCE]
                rows = JobQuerySet(self.model, using=self.db).filter(pk__in=some)
                list(rows.select_for_update().order_by("pk").values_list("pk"))
                total.update(super(JobQuerySet, self.filter(pk__in=some)).delete()[1])
        return total.total(), dict(total)

    delete.alters_data = True  # type: ignore[attr-defined]
    delete.queryset_only = True  # type: ignore[attr-defined]


class WorkerQuerySet(models.QuerySet["Worker"]):
    """Workers, by what one asks about them."""

    def alive(self) -> WorkerQuerySet:
        """Workers that have been seen within the last seconds and have not stopped."""
        return self.filter(stopped_at=None, heartbeat_at__gte=clock.Now(-SEEN_SECONDS))

    def dead(self) -> WorkerQuerySet:
        """Workers that vanished: not stopped in order, not seen for a while."""
        return self.filter(stopped_at=None, heartbeat_at__lt=clock.Now(-SEEN_SECONDS))

    def with_age(self) -> WorkerQuerySet:
        """Add `now`, the database's clock, so that ages need no clock of ours."""
        return self.annotate(now=clock.Now())


class PinnedManager(models.Manager[Any]):
    """Uses the alias that `TASKS_SEQ["DATABASE"]` names, unless `using()` says otherwise."""

    use_in_migrations = False

    @property
    def db(self) -> str:
        return self._db or get_config().database

    def get_queryset(self) -> models.QuerySet[Any]:
        return super().get_queryset().using(self.db)
