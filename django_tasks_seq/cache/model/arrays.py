"""PostgreSQL's text of an array: one parameter for a column of any number of rows.

psycopg would dump a list value by value in Python, and split a statement at each placeholder.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from uuid import UUID


def array(values: Iterable[Any]) -> str:
    r"""*values* (str, int, float, bool, UUID, datetime, None) for `%s::text[]` and the like.

    >>> array(['a "b"', None, 7])
    '{"a \\"b\\"",NULL,"7"}'
    """
    return f"{{{','.join(map(_cell, values))}}}"


def plain_array(values: Iterable[int | float | UUID]) -> str:
    """The same where nothing has to be quoted and nothing is None, with less work."""
    return f"{{{','.join(map(str, values))}}}"


def _cell(value: Any) -> str:
    if value is None:
        return "NULL"
    text = value if isinstance(value, str) else str(value)
    if "\\" in text:
        text = text.replace("\\", "\\\\")
    if '"' in text:
        text = text.replace('"', '\\"')
    return f'"{text}"'
