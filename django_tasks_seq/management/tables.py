"""Commands that work on tables say first what is missing."""

from __future__ import annotations

from django.core.management.base import CommandError
from django.db import connections

from ..models import Job
from ..text import listing, suggest


def require_alias(alias: str, *, said_by: str, code: int = 1) -> None:
    """Raise CommandError when `DATABASES` has no such alias; *said_by* is who named it."""
    if alias not in connections:
        hint = suggest(alias, connections) or f"Aliases in DATABASES: {listing(connections)}."
        raise CommandError(
            f"{said_by} is {alias!r}, which DATABASES lacks. {hint}", returncode=code
        )


def require_tables(alias: str) -> None:
    """Raise CommandError when this app's tables are missing there."""
    if Job._meta.db_table not in connections[alias].introspection.table_names():
        raise CommandError(
            f"The tables of django_tasks_seq are missing in database {alias!r}."
            " Run: python manage.py migrate django_tasks_seq"
            + ("" if alias == "default" else f" --database {alias}")
        )
