"""The one place time comes from.

Leases, due times and order are decided by the database's clock alone (promise G7), so "now" is an
SQL expression here and never a Python value. PostgreSQL's `now()` is frozen inside a transaction and
Django's `Now()` is the server's local time on MariaDB, so neither is used.
`django_tasks_seq.testing.advance` moves `now` forward by an offset; production never sets one.
"""

from __future__ import annotations

import time
from typing import Any

from django.db.models import DateTimeField, Func

_NOW = {
    "postgresql": "clock_timestamp()",
    "mysql": "UTC_TIMESTAMP(6)",
}
# SQLite keeps text, milliseconds are its best: three zeros make it the width that Django writes.
_SQLITE_NOW = "strftime('%%Y-%%m-%%d %%H:%%M:%%f000', 'now', {modifiers})"
_ADD = {
    "postgresql": "({now} + {seconds} * interval '1 second')",
    "mysql": "({now} + INTERVAL ({seconds}) * 1000000 MICROSECOND)",
}

_offset = 0.0


def set_offset(seconds: float) -> None:
    """Move "now" by *seconds* from the database's clock; for tests only."""
    global _offset  # noqa: PLW0603
    _offset = float(seconds)


def offset() -> float:
    """Seconds that `testing.advance` has added so far."""
    return _offset


def sql(vendor: str, seconds: str | None = None) -> str:
    """SQL of the database's now, plus *seconds* (an SQL expression, usually a placeholder).

    >>> sql("postgresql", "%s")
    "(clock_timestamp() + %s * interval '1 second')"
    """
    if vendor == "sqlite":
        modifiers = f"'{_offset:+.3f} seconds'"
        if seconds is not None:
            modifiers += f", ({seconds}) || ' seconds'"
        return _SQLITE_NOW.format(modifiers=modifiers)
    now = _NOW[vendor]
    if _offset:
        now = _ADD[vendor].format(now=now, seconds=f"{_offset:.3f}")
    return now if seconds is None else _ADD[vendor].format(now=now, seconds=seconds)


def instant(vendor: str) -> str:
    """SQL of the database's now for comparing a column with: one value for the whole statement.

    So an index can be entered with it. On PostgreSQL, whose `clock_timestamp()` has another value for
    each row, the planner can estimate with it as well: hidden in a subquery, a third of a table would
    be taken for due.

    >>> instant("postgresql")
    'statement_timestamp()'
    """
    if vendor == "postgresql":
        return sql(vendor).replace("clock_timestamp()", "statement_timestamp()")
    if vendor == "mysql":
        return sql(vendor)  # one value for each statement as it is
    return f"(SELECT {sql(vendor)})"


class Now(Func):
    """The database's now, plus *seconds*, for use in querysets.

    >>> Job.objects.filter(run_after__lte=Now())  # doctest: +SKIP
    """

    output_field = DateTimeField()

    def __init__(self, seconds: float = 0.0, **extra: Any) -> None:
        self.seconds = float(seconds)
        super().__init__(**extra)

    def as_sql(self, compiler: Any, connection: Any, **_: Any) -> tuple[str, list[Any]]:  # type: ignore[override]
        if self.seconds:
            return sql(connection.vendor, "%s"), [self.seconds]
        return sql(connection.vendor), []


def unix_milliseconds() -> int:
    """This process's wall clock; good for making ids that sort, and for nothing else."""
    return time.time_ns() // 1_000_000


def unix_seconds() -> float:
    """This process's wall clock plus the tests' offset; for stores without a database clock only."""
    return time.time() + _offset
