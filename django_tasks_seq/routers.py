"""A database router that keeps all tables of this app on the alias that `DATABASE` names."""

from __future__ import annotations

from typing import Any, Final

from .conf import get_config

__all__ = ["JobRouter"]

APP: Final = "django_tasks_seq"


class JobRouter:
    """Sends jobs to `TASKS_SEQ["DATABASE"]` and to no other database; has no word for other apps.

    Needed when `DATABASE` is not `"default"`, so that `migrate` makes the tables there alone.

    Example: `DATABASE_ROUTERS = ["django_tasks_seq.routers.JobRouter"]`
    """

    def db_for_read(self, model: Any, **_hints: Any) -> str | None:
        """The alias of `DATABASE` for our models; leases are never read from a replica."""
        return self._alias(model)

    def db_for_write(self, model: Any, **_hints: Any) -> str | None:
        """The alias of `DATABASE` for our models."""
        return self._alias(model)

    def allow_migrate(self, db: str, app_label: str, **_hints: Any) -> bool | None:
        """Our tables are made on the alias of `DATABASE` alone."""
        return db == get_config().database if app_label == APP else None

    def _alias(self, model: Any) -> str | None:
        return get_config().database if model._meta.app_label == APP else None
