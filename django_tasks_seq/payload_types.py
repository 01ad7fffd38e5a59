"""`payload_type` of a sequence: what a job may be started with, checked before anything is written.

A dataclass, a TypedDict, a pydantic model or a msgspec Struct. Whoever starts a job passes an
instance or a dict; the task receives plain JSON data in any case. Neither pydantic nor msgspec is
imported here: a class of theirs cannot exist where they have not been imported already.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, is_typeddict

from .exceptions import InvalidPayload
from .plain_types import Mismatch, build, build_typed_dict, check_keys, to_plain

if TYPE_CHECKING:
    from .sequences import TaskSequence

__all__ = ["check_payload_type", "supports"]

ROOT: Final = "payload"


def supports(payload_type: Any) -> bool:
    """Whether this can be the `payload_type` of a sequence."""
    return _reader(payload_type) is not None


def check_payload_type(sequence: TaskSequence, payload: Any) -> Any:
    """`payload` as plain JSON data, defaults filled in; as it is when nothing was declared.

    Raises `InvalidPayload`, which names missing and unknown keys and what was probably meant.
    """
    reader = _reader(sequence.payload_type)
    if reader is None:
        return payload
    try:
        return reader(sequence.payload_type, payload)
    except Mismatch as error:
        problem = error
    raise InvalidPayload(f"{sequence.name}: {problem}. Nothing was started.", path=problem.path)


Reader = Callable[[Any, Any], Any]


def _reader(payload_type: Any) -> Reader | None:
    if not isinstance(payload_type, type):
        return None
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


def _read_dataclass(cls: Any, payload: Any) -> Any:
    return to_plain(payload if isinstance(payload, cls) else build(cls, payload, ROOT))


def _read_typed_dict(cls: Any, payload: Any) -> Any:
    return to_plain(build_typed_dict(cls, payload, ROOT))


def _read_pydantic(cls: Any, payload: Any) -> Any:
    import pydantic

    if not isinstance(payload, cls):
        _check_pydantic_keys(cls, payload)
        try:
            payload = cls.model_validate(payload)
        except pydantic.ValidationError as error:
            raise _pydantic_problem(error) from None
    return payload.model_dump(mode="json")


def _check_pydantic_keys(cls: Any, payload: Any) -> None:
    """Name all keys at once; a model that says nothing of extra keys would drop a mistyped one."""
    aliases = {name: item.validation_alias or name for name, item in cls.model_fields.items()}
    if not all(isinstance(alias, str) for alias in aliases.values()):
        return
    given = payload if isinstance(payload, dict) else {}
    required = [
        alias
        for name, alias in aliases.items()
        if cls.model_fields[name].is_required() and name not in given
    ]
    allows_extra = cls.model_config.get("extra") in ("allow", "ignore")
    known = [*aliases.values(), *aliases, *(map(str, given) if allows_extra else ())]
    check_keys(payload, required, dict.fromkeys(known), ROOT)


def _pydantic_problem(error: Any) -> Mismatch:
    first = error.errors(include_url=False, include_input=False)[0]
    path = ROOT + "".join(f"[{part!r}]" for part in first["loc"])
    return Mismatch(path, f"{path} is refused: {first['msg']}")


def _read_msgspec(cls: Any, payload: Any) -> Any:
    import msgspec

    if not isinstance(payload, cls):
        names = [item.encode_name for item in msgspec.structs.fields(cls)]
        required = [item.encode_name for item in msgspec.structs.fields(cls) if item.required]
        check_keys(payload, required, names, ROOT)
        try:
            payload = msgspec.convert(payload, cls)
        except msgspec.ValidationError as error:
            raise _msgspec_problem(str(error)) from None
    return msgspec.to_builtins(payload)


def _msgspec_problem(text: str) -> Mismatch:
    """`Expected int, got str - at `$.lines[0].sku``: their path, written as ours."""
    what, _, where = text.partition(" - at `$")
    path = ROOT
    for part in where.rstrip("`").replace("[", ".[").split("."):
        path += part if part.startswith("[") or not part else f"[{part!r}]"
    return Mismatch(path, f"{path} is refused: {what}")
