"""Dataclasses and TypedDicts to and from plain JSON data, as far as their annotations say.

No validation library: what an annotation says beyond the kinds below is accepted as it is.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import types
import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from .text import article

__all__ = ["Mismatch", "build", "build_typed_dict", "to_plain"]


class Mismatch(Exception):  # noqa: N818 (caught by the one module that calls this one)
    """The value at `path` is not what its annotation says."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} {what}")
        self.path = path


def to_plain(value: Any) -> Any:
    """JSON data of a dataclass instance or of plain data that holds dates, Decimals, UUIDs, Enums."""
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


def build(cls: Any, data: Mapping[str, Any], path: str) -> Any:
    """An instance of the dataclass `cls`; raises `Mismatch`, also for what its own checks refuse."""
    hints = get_type_hints(cls)
    values = {
        item.name: _read(data[item.name], hints[item.name], f"{path}[{item.name!r}]")
        for item in dataclasses.fields(cls)
        if item.init and item.name in data
    }
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise Mismatch(path, f"is refused by {cls.__name__}: {error}") from None


def build_typed_dict(cls: Any, data: Mapping[str, Any], path: str) -> dict[str, Any]:
    """The values of `data`, each as the TypedDict `cls` annotates it; raises `Mismatch`."""
    hints = get_type_hints(cls)
    return {
        key: _read(value, hints.get(key, Any), f"{path}[{key!r}]") for key, value in data.items()
    }


def _read(value: Any, hint: Any, path: str) -> Any:
    origin, args = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return _read_union(value, args, path)
    if origin is Literal:
        return _expect(value in args, value, path, f"one of {', '.join(map(repr, args))}")
    if origin in (list, tuple) and args:
        _expect(isinstance(value, (list, tuple)), value, path, "a list")
        return [_read(item, args[0], f"{path}[{index}]") for index, item in enumerate(value)]
    if origin is dict and args:
        _expect(isinstance(value, dict), value, path, "a dict")
        return {key: _read(item, args[1], f"{path}[{key!r}]") for key, item in value.items()}
    if isinstance(hint, type):
        return _read_class(value, hint, path)
    if hint is None or hint is type(None):
        return _expect(value is None, value, path, "None")
    return value


def _read_union(value: Any, kinds: tuple[Any, ...], path: str) -> Any:
    problems = []
    for kind in kinds:
        try:
            return _read(value, kind, path)
        except Mismatch as problem:
            problems.append(problem)
    raise problems[0]


def _read_class(value: Any, cls: type, path: str) -> Any:
    if cls in _SCALARS:
        return _expect(_SCALARS[cls](value), value, path, article(cls.__name__))
    if isinstance(value, cls) or not isinstance(value, (str, int, dict)):
        readable = cls is object or isinstance(value, cls) or not _is_known(cls)
        return _expect(readable, value, path, article(cls.__name__))
    if dataclasses.is_dataclass(cls):
        _expect(isinstance(value, dict), value, path, f"a dict for {cls.__name__}")
        return build(cls, value, path)  # type: ignore[arg-type]
    if is_typeddict(cls):
        return build_typed_dict(cls, value, path)  # type: ignore[arg-type]
    return _parse(value, cls, path)


def _is_known(cls: type) -> bool:
    return cls in _PARSE or issubclass(cls, enum.Enum) or dataclasses.is_dataclass(cls)


def _parse(value: Any, cls: type, path: str) -> Any:
    parse = cls if issubclass(cls, enum.Enum) else _PARSE.get(cls)
    if parse is None:
        return value
    try:
        return parse(value)
    except (ValueError, TypeError, decimal.InvalidOperation):
        return _expect(False, value, path, article(cls.__name__))


def _expect(is_right: bool, value: Any, path: str, expected: str) -> Any:  # noqa: FBT001
    if not is_right:
        raise Mismatch(path, f"is {value!r:.80}, not {expected}")
    return value


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


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
    decimal.Decimal: decimal.Decimal,
    datetime.datetime: datetime.datetime.fromisoformat,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: datetime.time.fromisoformat,
    uuid.UUID: uuid.UUID,
}
_WRITE: Final[tuple[tuple[Any, Callable[[Any], Any]], ...]] = (
    ((decimal.Decimal, uuid.UUID), str),
    ((datetime.date, datetime.time), lambda value: value.isoformat()),
    (datetime.timedelta, lambda value: value.total_seconds()),
)
