"""Where a value is no JSON data, and what to write instead: the slow way, for messages alone."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import json
import math
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from .text import article

DEPTH_LIMIT: Final = 200
SURROGATES: Final = ("\ud800", "\udfff")
NOT_JSON: Final = ", which JSON cannot hold"
_PLAIN: Final = "plain data: dict, list, str, int, float, bool or None"


@dataclass(frozen=True, slots=True)
class Problem:
    """`path` `what`; `advice` is what to pass, or return, instead."""

    path: str
    what: str
    advice: str = _PLAIN
    suffix: str = ""

    def advice_with(self, verb: str) -> str:
        """`Pass str(price).`, or nothing."""
        return f"{verb} {self.advice}{self.suffix}." if self.advice else ""

    def sentence(self, verb: str, ending: str) -> str:
        """All of it, as one line for people."""
        parts = (f"{self.path} {self.what}.", self.advice_with(verb), ending)
        return " ".join(part for part in parts if part)


def find_problem(value: Any, name: str) -> Problem | None:
    """The first thing in `value` that JSON cannot hold or would change, or None."""
    return _find(value, name, "value", ())


def heaviest(value: Any, name: str, size: int, limit: int) -> Problem:
    """That `value` is too big, with the path of the part that makes it so."""
    path, part = name, value
    while True:
        sizes = [(len(json.dumps(child)), where, child) for where, child in _children(part, path)]
        biggest = max(sizes, default=None, key=lambda item: item[0])
        if biggest is None or biggest[0] * 2 < size:
            break
        _, path, part = biggest
    mostly = f", most of it in {path}" if path != name else ""
    return Problem(
        name,
        f"is {size:,} bytes of JSON{mostly}; MAX_PAYLOAD_BYTES allows {limit:,}",
        "the id or the path of stored data",
    )


def _children(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        yield from ((f"{path}[{_key(key)}]", item) for key, item in value.items())
    elif isinstance(value, list):
        yield from ((f"{path}[{index}]", item) for index, item in enumerate(value))


def _key(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}…{text[0]}"


def _find(value: Any, path: str, label: str, parents: tuple[int, ...]) -> Problem | None:
    if value is None or value is True or value is False:
        return None
    if isinstance(value, str):
        return _find_in_text(value, path)
    if isinstance(value, (int, float)):
        return _find_in_number(value, path)
    if not isinstance(value, (dict, list)):
        return _foreign(value, path, label)
    if id(value) in parents:
        return Problem(path, "contains itself", "a copy without the circle")
    if len(parents) >= DEPTH_LIMIT:
        return Problem(path[:200], f"is nested more than {DEPTH_LIMIT} levels deep", "flatter data")
    if isinstance(value, dict) and (problem := _find_in_keys(value, path)):
        return problem
    for where, child in _children(value, path):
        label = _label(value, where, label)
        if problem := _find(child, where, label, (*parents, id(value))):
            return problem
    return None


def _label(parent: Any, path: str, label: str) -> str:
    """What the value is called in advice: the last key on the way that could be a variable."""
    if not isinstance(parent, dict):
        return label
    key = path[path.rindex("[") + 2 : -2]
    return key if key.isidentifier() else "value"


def _find_in_keys(value: dict[Any, Any], path: str) -> Problem | None:
    for key in value:
        if not isinstance(key, str):
            kind = type(key).__name__
            return Problem(
                path, f"has the key {_key(key)} ({kind}), and keys of JSON are text", "keys as str"
            )
        if problem := _find_in_text(key, f"{path} key {_key(key)}"):
            return problem
    return None


def _find_in_text(value: str, path: str) -> Problem | None:
    if "\0" in value:
        return Problem(
            path, "contains the character NUL, which databases refuse", "the text without it"
        )
    for index, character in enumerate(value):
        if SURROGATES[0] <= character <= SURROGATES[1]:
            return Problem(
                path,
                f"contains half a character (lone surrogate {character!a}) at {index}",
                "text that was decoded with errors='replace'",
            )
    return None


def _find_in_number(value: float, path: str) -> Problem | None:
    if isinstance(value, float):
        if math.isfinite(value):
            return None
        return Problem(path, f"is {value!r}{NOT_JSON}", "None, or a finite number")
    try:
        int.__repr__(value)
    except ValueError:
        return Problem(path, "is an int of more than 4300 digits", "it as text")
    return None


# --- values of other types


def _foreign(value: Any, path: str, label: str) -> Problem:
    if isinstance(value, tuple):
        return Problem(path, "is a tuple, which JSON would turn into a list", f"list({label})")
    for kinds, advice in _ADVICE:
        if isinstance(value, kinds):
            suffix = " or use a dataclass payload" if kinds is decimal.Decimal else ""
            what = f"is {value!r:.100}{NOT_JSON}"
            return Problem(path, what, advice.format(label), suffix)
    kind = type(value).__name__
    return Problem(path, f"is {article(kind)}{NOT_JSON}", _advice_by_look(value, label))


_ADVICE: Final[tuple[tuple[Any, str], ...]] = (
    (decimal.Decimal, "str({0})"),
    ((datetime.date, datetime.time), "{0}.isoformat()"),
    (datetime.timedelta, "{0}.total_seconds()"),
    (uuid.UUID, "str({0})"),
    (enum.Enum, "{0}.value"),
    ((set, frozenset), "sorted({0})"),
    ((bytes, bytearray), "{0}.decode(), or base64 of it"),
)


def _advice_by_look(value: Any, label: str) -> str:
    """By what it looks like: neither models nor files need to be imported to be told apart."""
    kind = type(value)
    if hasattr(kind, "_meta") and hasattr(kind, "pk"):
        return f"its key: {label}.pk"
    if hasattr(kind, "values_list"):
        return f"keys: list({label}.values_list('pk', flat=True))"
    if dataclasses.is_dataclass(value):
        return f"dataclasses.asdict({label}), or declare payload_type={kind.__name__}"
    if inspect.isawaitable(value):
        return "what awaiting it gives: declare the function with async def"
    if hasattr(kind, "chunks") or hasattr(kind, "readlines"):
        return 'JSON data, e.g. {"file": ' + label + ".name}"
    if hasattr(kind, "_proxy____cast") or hasattr(kind, "__html__"):
        return f"str({label})"
    return _PLAIN
