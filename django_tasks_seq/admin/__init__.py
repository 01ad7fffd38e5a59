"""Jobs and workers in the admin; docs/how-to/admin.md combines the mixins with a theme."""

from __future__ import annotations

from django.contrib import admin

from ..models import Job, Worker
from .mixins import JobAdminMixin, WorkerAdminMixin

__all__ = ["JobAdmin", "JobAdminMixin", "WorkerAdmin", "WorkerAdminMixin"]


@admin.register(Job)
class JobAdmin(JobAdminMixin):
    """Jobs in the stock admin."""


@admin.register(Worker)
class WorkerAdmin(WorkerAdminMixin):
    """Workers in the stock admin."""
