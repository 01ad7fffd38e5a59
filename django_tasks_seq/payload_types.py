"""`payload_type` of a sequence: what a job may be started with, checked before anything is written.

A dataclass, a TypedDict, a pydantic model or a msgspec Struct. Whoever starts a job passes an
instance or a dict; the task receives plain JSON data in any case. Neither pydantic nor msgspec is
imported here: a class of theirs cannot exist where they have not been imported already.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NoReturn, is_typeddict

from .exceptions import InvalidPayload
from .plain_types import Mismatch, build, build_typed_dict, to_plain
from .text import closest

if TYPE_CHECKING:
    from .sequences import TaskSequence

__all__ = ["check_payload_type", "supports"]

ENDING = "Nothing was started."


def supports(payload_type: Any) -> bool:
    """Whether this can be the `payload_type` of a sequence."""
    return _reader(payload_type) is not None


def check_payload_type(sequence: TaskSequence, payload: Any) -> Any:
    """`payload` as plain JSON data, defaults filled in; as it is when nothing was declared.

    Raises `InvalidPayload`, which names missing and unknown keys and what was probably meant.
    """
    if sequence.payload_type is None:
        return payload
    reader = _reader(sequence.payload_type)
    if reader is None:  # refused when it was declared
        raise AssertionError(sequence.payload_type)
    try:
        return reader(sequence.payload_type, payload)
    except Mismatch as error:
        _refuse(sequence.name, str(error), error.path)
    except InvalidKeys as error:
        _refuse(sequence.name, str(error), "payload")


class InvalidKeys(Exception):  # noqa: N818
    """Keys that are missing or unknown."""

    def __init__(
        self, missing: Iterable[str], unknown: Iterable[str], known: Iterable[str]
    ) -> None:
        names = tuple(known)
        super().__init__(
            "; ".join(
                [
                    *(f"{key!r} is missing" for key in missing),
                    *(_unknown(key, names) for key in unknown),
                ]
            )
        )


def _unknown(key: str, known: tuple[str, ...]) -> str:
    meant = closest(key, known)
    return f"{key!r} is unknown" + (f" (did you mean {meant!r}?)" if meant else "")


def _refuse(name: str, problem: str, path: str) -> NoReturn:
    raise InvalidPayload(f"{name}: {problem}. {ENDING}", path=path) from None


Reader = Callable[[Any, Any], Any]


def _reader(payload_type: Any) -> Reader | None:
    if not isinstance(payload_type, type):
        return _read_typed_dict if is_typeddict(payload_type) else None
    if is_typeddict(payload_type):
        return _read_typed_dict
    if _is_of(payload_type, "pydantic", "BaseModel"):
        return _read_pydantic
    if _is_of(payload_type, "msgspec", "Struct"):
        return _read_msgspec
    return _read_dataclass if dataclasses.is_dataclass(payload_type) else None


def _is_of(cls: type, module: str, base: str) -> bool:
    found = getattr(sys.modules.get(module), base, None)
    return isinstance(found, type) and issubclass(cls, found)


def _check_keys(payload: Any, required: Iterable[str], known: Iterable[str]) -> None:
    names = tuple(known)
    if not isinstance(payload, dict):
        raise Mismatch("payload", f"is {_kind(payload)}, not a dict with {', '.join(names)}")
    missing = [key for key in required if key not in payload]
    unknown = [str(key) for key in payload if key not in names]
    if missing or unknown:
        raise InvalidKeys(missing, unknown, names)


def _kind(value: Any) -> str:
    return "None" if value is None else f"of type {type(value).__name__}"


def _read_dataclass(cls: Any, payload: Any) -> Any:
    if isinstance(payload, cls):
        return to_plain(payload)
    fields = [item for item in dataclasses.fields(cls) if item.init]
    required = [
        item.name
        for item in fields
        if item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING
    ]
    _check_keys(payload, required, [item.name for item in fields])
    return to_plain(build(cls, payload, "payload"))


def _read_typed_dict(cls: Any, payload: Any) -> Any:
    _check_keys(payload, sorted(cls.__required_keys__), cls.__annotations__)
    return to_plain(build_typed_dict(cls, payload, "payload"))


def _read_pydantic(cls: Any, payload: Any) -> Any:
    import pydantic

    if isinstance(payload, cls):
        return payload.model_dump(mode="json")
    if not isinstance(payload, dict):
        _check_keys(payload, (), cls.model_fields)
    if cls.model_config.get("extra") is None:
        _refuse_extra(cls, payload)
    try:
        return cls.model_validate(payload).model_dump(mode="json")
    except pydantic.ValidationError as error:
        raise _pydantic_problem(cls, error) from None


def _refuse_extra(cls: Any, payload: dict[str, Any]) -> None:
    """A model that says nothing of extra keys would drop a mistyped one without a word."""
    known = list(cls.model_fields)
    aliases = [item.validation_alias for item in cls.model_fields.values() if item.validation_alias]
    if not all(isinstance(alias, str) for alias in aliases):
        return
    required = [
        item.validation_alias or name
        for name, item in cls.model_fields.items()
        if item.is_required() and name not in payload
    ]
    if any(key not in known and key not in aliases for key in payload):
        _check_keys(payload, required, [*known, *aliases])


def _pydantic_problem(cls: Any, error: Any) -> Exception:
    errors = error.errors(include_url=False, include_input=False)
    missing = [
        item["loc"][0] for item in errors if item["type"] == "missing" and len(item["loc"]) == 1
    ]
    unknown = [item["loc"][0] for item in errors if item["type"] == "extra_forbidden"]
    if missing or unknown:
        return InvalidKeys(missing, unknown, cls.model_fields)
    first = errors[0]
    path = "payload" + "".join(f"[{part!r}]" for part in first["loc"])
    return Mismatch(path, f"is refused: {first['msg']}")


def _read_msgspec(cls: Any, payload: Any) -> Any:
    import msgspec

    if not isinstance(payload, cls):
        fields = msgspec.structs.fields(cls)
        _check_keys(
            payload,
            [item.encode_name for item in fields if item.required],
            [item.encode_name for item in fields],
        )
        try:
            payload = msgspec.convert(payload, cls)
        except msgspec.ValidationError as error:
            raise _msgspec_problem(str(error)) from None
    return msgspec.to_builtins(payload)


def _msgspec_problem(text: str) -> Mismatch:
    """`Expected int, got str - at $.lines[0].sku`: their path, written as ours."""
    what, _, where = text.partition(" - at `$")
    path = "payload"
    for part in where.rstrip("`").replace("[", ".[").split("."):
        path += part if part.startswith("[") or not part else f"[{part!r}]"
    return Mismatch(path, f"is refused: {what}")
