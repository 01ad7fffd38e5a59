from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class TasksSeqConfig(AppConfig):
    """The app: finds the sequences of all apps and registers the system checks."""

    name = "django_tasks_seq"
    label = "django_tasks_seq"
    default_auto_field = "django.db.models.BigAutoField"
    verbose_name = _("Task sequences")

    def ready(self) -> None:
        from . import checks, server_checks  # noqa: F401 (registers them)
        from .registry import autodiscover

        autodiscover()
