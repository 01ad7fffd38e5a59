"""JSON rules: what goes into a row comes out as it was, or is refused before any SQL.

A value is encoded once, by the C encoder. Cheap tests on the text, and reading it back, then prove
that nothing changed on the way (a tuple would come back as a list). Only when that proof fails is
the value walked in Python, to say where it is wrong.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, Final

from .conf import get_config
from .exceptions import InvalidPayload, TaskResultError
from .json_problems import DEPTH_LIMIT, NOT_JSON, Problem, find_problem, heaviest

__all__ = [
    "MASK",
    "decode",
    "encode",
    "encode_and_decode",
    "encode_result",
    "preview",
    "redact",
]

MASK: Final = "••••••"

_encode: Final = json.JSONEncoder(allow_nan=False, ensure_ascii=False).encode
_lazy_encoder: Final = json.JSONEncoder(ensure_ascii=False, default=repr, skipkeys=True)


def encode(
    value: Any, *, name: str = "payload", max_bytes: int | None = None, ending: str = ""
) -> str | None:
    """`value` as JSON text; None stays None. `decode` gives back exactly what went in.

    Raises `InvalidPayload` with the path of what JSON cannot hold, or would change: anything but
    dict, list, str, int, float, bool and None, keys that are not str, NaN, NUL, lone surrogates,
    more than 200 levels, more than `max_bytes` (`MAX_PAYLOAD_BYTES`). `name` is what the path
    begins with, `ending` the sentence that says what was not done.

    >>> encode({"order_id": 7})
    '{"order_id": 7}'
    """
    return encode_and_decode(value, name=name, max_bytes=max_bytes, ending=ending)[0]


def encode_and_decode(
    value: Any, *, name: str = "payload", max_bytes: int | None = None, ending: str = ""
) -> tuple[str | None, Any]:
    """The text of `encode`, and what `decode` would make of it: the proof has read it already."""
    if value is None:
        return None, None
    try:
        return _prove(value, name, max_bytes)
    except _NotJsonError as refused:
        problem = refused.problem
    raise InvalidPayload(problem.sentence("Pass", ending), path=problem.path)


def encode_result(
    value: Any, task_id: str, *, max_bytes: int | None = None
) -> tuple[str | None, Any]:
    """`encode_and_decode` for what a task returned: raises `TaskResultError` instead.

    The task has run, and would do again what it did, so this failure is final.
    """
    if value is None:
        return None, None
    try:
        return _prove(value, "result", max_bytes)
    except _NotJsonError as refused:
        problem = refused.problem
    raise TaskResultError(_result_sentence(problem, task_id), task_id=task_id, path=problem.path)


def decode(text: str | None) -> Any:
    """What `encode` made a text of; None for None."""
    return None if text is None else json.loads(text)


def redact(value: Any, keys: Iterable[str]) -> Any:
    """A copy of `value` with the values of all keys masked that match one of `keys`, at any depth.

    Patterns are those of `fnmatch`, upper and lower case are the same.

    >>> redact({"card_number": "4111", "lines": [{"Token": 1, "sku": "A"}]}, ["card*", "token"])
    {'card_number': '••••••', 'lines': [{'Token': '••••••', 'sku': 'A'}]}
    """
    pattern = _key_pattern(tuple(keys))
    return value if pattern is None else _redact(value, pattern)


def preview(value: Any, limit: int = 200) -> str:
    """The beginning of `value` as JSON, at most `limit` characters; never encodes all of it.

    >>> preview({"order_id": 7, "lines": [1, 2, 3]}, 20)
    '{"order_id": 7, "li…'
    """
    text = ""
    for chunk in _lazy_encoder.iterencode(value):
        text += chunk[: limit + 1]
        if len(text) > limit:
            return f"{text[: limit - 1]}…"
    return text


class _NotJsonError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.path)
        self.problem = problem


def _prove(value: Any, name: str, max_bytes: int | None) -> tuple[str, Any]:
    try:
        text = _encode(value)
        size = len(text) if text.isascii() else len(text.encode())
        if text.count("[") + text.count("{") > DEPTH_LIMIT or "\\u0000" in text:
            _refuse_if_wrong(value, name)
        decoded = json.loads(text)
        is_same = decoded == value
    except (TypeError, ValueError, RecursionError, OverflowError) as error:
        _refuse_if_wrong(value, name)
        raise _NotJsonError(Problem(name, f"cannot be stored as JSON ({error})")) from None
    if not is_same:
        _refuse_if_wrong(value, name)
        raise _NotJsonError(Problem(name, "would be changed by JSON"))
    limit = get_config().max_payload_bytes if max_bytes is None else max_bytes
    if size > limit:
        raise _NotJsonError(heaviest(value, name, size, limit))
    return text, decoded


def _refuse_if_wrong(value: Any, name: str) -> None:
    problem = find_problem(value, name)
    if problem is not None:
        raise _NotJsonError(problem)


def _result_sentence(problem: Problem, task_id: str) -> str:
    what = (
        f"{task_id!r} returned {problem.what.removeprefix('is ').removesuffix(NOT_JSON)}."
        if problem.path == "result" and problem.what.endswith(NOT_JSON)
        else f"{task_id!r} returned what cannot be stored:"
        f" {problem.subject or problem.path} {problem.what}."
    )
    return (
        f"{what} {problem.advice_with('Return')}"
        " The task ran; it is marked failed and will not be retried."
    )


@lru_cache(maxsize=64)
def _key_pattern(keys: tuple[str, ...]) -> re.Pattern[str] | None:
    if not keys:
        return None
    return re.compile("|".join(fnmatch.translate(key) for key in keys), re.IGNORECASE)


def _redact(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, dict):
        return {
            key: MASK if pattern.match(str(key)) else _redact(item, pattern)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_redact(item, pattern) for item in value]
    return value
