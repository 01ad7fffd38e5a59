"""How an attempt can end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .cache.changes import Failure


@dataclass(frozen=True, slots=True)
class Returned:
    """The task returned: *text* is what is stored, *value* what the next task receives."""

    text: str | None
    value: Any


@dataclass(frozen=True, slots=True)
class Raised:
    """The task raised, or ran too long."""

    failure: Failure
    error: BaseException


@dataclass(frozen=True, slots=True)
class Stopped:
    """The task ended because it was told to: released, it costs nothing."""

    reason: str


@dataclass(frozen=True, slots=True)
class Committed:
    """The task has written its own outcome; *requested* is what a person asked of the job."""

    text: str | None
    value: Any
    requested: str


@dataclass(frozen=True, slots=True)
class Decided:
    """An error handler has changed the job's outcome, and that is written."""

    verb: str
    # The job's status, when it is settled by that.
    settled: str = ""


@dataclass(frozen=True, slots=True)
class Gone:
    """The claim was lost: nothing may be written."""


Outcome = Returned | Raised | Stopped | Committed | Decided | Gone
