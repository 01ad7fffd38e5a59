"""Questions that a driver asks of its run's PostgreSQL; part of the peers' environment."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg

from tests.benchmarks.peers import driving

Rows = list[tuple[Any, ...]]


@contextmanager
def questions() -> Iterator[Callable[..., Rows]]:
    """A function that returns the rows of a statement with values, on a connection of its own."""
    with psycopg.connect(driving.database_url(), autocommit=True) as db:
        yield lambda statement, *values: db.execute(statement.encode(), values).fetchall()


@contextmanager
def watching(statement: str, *values: Any) -> Iterator[Callable[[str], float | None]]:
    """A function that returns the number that *statement* finds for a job, whose id is its first value."""
    with questions() as ask:

        def find(job: str) -> float | None:
            rows = ask(statement, job, *values)
            return rows[0][0] if rows else None

        yield find
