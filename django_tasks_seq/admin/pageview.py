"""The page of one job, and the addresses its buttons post to."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from django.contrib import admin, messages
from django.contrib.admin.templatetags.admin_urls import add_preserved_filters
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.forms import Media
from django.http import (
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseNotAllowed,
    HttpResponseRedirect,
)
from django.urls import URLPattern, path
from django.utils.translation import gettext as _

from .. import clock
from ..exceptions import TasksSeqError
from ..models import Job
from ..text import one_line
from .actions import VERBS, Button, Verb, button_label, in_bulk, perform, told
from .columns import job_pill, time_tag
from .links import admin_url, subject_url
from .media import STYLE_SHEET
from .page import job_page
from .standing import Standing
from .words import exact

if TYPE_CHECKING:
    from ..querysets import JobQuerySet

    JobModelAdmin = admin.ModelAdmin[Job]
else:
    JobModelAdmin = admin.ModelAdmin

REASON_LENGTH = 1000


class JobPageMixin(JobModelAdmin):
    """The read-only page of a job with its verbs, each with its own permission."""

    change_form_template = "admin/django_tasks_seq/job/change_form.html"
    # The page is a template of its own; no form is built from the model.
    fieldsets = ((None, {"fields": ()}),)

    @property
    def media(self) -> Media:
        """The style sheet after the theme's own; a class `Media` would clash with the theme's."""
        return super().media + STYLE_SHEET

    # --- who may do what

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Jobs are started by code."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Nobody edits a job: what may be done to one are its verbs."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Nobody: pruning deletes settled jobs, and who did what stays with them until then."""
        return False

    def has_view_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Whether this user may see jobs; unlike elsewhere in the admin `change_job` is not enough."""
        return self._may(request, "view_job")

    def has_retry_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Whether this user may retry jobs."""
        return self._may(request, "retry_job")

    def has_cancel_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Whether this user may cancel jobs."""
        return self._may(request, "cancel_job")

    def has_pause_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Whether this user may pause and resume jobs."""
        return self._may(request, "pause_job")

    def has_view_payload_permission(self, request: HttpRequest, obj: Job | None = None) -> bool:
        """Whether this user may see payloads and results."""
        return self._may(request, "view_payload")

    def _may(self, request: HttpRequest, codename: str) -> bool:
        return bool(request.user.has_perm(f"{Job._meta.app_label}.{codename}"))

    def _may_do(self, request: HttpRequest, verb: Verb, job: Job | None = None) -> bool:
        its_own = getattr(self, f"has_{verb.permission}_permission")
        return bool(self.has_view_permission(request, job) and its_own(request, job))

    # --- the page

    def get_queryset(self, request: HttpRequest) -> QuerySet[Job]:
        """Jobs without their payloads and results, with their worker and the database's now."""
        jobs = cast("JobQuerySet", super().get_queryset(request))
        return jobs.without_blobs().select_related("worker").annotate(now=clock.Now())

    def render_change_form(
        self, request: HttpRequest, context: dict[str, Any], *args: Any, **kwargs: Any
    ) -> HttpResponse:
        """Show the job's page in place of a form."""
        job = kwargs.get("obj") or context["original"]
        return super().render_change_form(
            request, {**context, **self.page_context(request, job)}, *args, **kwargs
        )

    def page_context(self, request: HttpRequest, job: Job) -> dict[str, Any]:
        """What the templates of the page are given."""
        page = job_page(job, show_data=self.has_view_payload_permission(request, job))
        return {
            "title": f"{job.sequence} · {job.subject_label}" if job.subject_label else job.sequence,
            "subtitle": None,
            "page": page,
            "pill": job_pill(job, page.standing.current),
            "created": time_tag(job.created_at, page.standing.now),
            "created_exact": exact(job.created_at),
            "subject_url": subject_url(self.admin_site, request, job),
            "buttons": self.buttons(request, page.standing),
        }

    def buttons(self, request: HttpRequest, standing: Standing) -> list[Button]:
        """The verbs that this user may do to a job as it stands now."""
        job = standing.job
        return [
            Button(
                self.job_url(request, name, job),
                button_label(verb, standing),
                verb.primary,
            )
            for name, verb in VERBS.items()
            if self._may_do(request, verb, job) and verb.is_offered(standing)
        ]

    def job_url(self, request: HttpRequest, view: str, job: Job) -> str:
        """The address of a page or verb of a job, with the filters of the list one came from."""
        filters = self.get_preserved_filters(request)
        context: Any = {"preserved_filters": filters, "opts": self.opts}
        url = admin_url(self.admin_site, self.model, view, job.pk)
        return add_preserved_filters(context, url)

    # --- the verbs

    def get_urls(self) -> list[URLPattern]:
        """One address for each verb, in front of Django's own."""
        opts = self.opts
        own = [
            path(
                f"<uuid:job_id>/{name}/",
                self.admin_site.admin_view(self.verb_view),
                {"name": name},
                name=f"{opts.app_label}_{opts.model_name}_{name}",
            )
            for name in VERBS
        ]
        return [*own, *super().get_urls()]

    def verb_view(self, request: HttpRequest, job_id: UUID, name: str) -> HttpResponse:
        """Do one verb to one job and go back to its page; POST only."""
        if request.method != "POST":
            return HttpResponseNotAllowed(["POST"])
        verb = VERBS[name]
        job = self.get_object(request, str(job_id))
        if not self._may_do(request, verb, job):
            raise PermissionDenied
        if job is None:
            raise Http404(_("There is no such job; it may have been pruned."))
        reason = one_line(request.POST.get("reason", "").strip(), REASON_LENGTH)
        self._do(request, verb, job, reason)
        return HttpResponseRedirect(self.job_url(request, "change", job))

    def _do(self, request: HttpRequest, verb: Verb, job: Job, reason: str) -> None:
        may = partial(self._may_do, request)
        try:
            perform(verb, job, may, by=request.user.get_username(), reason=reason)
        except TasksSeqError as error:
            self.message_user(request, str(error), messages.WARNING)
            return
        self.log_change(request, job, str(verb.log))
        now = Job.objects.without_blobs().filter(pk=job.pk).first() or job
        self.message_user(request, told(verb, now), messages.SUCCESS)

    def do_in_bulk(self, request: HttpRequest, name: str, queryset: QuerySet[Job]) -> None:
        """Do a verb to each of these jobs and say how many were skipped, and why.

        Raises PermissionDenied when this user may not do it at all, whichever action has called.
        """
        verb = VERBS[name]
        may = partial(self._may_do, request)
        if not may(verb, None):
            raise PermissionDenied
        ids = list(queryset.values_list("pk", flat=True))
        bulk = in_bulk(verb, ids, by=request.user.get_username(), may=may)
        for job in bulk.done:
            self.log_change(request, job, str(verb.log))
        self.message_user(request, bulk.message, bulk.level)
