"""The pages of jobs and workers, to be combined with any theme's `ModelAdmin`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.db.models import Count, QuerySet
from django.forms import Media
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _, ngettext

from ..models import Job, Worker
from ..querysets import SEEN_SECONDS
from . import columns
from .filters import (
    CreatedFilter,
    QueueFilter,
    SequenceFilter,
    StatusFilter,
    WorkerFilter,
    WorkerStateFilter,
)
from .links import admin_url
from .media import STYLE_SHEET
from .pageview import JobPageMixin
from .search import id_lookups
from .standing import attach_standings, split_queues, standing_of

if TYPE_CHECKING:
    from ..querysets import WorkerQuerySet

    WorkerModelAdmin = admin.ModelAdmin[Worker]
else:
    WorkerModelAdmin = admin.ModelAdmin


# What may be seen with `view_payload` alone, and never in the list.
HIDDEN = {"payload", "result", "error_result", "verdicts"}


class JobAdminMixin(JobPageMixin):
    """Jobs: a list that says where each is and why, and a page for each. Nothing can be edited.

    Verbs need their own permissions: `retry_job`, `cancel_job`, `pause_job`; payloads and results
    need `view_payload`.

    Example: `class JobAdmin(JobAdminMixin, unfold.admin.ModelAdmin): ...`
    """

    list_display = ("job_column", "status_column", "why_column", "created_column")
    list_filter = (StatusFilter, SequenceFilter, QueueFilter, CreatedFilter, WorkerFilter)
    list_per_page = 50
    list_max_show_all = 200
    # Ids begin with the time and are unique: newest first, by the primary key.
    ordering = ("-id",)
    sortable_by = ()
    search_fields = ("subject_label", "idempotency_key", "error")
    search_help_text = _("Subject, id (its beginning or end), idempotency key, words of an error")
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = (
        "retry_selected",
        "retry_all_selected",
        "pause_selected",
        "resume_selected",
        "cancel_selected",
    )

    def lookup_allowed(self, lookup: str, value: Any, request: HttpRequest) -> bool:
        """No address may ask what is in a payload: the answers would tell it, piece by piece."""
        return lookup.split("__", 1)[0] not in HIDDEN and super().lookup_allowed(
            lookup, value, request
        )

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Job], search_term: str
    ) -> tuple[QuerySet[Job], bool]:
        """Also find ids by their beginning, and by their last digits, which the list shows."""
        found, may_repeat = super().get_search_results(request, queryset, search_term)
        by_id = id_lookups(search_term.strip())
        return (found | queryset.filter(by_id) if by_id else found), may_repeat

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """The list, with where each of its jobs stands loaded in a few queries."""
        changelist = super().get_changelist_instance(request)
        changelist.result_list = cast("Any", attach_standings(changelist.result_list))
        return changelist

    @admin.display(description=_("job"))
    def job_column(self, job: Job) -> SafeString:
        return columns.job_cell(job)

    @admin.display(description=_("status"))
    def status_column(self, job: Job) -> SafeString:
        return columns.status_cell(standing_of(job))

    @admin.display(description=_("now / why"))
    def why_column(self, job: Job) -> SafeString:
        return columns.why_cell(standing_of(job))

    @admin.display(description=_("created"))
    def created_column(self, job: Job) -> SafeString:
        return columns.created_cell(standing_of(job))

    @admin.action(permissions=["retry"], description=_("Retry from the failed task"))
    def retry_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self.do_in_bulk(request, "retry", queryset)

    @admin.action(permissions=["retry"], description=_("Retry all, from the first task"))
    def retry_all_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self.do_in_bulk(request, "retry-all", queryset)

    @admin.action(permissions=["pause"], description=_("Pause"))
    def pause_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self.do_in_bulk(request, "pause", queryset)

    @admin.action(permissions=["pause"], description=_("Resume"))
    def resume_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self.do_in_bulk(request, "resume", queryset)

    @admin.action(permissions=["cancel"], description=_("Cancel"))
    def cancel_selected(self, request: HttpRequest, queryset: QuerySet[Job]) -> None:
        self.do_in_bulk(request, "cancel", queryset)


class WorkerAdminMixin(WorkerModelAdmin):
    """Workers: who is alive, which queues each serves, and how many jobs it holds. Read-only."""

    list_display = ("worker_column", "state_column", "queues_column", "jobs_column", "seen_column")
    list_filter = (WorkerStateFilter,)
    list_per_page = 50
    ordering = ("-heartbeat_at", "-id")
    sortable_by = ()
    search_fields = ("name",)
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    actions = None

    @property
    def media(self) -> Media:
        """The style sheet after the theme's own; a class `Media` would clash with the theme's."""
        return super().media + STYLE_SHEET

    def has_view_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:
        """Whether this user may see workers; `change_worker` is not enough, unlike elsewhere."""
        opts = self.opts
        return bool(request.user.has_perm(f"{opts.app_label}.view_{opts.model_name}"))

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Workers add themselves."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:
        """Nobody: a row is written by its worker."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Worker | None = None) -> bool:
        """Nobody: maintenance removes rows of workers that are gone."""
        return False

    def get_queryset(self, request: HttpRequest) -> QuerySet[Worker]:
        return cast("WorkerQuerySet", super().get_queryset(request)).with_age()

    def get_changelist_instance(self, request: HttpRequest) -> ChangeList:
        """The list, with the number of jobs each worker holds counted in one query."""
        changelist = super().get_changelist_instance(request)
        workers = list(changelist.result_list)
        held = _held([worker.pk for worker in workers])
        for worker in workers:
            worker.held = held.get(worker.pk, 0)
        changelist.result_list = cast("Any", workers)
        return changelist

    @admin.display(description=_("worker"))
    def worker_column(self, worker: Worker) -> SafeString:
        return format_html(
            '<span class="dts-name">{}</span><span class="dts-sub">{}</span>',
            worker.name,
            ngettext("%(n)s thread", "%(n)s threads", worker.concurrency)
            % {"n": worker.concurrency},
        )

    @admin.display(description=_("status"))
    def state_column(self, worker: Any) -> SafeString:
        age = (worker.now - worker.heartbeat_at).total_seconds()
        return columns.worker_pill(worker, dead=age > SEEN_SECONDS)

    @admin.display(description=_("queues"))
    def queues_column(self, worker: Worker) -> str:
        return ", ".join(split_queues(worker.queues)) or str(_("all"))

    @admin.display(description=_("holds"))
    def jobs_column(self, worker: Any) -> str | SafeString:
        if not worker.held:
            return "—"
        text = ngettext("%(n)s job", "%(n)s jobs", worker.held) % {"n": worker.held}
        if not self.admin_site.is_registered(Job):
            return text
        url = f"{admin_url(self.admin_site, Job, 'changelist')}?worker={worker.pk}"
        return format_html('<a href="{}">{}</a>', url, text)

    @admin.display(description=_("seen"))
    def seen_column(self, worker: Any) -> SafeString:
        started = columns.time_tag(worker.started_at, worker.now)
        return format_html(
            '{}<span class="dts-sub">{} {}</span>',
            columns.time_tag(worker.heartbeat_at, worker.now),
            _("started"),
            started,
        )


def _held(worker_ids: list[int]) -> dict[int, int]:
    """Jobs in hand by worker; the index of leases leads to them."""
    held = Job.objects.filter(lease_until__isnull=False, worker_id__in=worker_ids)
    return dict(held.values_list("worker_id").annotate(n=Count("pk")).order_by())
