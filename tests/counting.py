"""What a block of code costs the database: its statements, by their first word, and its commits."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import connection


class Cost:
    """Statements of a block, by their first word."""

    def __init__(self) -> None:
        self.words: list[str] = []
        self.commits = 0

    def __eq__(self, other: object) -> bool:
        return (self.words, self.commits) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"{self.words} in {self.commits} commits"


@contextmanager
def cost() -> Iterator[Cost]:
    """Count what goes to the database; an `executemany` is one statement, which SQLite runs in C."""
    found = Cost()

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        word = re.split(r"\W", sql.strip(), maxsplit=1)[0].upper()
        if sql.startswith("WITH RECURSIVE"):
            word = "SELECT"  # names of queues
        if word != "BEGIN":
            found.words.append(word)
            found.commits += not connection.in_atomic_block and word != "SELECT"
        return execute(sql, params, many, context)

    real: Any = connection
    commit = real._commit

    def counted() -> Any:
        found.commits += 1
        return commit()

    real._commit = counted
    try:
        with connection.execute_wrapper(count):
            yield found
    finally:
        del real._commit
