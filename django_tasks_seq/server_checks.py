"""The system check that asks a database: `migrate` makes it, and `check --database`."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

from django.core.checks import CheckMessage, Error, Tags, register
from django.db import connections

from .conf import get_config, settings_problems

APP: Final = "django_tasks_seq"
# The first that passes by rows which somebody holds.
LEAST_MARIADB: Final = (10, 6)


@register(Tags.database, APP)
def check_server(databases: Collection[str] | None = None, **_kwargs: Any) -> list[CheckMessage]:
    """E013 a server that jobs cannot be kept in: MySQL, and MariaDB before 10.6."""
    if any(problem.kind == "value" for problem in settings_problems()):
        return []
    alias = get_config().database
    if alias not in (databases or ()) or connections[alias].vendor != "mysql":
        return []
    connection: Any = connections[alias]
    if connection.mysql_is_mariadb and connection.mysql_version >= LEAST_MARIADB:
        return []
    version = ".".join(map(str, connection.mysql_version))
    return [
        Error(
            f"{alias!r} is {connection.display_name} {version}, where jobs cannot be claimed.",
            hint="Use MariaDB 10.6 or later, PostgreSQL or SQLite.",
            id=f"{APP}.E013",
        )
    ]
