"""Where a value is no JSON data, and what to write instead: the slow way, for messages alone."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
import uuid
from collections.abc import Callable, Iterator
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
    # What the sentence begins with, where that is not the path.
    subject: str = ""

    def advice_with(self, verb: str) -> str:
        """`Pass str(price).`, or nothing."""
        return f"{verb} {self.advice}{self.suffix}." if self.advice else ""

    def sentence(self, verb: str, ending: str) -> str:
        """All of it, as one line for people."""
        parts = (f"{self.subject or self.path} {self.what}.", self.advice_with(verb), ending)
        return " ".join(part for part in parts if part)


def find_problem(value: Any, name: str) -> Problem | None:
    """The first thing in `value` that JSON cannot hold or would change, or None."""
    return _find(value, name, "value", ())


def heaviest(value: Any, name: str, size: int, limit: int) -> Problem:
    """That `value` is too big, with the path of the part that makes it so."""
    path, part = name, value
    while True:
        sizes = [
            (len(json.dumps(child, ensure_ascii=False).encode()), where, child)
            for _, where, child in _children(part, path)
        ]
        biggest = max(sizes, default=None, key=lambda item: item[0])
        if biggest is None or biggest[0] * 2 < size:
            break
        _, path, part = biggest
    mostly = f", most of it in {path}" if path != name else ""
    return Problem(
        path,
        f"is {size:,} bytes of JSON{mostly}; MAX_PAYLOAD_BYTES allows {limit:,}",
        "the id or the path of stored data",
        subject=name,
    )


def _children(value: Any, path: str) -> Iterator[tuple[Any, str, Any]]:
    """Key or index, path and value of all that is directly inside."""
    if isinstance(value, dict):
        yield from ((key, f"{path}[{_key(key)}]", item) for key, item in value.items())
    elif isinstance(value, list):
        yield from ((index, f"{path}[{index}]", item) for index, item in enumerate(value))


def _key(key: Any) -> str:
    text = repr(key)
    return text if len(text) <= 60 else f"{text[:57]}…{text[0]}"


def _find(value: Any, path: str, label: str, parents: tuple[int, ...]) -> Problem | None:
    """`label` is what advice calls the value: the last key on the way that could be a variable."""
    if isinstance(value, (dict, list)):
        return _find_inside(value, path, label, parents)
    for kind, find in _SCALARS:
        if isinstance(value, kind):
            return find(value, path)
    return None if value is None else _foreign(value, path, label)


def _find_inside(
    value: dict[Any, Any] | list[Any], path: str, label: str, parents: tuple[int, ...]
) -> Problem | None:
    if id(value) in parents:
        return Problem(path, "contains itself", "a copy without the circle")
    if len(parents) >= DEPTH_LIMIT:
        return Problem(path[:200], f"is nested more than {DEPTH_LIMIT} levels deep", "flatter data")
    if isinstance(value, dict) and (problem := _find_in_keys(value, path)):
        return problem
    for key, where, child in _children(value, path):
        if isinstance(key, str):
            label = key if key.isidentifier() else "value"
        if problem := _find(child, where, label, (*parents, id(value))):
            return problem
    return None


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


def _find_in_float(value: float, path: str) -> Problem | None:
    if math.isfinite(value):
        return None
    return Problem(path, f"is {value!r}{NOT_JSON}", "None, or a finite number")


def _find_in_int(value: int, path: str) -> Problem | None:
    try:
        int.__repr__(value)
    except ValueError:
        return Problem(path, "is an int of more than 4300 digits", "it as text")
    return None


_SCALARS: Final[tuple[tuple[type, Callable[[Any, str], Problem | None]], ...]] = (
    (str, _find_in_text),
    (float, _find_in_float),
    (int, _find_in_int),
)


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
    ((dt.date, dt.time), "{0}.isoformat()"),
    (dt.timedelta, "{0}.total_seconds()"),
    (uuid.UUID, "str({0})"),
    (enum.Enum, "{0}.value"),
    ((set, frozenset), "sorted({0})"),
    ((bytes, bytearray), "{0}.decode(), or base64 of it"),
)


def _advice_by_look(value: Any, label: str) -> str:
    kind = type(value)
    for looks_like, advice in _LOOKS:
        if looks_like(kind):
            return advice.format(label, kind.__name__)
    return _PLAIN


# By what it looks like: neither models nor files need to be imported to be told apart.
_LOOKS: Final[tuple[tuple[Callable[[Any], bool], str], ...]] = (
    (lambda kind: hasattr(kind, "_meta") and hasattr(kind, "pk"), "its key: {0}.pk"),
    (
        lambda kind: hasattr(kind, "values_list"),
        "keys: list({0}.values_list('pk', flat=True))",
    ),
    (
        dataclasses.is_dataclass,
        "dataclasses.asdict({0}), or declare payload_type={1}",
    ),
    (
        lambda kind: hasattr(kind, "__await__"),
        "what awaiting it gives: declare the function with async def",
    ),
    (
        lambda kind: hasattr(kind, "chunks") or hasattr(kind, "readlines"),
        'JSON data, e.g. {{"file": {0}.name}}',
    ),
    # Text that is translated when it is shown.
    (lambda kind: hasattr(kind, "_proxy____cast"), "str({0})"),
)
