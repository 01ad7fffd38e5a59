"""Dataclasses and TypedDicts to and from plain JSON data, as far as their annotations say.

No validation library: what an annotation says beyond the kinds below is accepted as it is.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import types
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from .text import article, closest, listing

__all__ = ["Mismatch", "build", "build_typed_dict", "check_keys", "to_plain"]


class Mismatch(Exception):
    """The value at `path` is not what was declared; the text says how."""

    def __init__(self, path: str, text: str) -> None:
        super().__init__(text)
        self.path = path


def check_keys(data: Any, required: Iterable[str], known: Iterable[str], path: str) -> None:
    """Raise `Mismatch`, naming them all, when keys are missing or unknown, or `data` is no dict."""
    names = tuple(known)
    if not isinstance(data, dict):
        given = "None" if data is None else f"of type {type(data).__name__}"
        raise Mismatch(path, f"{path} is {given}, not a dict with {listing(names)}")
    problems = [f"{key!r} is missing" for key in required if key not in data]
    problems += [_unknown(str(key), names) for key in data if key not in names]
    if problems:
        where = "" if path == "payload" else f"{path}: "
        raise Mismatch(path, where + "; ".join(problems))


def _unknown(key: str, known: tuple[str, ...]) -> str:
    meant = closest(key, known)
    return f"{key!r} is unknown" + (f" (did you mean {meant!r}?)" if meant else "")


def to_plain(value: Any) -> Any:
    """JSON data of a dataclass, or of plain data that holds dates, Decimals, UUIDs, Enums."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: to_plain(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, dict):
        return {key: to_plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, enum.Enum):
        return to_plain(value.value)
    for kind, write in _WRITE:
        if isinstance(value, kind):
            return write(value)
    return value


def build(cls: Any, data: Any, path: str) -> Any:
    """An instance of the dataclass `cls`; raises `Mismatch`, also for what it refuses itself."""
    fields = {item.name: item for item in dataclasses.fields(cls) if item.init}
    required = [
        name
        for name, item in fields.items()
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    check_keys(data, required, fields, path)
    values = _read_values(cls, data, path)
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise Mismatch(path, f"{path} is refused by {cls.__name__}: {error}") from None


def build_typed_dict(cls: Any, data: Any, path: str) -> dict[str, Any]:
    """The values of `data`, each as the TypedDict `cls` annotates it; raises `Mismatch`."""
    hints = get_type_hints(cls)
    check_keys(data, [key for key in hints if key in cls.__required_keys__], hints, path)
    return _read_values(cls, data, path)


def _read_values(cls: Any, data: dict[str, Any], path: str) -> dict[str, Any]:
    hints = get_type_hints(cls)
    return {key: _read(value, hints[key], f"{path}[{key!r}]") for key, value in data.items()}


def _read(value: Any, hint: Any, path: str) -> Any:
    origin = get_origin(hint)
    if origin in _READ_GENERIC:
        return _READ_GENERIC[origin](value, get_args(hint), path)
    if isinstance(hint, type) and origin is None:
        return _read_class(value, hint, path)
    return value


def _read_list(value: Any, kinds: tuple[Any, ...], path: str) -> list[Any]:
    _expect(isinstance(value, (list, tuple)), value, path, "a list")
    return [_read(item, kinds[0], f"{path}[{index}]") for index, item in enumerate(value)]


def _read_dict(value: Any, kinds: tuple[Any, ...], path: str) -> dict[str, Any]:
    _expect(isinstance(value, dict), value, path, "a dict")
    return {key: _read(item, kinds[1], f"{path}[{key!r}]") for key, item in value.items()}


def _read_literal(value: Any, allowed: tuple[Any, ...], path: str) -> Any:
    return _expect(value in allowed, value, path, f"one of {listing(map(repr, allowed))}")


def _read_union(value: Any, kinds: tuple[Any, ...], path: str) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _read(value, kind, path)
        except Mismatch as problem:
            problems.append(problem)
    raise problems[0]


def _read_class(value: Any, cls: Any, path: str) -> Any:
    if cls in _SCALARS:
        return _expect(_SCALARS[cls](value), value, path, article(cls.__name__))
    if is_typeddict(cls):
        return build_typed_dict(cls, value, path)
    if dataclasses.is_dataclass(cls):
        return _read_dataclass(value, cls, path)
    parse = cls if issubclass(cls, enum.Enum) else _PARSE.get(cls)
    return value if parse is None else _parse(parse, value, cls, path)


def _read_dataclass(value: Any, cls: Any, path: str) -> Any:
    return value if isinstance(value, cls) else build(cls, value, path)


def _parse(parse: Callable[[Any], Any], value: Any, cls: Any, path: str) -> Any:
    if isinstance(value, cls):
        return value
    try:
        return parse(value)
    except (ValueError, TypeError, AttributeError, ArithmeticError):
        return _expect(False, value, path, article(cls.__name__))


def _expect(is_right: bool, value: Any, path: str, expected: str) -> Any:  # noqa: FBT001
    if not is_right:
        raise Mismatch(path, f"{path} is {value!r:.80}, not {expected}")
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


_READ_GENERIC: Final[dict[Any, Callable[[Any, tuple[Any, ...], str], Any]]] = {
    Union: _read_union,
    types.UnionType: _read_union,
    Literal: _read_literal,
    list: _read_list,
    dict: _read_dict,
}
_SCALARS: Final[dict[type, Callable[[Any], bool]]] = {
    int: _is_int,
    float: lambda value: _is_int(value) or isinstance(value, float),
    str: lambda value: isinstance(value, str),
    bool: lambda value: isinstance(value, bool),
    list: lambda value: isinstance(value, (list, tuple)),
    dict: lambda value: isinstance(value, dict),
    type(None): lambda value: value is None,
}
_PARSE: Final[dict[type, Callable[[Any], Any]]] = {
    decimal.Decimal: lambda value: decimal.Decimal(str(value)),
    dt.datetime: dt.datetime.fromisoformat,
    dt.date: dt.date.fromisoformat,
    dt.time: dt.time.fromisoformat,
    dt.timedelta: lambda value: dt.timedelta(seconds=value),
    uuid.UUID: uuid.UUID,
}
_WRITE: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    ((decimal.Decimal, uuid.UUID), str),
    ((dt.date, dt.time), lambda value: value.isoformat()),
    (dt.timedelta, lambda value: value.total_seconds()),
)
