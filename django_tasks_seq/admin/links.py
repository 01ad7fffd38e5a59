"""Addresses inside one admin site, whatever its name."""

from __future__ import annotations

from django.apps import apps
from django.contrib.admin import AdminSite
from django.contrib.admin.utils import quote
from django.db.models import Model
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse

from ..conf import get_config
from ..models import Job


def admin_url(site: AdminSite, model: type[Model], view: str, *args: object) -> str:
    """The address of a model's `changelist`, `change` or another view of *site*."""
    opts = model._meta
    name = f"admin:{opts.app_label}_{opts.model_name}_{view}"
    return reverse(name, args=[quote(str(arg)) for arg in args], current_app=site.name)


def subject_url(site: AdminSite, request: HttpRequest, job: Job) -> str:
    """The admin page of the job's subject, or "": not registered here, or not for this user's eyes.

    The row itself is not read: the page behind the link decides about it.
    """
    if not job.subject_type or not job.subject_id or not get_config().admin["SUBJECT_LINKS"]:
        return ""
    try:
        model = apps.get_model(job.subject_type)
    except (LookupError, ValueError):  # renamed or removed since the job was started
        return ""
    if not site.is_registered(model):
        return ""
    if not site.get_model_admin(model).has_view_permission(request):
        return ""
    try:
        return admin_url(site, model, "change", job.subject_id)
    except NoReverseMatch:
        return ""
