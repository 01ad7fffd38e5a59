"""Reading columns that another writer of the database may have spoilt: it must harm no other job."""

from __future__ import annotations

import functools
from json import loads  # bound here: a task may put something else in the module
from typing import Any, Final

# No task has such an id: the job is set aside as one whose next task nobody knows, and fails in time.
UNREADABLE: Final = ("(a plan that cannot be read)",)


@functools.lru_cache(maxsize=1024)
def read_plan(text: str) -> tuple[str, ...]:
    """Task ids of a stored plan; jobs of one sequence share the text."""
    found = _read(text)
    if not isinstance(found, list) or not found or not all(map(_is_task_id, found)):
        return UNREADABLE
    return tuple(found) if len(set(found)) == len(found) else UNREADABLE


def read_verdicts(text: str | None) -> dict[str, int]:
    """How often handlers have changed an outcome; nothing when that cannot be read."""
    found = _read(text) if text else {}
    is_right = isinstance(found, dict) and all(type(count) is int for count in found.values())
    return found if is_right else {}


def _read(text: str) -> Any:
    try:
        return loads(text)
    except (ValueError, RecursionError):
        return None


def _is_task_id(value: object) -> bool:
    # Printable: neither NUL nor a lone surrogate, which no column takes. Reserved: a handler's name.
    return isinstance(value, str) and value.isprintable() and value[:1] not in {"", "@"}
