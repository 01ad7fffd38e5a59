"""Durations, numbers and choices as people write and read them in commands."""

from __future__ import annotations

import re
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterable
from typing import Final

from ..text import listing, suggest

UNITS: Final = {"w": 7 * 86_400, "d": 86_400, "h": 3600, "m": 60, "s": 1}
NAMES: Final = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))
LONGEST: Final = 100 * 365 * 86_400
DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([wdhms])", re.IGNORECASE | re.ASCII)


def duration(text: str) -> float:
    """Seconds of `30d`, `12h`, `90m`, `45s` or `2w`; raises ArgumentTypeError."""
    found = DURATION.fullmatch(text.strip())
    if not found:
        unit = " has no unit" if re.fullmatch(r"\s*\d+(\.\d+)?\s*", text) else " is no duration"
        raise ArgumentTypeError(f"{text!r}{unit}: write 30d, 12h, 90m or 45s")
    seconds = float(found[1]) * UNITS[found[2].lower()]
    if seconds > LONGEST:
        raise ArgumentTypeError(f"{text!r} is more than a hundred years")
    return seconds


def spoken(seconds: float) -> str:
    """`30 days`, `90 minutes`: in the largest unit that needs no fraction."""
    for size, name in NAMES:
        if seconds and seconds % size == 0:
            return counted(int(seconds // size), name)
    return f"{seconds:g} seconds"


def grouped(number: int) -> str:
    """`12 403`."""
    return f"{number:,}".replace(",", " ")


def counted(number: int, noun: str, plural: str = "") -> str:
    """`1 job`, `12 403 jobs`."""
    return f"{grouped(number)} {noun if number == 1 else plural or f'{noun}s'}"


def joined(parts: Iterable[str]) -> str:
    """`a, b and c`."""
    every = list(parts)
    return " and ".join([", ".join(every[:-1]), every[-1]] if len(every) > 1 else every)


def names(text: str) -> tuple[str, ...]:
    """An argument type: the names of a list with commas, in order, each once; none is an error."""
    found = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not found:
        # What a variable that is not set leaves must not mean all.
        raise ArgumentTypeError("no name is given")
    return found


def some_of(choices: Iterable[str], noun: str) -> Callable[[str], tuple[str, ...]]:
    """An argument type: names of a list with commas, each one of *choices*, in upper or lower case."""
    known = {choice.lower(): choice for choice in choices}

    def parse(text: str) -> tuple[str, ...]:
        chosen = [name.lower() for name in names(text)]
        for name in chosen:
            if name not in known:
                hint = suggest(name, known) or f"There are: {listing(known)}."
                raise ArgumentTypeError(f"{name!r} is no {noun}. {hint}")
        return tuple(str(known[name]) for name in chosen)

    return parse
