"""Filters of the lists: none reads the table of jobs to find out what there is to choose from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from .. import clock
from ..choices import JobStatus
from ..conf import get_config
from ..models import Job, Worker
from ..registry import sequences
from .standing import split_queues

if TYPE_CHECKING:
    from ..querysets import JobQuerySet, WorkerQuerySet

Choices = list[tuple[str, Any]]
ATTENTION: Final = "attention"
HOUR, DAY = 3600, 86400


class StatusFilter(admin.SimpleListFilter):
    """Statuses of jobs, and before them what a person should look at."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [(ATTENTION, _("Needs attention")), *JobStatus.choices]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job] | None:
        if self.value() == ATTENTION:
            return cast("JobQuerySet", queryset).needs_attention()
        return _having(queryset, "status", self.value())


class SequenceFilter(admin.SimpleListFilter):
    """Registered sequences; one that is gone stays selectable by its name in the address."""

    title = _("sequence")
    parameter_name = "sequence"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return _with_value([one.name for one in sequences()], self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job] | None:
        return _having(queryset, "sequence", self.value())


class QueueFilter(admin.SimpleListFilter):
    """The default queue and those that workers name."""

    title = _("queue")
    parameter_name = "queue"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        texts = Worker.objects.order_by("-id").values_list("queues", flat=True)[:100]
        named = {queue for text in texts for queue in split_queues(text)}
        return _with_value([get_config().default_queue, *sorted(named)], self.value())

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job] | None:
        return _having(queryset, "queue", self.value())


class CreatedFilter(admin.SimpleListFilter):
    """Jobs of the last hour, day or week; ids begin with the time, so the primary key serves."""

    title = _("created")
    parameter_name = "created"
    seconds: Final = {"hour": HOUR, "day": DAY, "week": 7 * DAY}

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("hour", _("Past hour")), ("day", _("Past 24 hours")), ("week", _("Past 7 days"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job] | None:
        seconds = self.seconds.get(self.value() or "")
        if seconds is None:
            return None
        return queryset.filter(
            id__gte=_first_id(seconds + DAY), created_at__gte=clock.Now(-seconds)
        )


class WorkerFilter(admin.SimpleListFilter):
    """What one worker holds now; shown only when the list of workers has led here."""

    title = _("worker")
    parameter_name = "worker"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        value = self.value()
        if not value:
            return []
        found = Worker.objects.filter(pk=self._pk()).first()
        return [(value, found.name if found else value)]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Job]) -> QuerySet[Job]:
        return queryset.filter(worker_id=self._pk(), lease_until__isnull=False)

    def _pk(self) -> int:
        text = self.value() or ""
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


class WorkerStateFilter(admin.SimpleListFilter):
    """Workers that live, that vanished, and that stopped in order."""

    title = _("status")
    parameter_name = "state"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Choices:
        return [("alive", _("Alive")), ("dead", _("Dead")), ("stopped", _("Stopped"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Worker]) -> QuerySet[Worker] | None:
        workers = cast("WorkerQuerySet", queryset)
        if self.value() == "stopped":
            return workers.filter(stopped_at__isnull=False)
        if self.value() == "alive":
            return workers.alive()
        return workers.dead() if self.value() == "dead" else None


def _having(queryset: QuerySet[Job], column: str, value: str | None) -> QuerySet[Job] | None:
    if not value:
        return None
    # NUL is in no column, and PostgreSQL refuses to be asked for it.
    return queryset.none() if "\0" in value else queryset.filter(**{column: value})


def _with_value(names: list[str], value: str | None) -> Choices:
    return [(name, name) for name in dict.fromkeys([*names, *([value] if value else [])])]


def _first_id(seconds: float) -> UUID:
    """An id below that of any job of the last *seconds*, by this process's clock."""
    milliseconds = clock.unix_milliseconds() - int(seconds * 1000)
    return UUID(int=max(milliseconds, 0) << 80)
