"""What is asked of a store that deletes old jobs, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Prunable:
    """Which settled jobs may go: those that ended more than *age* seconds ago.

    With *statuses* or *sequences* (names) only jobs of those.

    >>> Prunable(30 * 86_400, statuses=("SUCCESSFUL",)).age
    2592000
    """

    age: float
    statuses: tuple[str, ...] = ()
    sequences: tuple[str, ...] = ()


@dataclass(slots=True)
class Pruned:
    """What became of one batch: *found* jobs might go, *jobs* of them went, with rows of the others.

    *seconds* is how long locks were held, *reached* the place behind the last that was found, where
    the next batch begins. Nothing was deleted when the batch was *is_slow* (it was undone when its
    time was over) or when there is a *refusal*, the database's words for why a job must stay. Of a
    batch that was neither, jobs were passed by that somebody held or that had just changed.
    """

    found: int = 0
    jobs: int = 0
    tasks: int = 0
    attempts: int = 0
    events: int = 0
    seconds: float = 0.0
    reached: Any = None
    is_slow: bool = False
    refusal: str = ""


@dataclass(slots=True)
class PrunableCount:
    """How many jobs may go, by status, and how many rows of theirs."""

    jobs: dict[str, int] = field(default_factory=dict)
    tasks: int = 0
    attempts: int = 0
    events: int = 0
