"""JSON rules: what goes into a row comes out as it was, or is refused before any SQL.

A value is encoded once, by the C encoder. Cheap tests on the text, and reading it back, then prove
that nothing changed on the way (a tuple would come back as a list). Only when that proof fails is
the value walked in Python, to say where it is wrong.
"""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from json import loads  # bound here: a task may put something else in the module
from typing import Any, Final

from .conf import get_config
from .exceptions import InvalidPayload, TaskResultError
from .json_problems import DEPTH_LIMIT, NOT_JSON, Problem, find_problem, heaviest
from .text import MASK

__all__ = [
    "MASK",
    "decode",
    "encode",
    "encode_and_decode",
    "encode_result",
    "preview",
    "redact",
    "secrets_in",
    "secrets_of",
]

# Of a shorter text a mask would tell more than it hides, all over a message.
SECRET_LENGTH: Final = 4
SECRET_DIGITS: Final = 6
SECRETS: Final = 1000
PIECE: Final = 256

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
    return None if text is None else loads(text)


def redact(value: Any, keys: Iterable[str]) -> Any:
    """A copy of `value` with the values of all keys masked that match one of `keys`, at any depth.

    Patterns are those of `fnmatch`, upper and lower case are the same.

    >>> redact({"card_number": "4111", "lines": [{"Token": 1, "sku": "A"}]}, ["card*", "token"])
    {'card_number': '••••••', 'lines': [{'Token': '••••••', 'sku': 'A'}]}
    """
    pattern = _key_pattern(tuple(keys))
    return value if pattern is None else _redact(value, pattern)


def secrets_in(value: Any, keys: Iterable[str]) -> tuple[str, ...]:
    """What `redact` would mask in *value*, as texts to be masked where they are repeated.

    Texts of four characters and more, numbers of six digits and more, in pieces of 256; the thousand
    longest, the longest first.

    >>> secrets_in({"order_id": 7, "password": "swordfish"}, ["password"])
    ('swordfish',)
    """
    pattern = _key_pattern(tuple(keys))
    if pattern is None:
        return ()
    found = {piece for text in _secret_texts(value, pattern) for piece in _pieces(text)}
    return tuple(sorted(found, key=lambda text: (-len(text), text))[:SECRETS])


def secrets_of(texts: Iterable[str | None], keys: Iterable[str]) -> tuple[str, ...]:
    """`secrets_in` of JSON texts; one that is no JSON any more has none."""
    patterns = tuple(keys)
    if not patterns:
        return ()
    values = []
    for text in texts:
        with suppress(ValueError, RecursionError):
            values.append(decode(text))
    return secrets_in(values, patterns)


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
        decoded = loads(text)
        is_same = bool(decoded == value)
    except _NotJsonError:
        raise
    except Exception as error:  # noqa: BLE001 (a class may raise anything when it is looked at)
        raise _NotJsonError(_why(error, value, name)) from None
    if not is_same:
        _refuse_if_wrong(value, name)
        raise _NotJsonError(Problem(name, "would be changed by JSON"))
    limit = get_config().max_payload_bytes if max_bytes is None else max_bytes
    if size > limit:
        raise _NotJsonError(heaviest(value, name, size, limit))
    return text, decoded


def _why(error: Exception, value: Any, name: str) -> Problem:
    """What is wrong with a value that raised *error*; it may raise again, whatever is asked of it."""
    reason = type(error).__name__
    try:
        reason = str(error)
        problem = find_problem(value, name)
    except Exception:  # noqa: BLE001 (as above)
        problem = None
    return problem or Problem(name, f"cannot be stored as JSON ({reason})")


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


def _secret_texts(
    value: Any, pattern: re.Pattern[str], *, is_secret: bool = False
) -> Iterator[str]:
    if isinstance(value, dict):
        for key, item in value.items():
            inside = is_secret or pattern.match(str(key)) is not None
            yield from _secret_texts(item, pattern, is_secret=inside)
    elif isinstance(value, list):
        for item in value:
            yield from _secret_texts(item, pattern, is_secret=is_secret)
    elif is_secret and isinstance(value, str) and len(value) >= SECRET_LENGTH:
        yield value
    elif is_secret and type(value) in {int, float} and len(str(value)) >= SECRET_DIGITS:
        yield str(value)


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), PIECE):
        piece = text[start : start + PIECE]
        if len(piece) >= SECRET_LENGTH:
            yield piece
