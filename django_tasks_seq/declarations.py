"""What is common to all declarations: where they stand, which names they may use, how they fail."""

from __future__ import annotations

import math
import os
import sys
from typing import Any, Final, NoReturn

from .exceptions import SequenceDeclarationError
from .text import article

__all__ = ["caller", "check_name", "is_number", "refuse"]

NAME_LENGTH: Final = 200
# Modules whose frames are no declaration.
_OURS: Final = {f"{__package__}.{name}" for name in ("declarations", "retry", "sequences")}


def caller() -> str:
    """`path:line` of the declaration: the nearest frame that is not of this package's own."""
    frame = sys._getframe(1)  # noqa: SLF001
    while frame.f_back is not None and frame.f_globals.get("__name__") in _OURS:
        frame = frame.f_back
    return f"{_relative(frame.f_code.co_filename)}:{frame.f_lineno}"


def refuse(subject: str, problem: str, where: str = "") -> NoReturn:
    """Raise `SequenceDeclarationError` with file and line."""
    raise SequenceDeclarationError(f"{subject}: {problem}", where=where or caller())


def check_name(name: Any, what: str, where: str, refused: str = "") -> None:
    """Refuse a name that could not be stored, shown on one line, or told from a reserved one."""
    problem = ""
    if not isinstance(name, str):
        problem = f"it is {article(type(name).__name__)}"
    elif not 1 <= len(name) <= NAME_LENGTH:
        problem = f"it is {len(name)} characters long, 1 to {NAME_LENGTH} are allowed"
    elif name != name.strip() or not name.isprintable():
        problem = "it has control characters, or spaces at an end"
    elif name.startswith("@"):
        problem = "names that begin with '@' are reserved"
    elif refused and refused in name:
        problem = f"{refused!r} is reserved"
    if problem:
        raise SequenceDeclarationError(f"{name!r:.80} cannot be {what}: {problem}.", where=where)


def is_number(value: Any, least: float) -> bool:
    """Whether this is a finite number, no bool, and at least `least`."""
    is_real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_real and math.isfinite(value) and value >= least


def _relative(path: str) -> str:
    try:
        return path.removeprefix(f"{os.getcwd()}{os.sep}")  # noqa: PTH109
    except OSError:  # the working directory is gone
        return path
