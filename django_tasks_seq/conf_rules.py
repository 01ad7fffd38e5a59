"""What each setting may be, and the words for one that is something else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypedDict

from .text import listing, suggest

__all__ = [
    "ADMIN_DEFAULTS",
    "RULES",
    "AdminSettings",
    "Problem",
    "not_a_dict",
    "unknown_keys",
    "value_problems",
]

SETTING: Final = "TASKS_SEQ"
Rule = tuple[Callable[[Any], bool], str]


class AdminSettings(TypedDict, total=False):
    """`TASKS_SEQ["ADMIN"]`: how the admin pages behave."""

    LIVE_SECONDS: float
    SUBJECT_LINKS: bool
    COUNT_LIMIT: int


ADMIN_DEFAULTS: Final[AdminSettings] = {
    "LIVE_SECONDS": 2,
    "SUBJECT_LINKS": True,
    "COUNT_LIMIT": 100_000,
}


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the settings: `kind` is `unknown` (a key) or `value`."""

    kind: Literal["unknown", "value"]
    message: str
    hint: str


def not_a_dict(raw: object) -> Problem:
    """That `TASKS_SEQ` itself is something else."""
    return Problem(
        "value", f"{SETTING} must be a dict, not {raw!r:.60}.", "Write TASKS_SEQ = {…} in settings."
    )


def unknown_keys(raw: Mapping[str, Any]) -> list[Problem]:
    """A problem for each key that would do nothing, those of `ADMIN` included."""
    admin = raw.get("ADMIN")
    inner = admin if isinstance(admin, Mapping) else {}
    return [
        *_unknown(raw, tuple(RULES), SETTING),
        *_unknown(inner, tuple(ADMIN_DEFAULTS), f"{SETTING}['ADMIN']"),
    ]


def value_problems(raw: Mapping[str, Any]) -> list[Problem]:
    """A problem for each value that cannot be used."""
    return [
        Problem("value", f"{SETTING}[{key!r}] is {value!r:.60}, which cannot be used.", hint)
        for key, value in raw.items()
        if key in RULES
        for is_valid, hint in (RULES[key],)
        if not is_valid(value)
    ]


def _unknown(raw: Mapping[str, Any], known: Sequence[str], where: str) -> list[Problem]:
    return [
        Problem(
            "unknown",
            f"{where} has an unknown key {key!r}.",
            suggest(str(key), known) or f"Its keys: {listing(known, 30)}.",
        )
        for key in raw
        if key not in known
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _at_least(least: float, unit: str) -> Rule:
    # `<` with infinity also refuses NaN.
    return (
        lambda value: _is_number(value) and least <= value < float("inf"),
        f"Give a number of {unit}, at least {least:g}.",
    )


def _whole(least: int, unit: str) -> Rule:
    return (
        lambda value: type(value) is int and value >= least,
        f"Give a whole number of {unit}, at least {least}.",
    )


def _or_none(rule: Rule, none: str) -> Rule:
    is_valid, hint = rule
    return lambda value: value is None or is_valid(value), f"{hint[:-1]}, or None: {none}."


def _text(limit: int) -> Rule:
    return (
        lambda value: isinstance(value, str) and 0 < len(value.strip()) <= limit,
        f"Give a text of 1 to {limit} characters.",
    )


def _path_or_object(*, required: bool) -> Rule:
    hint = "Give a dotted path 'package.module.Name', a class or an object"
    return (
        lambda value: (
            (value is not None or not required)
            and not isinstance(value, (int, float, Mapping, list, tuple, set))
        ),
        f"{hint}." if required else f"{hint}, or None.",
    )


def _is_words(value: object) -> bool:
    return isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(word, str) for word in value
    )


def _is_admin(value: object) -> bool:
    if not isinstance(value, Mapping):
        return False
    merged = {**ADMIN_DEFAULTS, **value}
    return (
        _is_number(merged["LIVE_SECONDS"])
        and merged["LIVE_SECONDS"] >= 1
        and isinstance(merged["SUBJECT_LINKS"], bool)
        and type(merged["COUNT_LIMIT"]) is int
        and merged["COUNT_LIMIT"] >= 1
    )


RULES: Final[dict[str, Rule]] = {
    "LOGGER": _path_or_object(required=True),
    "CACHE_HANDLER": _path_or_object(required=True),
    "START_TASK_HANDLER": _path_or_object(required=True),
    "ERROR_HANDLER": _path_or_object(required=False),
    "SUCCESS_HANDLER": _path_or_object(required=False),
    "RESOLVER": _path_or_object(required=False),
    "DATABASE": _text(200),
    "DEFAULT_QUEUE": _text(100),
    "MAX_ATTEMPTS": _whole(1, "attempts"),
    "TIMEOUT": _or_none(_at_least(0.001, "seconds"), "no limit"),
    "STOP_GRACE": _at_least(0, "seconds"),
    "LEASE_SECONDS": _at_least(1, "seconds"),
    "POLL_INTERVAL": _at_least(0.01, "seconds"),
    "NOTIFY": (lambda value: value in (True, False, "auto"), "Give True, False or 'auto'."),
    "MAX_CRASHES": _whole(1, "crashes"),
    "HANDLER_ATTEMPTS": _whole(1, "attempts"),
    "RESEND_SECONDS": _at_least(1, "seconds"),
    "UNKNOWN_TASK_GRACE": _at_least(0, "seconds"),
    "MAX_PAYLOAD_BYTES": _whole(1, "bytes"),
    "RETENTION_DAYS": _or_none(_at_least(0, "days"), "keep for ever"),
    "REDACT_KEYS": (_is_words, "Give a list of key names; * stands for any characters."),
    "ADMIN": (
        _is_admin,
        "LIVE_SECONDS is a number from 1, SUBJECT_LINKS a boolean, COUNT_LIMIT a whole number.",
    ),
}
