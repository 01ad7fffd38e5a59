"""The one reader of settings: `TASKS_SEQ`, typed, cached, read anew when a test overrides it.

Paths in settings are imported here and nowhere else; nothing is ever imported from a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from inspect import isclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from .exceptions import ConfigurationError
from .text import listing, suggest

if TYPE_CHECKING:
    from .cache import BaseTaskCacheHandler
    from .loggers import BaseTaskLogger

__all__ = [
    "ADMIN_DEFAULTS",
    "KNOWN_KEYS",
    "AdminSettings",
    "Config",
    "Problem",
    "TasksSeqSettings",
    "get_cache_handler",
    "get_config",
    "get_logger",
    "load",
    "settings_problems",
    "suggest",
]

SETTING: Final = "TASKS_SEQ"
# Two threads must not build two stores; a constructor may ask for another instance.
_building: Final = RLock()


class AdminSettings(TypedDict, total=False):
    """`TASKS_SEQ["ADMIN"]`: how the admin pages behave."""

    LIVE_SECONDS: float
    SUBJECT_LINKS: bool
    COUNT_LIMIT: int


class TasksSeqSettings(TypedDict, total=False):
    """The setting `TASKS_SEQ`, every key optional; docs/reference/settings.md explains each.

    Example: `TASKS_SEQ: TasksSeqSettings = {"MAX_ATTEMPTS": 3, "TIMEOUT": 60}`
    """

    LOGGER: Any
    CACHE_HANDLER: Any
    START_TASK_HANDLER: Any
    ERROR_HANDLER: Any
    SUCCESS_HANDLER: Any
    RESOLVER: Any
    DATABASE: str
    DEFAULT_QUEUE: str
    MAX_ATTEMPTS: int
    TIMEOUT: float | None
    STOP_GRACE: float
    LEASE_SECONDS: float
    POLL_INTERVAL: float
    NOTIFY: bool | Literal["auto"]
    MAX_CRASHES: int
    HANDLER_ATTEMPTS: int
    RESEND_SECONDS: float
    UNKNOWN_TASK_GRACE: float
    MAX_PAYLOAD_BYTES: int
    RETENTION_DAYS: float | None
    REDACT_KEYS: Sequence[str]
    ADMIN: AdminSettings


ADMIN_DEFAULTS: Final[AdminSettings] = {
    "LIVE_SECONDS": 2,
    "SUBJECT_LINKS": True,
    "COUNT_LIMIT": 100_000,
}
REDACT_DEFAULTS: Final = (
    "*password*",
    "*passwd*",
    "*secret*",
    "*token*",
    "*api_key*",
    "*apikey*",
    "authorization",
    "cookie",
    "card*",
    "email",
)


@dataclass(frozen=True, slots=True)
class Config:
    """What `TASKS_SEQ` says, with the defaults filled in; times are seconds.

    >>> Config().lease_seconds
    60
    """

    logger: Any = "django_tasks_seq.loggers.StdlibTaskLogger"
    cache_handler: Any = "django_tasks_seq.cache.ModelTaskCacheHandler"
    start_task_handler: Any = "django_tasks_seq.handlers.WorkerStartTaskHandler"
    error_handler: Any = None
    success_handler: Any = None
    resolver: Any = None
    database: str = "default"
    default_queue: str = "default"
    max_attempts: int = 1
    timeout: float | None = None
    stop_grace: float = 10
    lease_seconds: float = 60
    poll_interval: float = 1
    notify: bool | Literal["auto"] = "auto"
    max_crashes: int = 3
    handler_attempts: int = 5
    resend_seconds: float = 60
    unknown_task_grace: float = 3600
    max_payload_bytes: int = 1024 * 1024
    retention_days: float | None = 30
    redact_keys: tuple[str, ...] = REDACT_DEFAULTS
    admin: AdminSettings = field(default_factory=ADMIN_DEFAULTS.copy)


KNOWN_KEYS: Final = tuple(item.name.upper() for item in dataclasses.fields(Config))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something wrong with the settings: `kind` is `unknown` (a key) or `value`."""

    kind: Literal["unknown", "value"]
    message: str
    hint: str


@cache
def get_config() -> Config:
    """The settings as they are now; raises `ConfigurationError` when a value cannot be used.

    An unknown key is a system check error (`django_tasks_seq.E001`) and is left out here.
    """
    raw = _raw()
    for problem in _value_problems(raw):
        raise ConfigurationError(problem.message, hint=problem.hint)
    values = {key.lower(): value for key, value in raw.items() if key in KNOWN_KEYS}
    values["admin"] = {**ADMIN_DEFAULTS, **values.get("admin", {})}
    if "redact_keys" in values:
        values["redact_keys"] = tuple(values["redact_keys"])
    return Config(**values)


def load(path_or_object: Any, *, what: str = "") -> Any:
    """What a dotted path of the settings names; an object is returned as it is.

    Raises `ConfigurationError`, which says whether the module or only the name is missing. `what`
    is put in front of the message (`TASKS_SEQ['LOGGER']`).

    >>> load("json.dumps").__name__
    'dumps'
    """
    if not isinstance(path_or_object, str):
        return path_or_object
    module_path, _, name = path_or_object.rpartition(".")
    subject = f"{what} {path_or_object!r}".strip()
    if not module_path:
        raise ConfigurationError(
            f"{subject} is no dotted path.", hint="Write 'package.module.Name'."
        )
    module = _import(module_path, subject)
    try:
        return getattr(module, name)
    except AttributeError:
        raise ConfigurationError(
            f"{subject} cannot be imported: {module_path} has no {name!r}.",
            hint=suggest(name, dir(module)),
        ) from None
    except Exception as error:  # a module may load its names when asked for
        raise _broken_module(module_path, subject, error) from error


def get_logger() -> BaseTaskLogger:
    """The logger that `LOGGER` names, without the context of any task."""
    logger: BaseTaskLogger = _instance("logger")
    return logger


def get_cache_handler() -> BaseTaskCacheHandler:
    """The cache handler that `CACHE_HANDLER` names: one instance for the whole process."""
    handler: BaseTaskCacheHandler = _instance("cache_handler")
    return handler


def get_resolver() -> Any:
    """The resolver that `RESOLVER` names, or None."""
    return _instance("resolver")


def settings_problems() -> list[Problem]:
    """All that is wrong with `TASKS_SEQ`, for the system checks."""
    raw = getattr(settings, SETTING, {})
    if not isinstance(raw, Mapping):
        return [_not_a_dict(raw)]
    return [*_unknown_keys(raw, KNOWN_KEYS, SETTING), *_admin_keys(raw), *_value_problems(raw)]


def _instance(name: str) -> Any:
    with _building:
        return _built(name)


@cache
def _built(name: str) -> Any:
    value = getattr(get_config(), name)
    loaded = load(value, what=f"{SETTING}[{name.upper()!r}]")
    return loaded() if isclass(loaded) else loaded


def _import(module_path: str, subject: str) -> Any:
    try:
        return import_module(module_path)
    except ModuleNotFoundError as error:
        missing = error.name or module_path
        if module_path != missing and not module_path.startswith(f"{missing}."):
            raise _broken_module(module_path, subject, error) from error
        raise ConfigurationError(
            f"{subject} cannot be imported: there is no module {missing!r}.",
        ) from None
    except Exception as error:
        raise _broken_module(module_path, subject, error) from error


def _broken_module(module_path: str, subject: str, error: Exception) -> ConfigurationError:
    return ConfigurationError(
        f"{subject} cannot be imported: {module_path} raised {type(error).__name__}: {error}."
    )


# --- reading and validating


def _raw() -> Mapping[str, Any]:
    raw = getattr(settings, SETTING, {})
    if not isinstance(raw, Mapping):
        problem = _not_a_dict(raw)
        raise ConfigurationError(problem.message, hint=problem.hint)
    return raw


def _not_a_dict(raw: object) -> Problem:
    return Problem(
        "value", f"{SETTING} must be a dict, not {raw!r:.60}.", "Write TASKS_SEQ = {…} in settings."
    )


def _unknown_keys(raw: Mapping[str, Any], known: Sequence[str], where: str) -> list[Problem]:
    return [
        Problem(
            "unknown",
            f"{where} has an unknown key {key!r}.",
            suggest(str(key), known) or f"Its keys: {listing(known, 30)}.",
        )
        for key in raw
        if key not in known
    ]


def _admin_keys(raw: Mapping[str, Any]) -> list[Problem]:
    admin = raw.get("ADMIN")
    if not isinstance(admin, Mapping):
        return []
    return _unknown_keys(admin, tuple(ADMIN_DEFAULTS), f"{SETTING}['ADMIN']")


def _value_problems(raw: Mapping[str, Any]) -> list[Problem]:
    return [
        Problem("value", f"{SETTING}[{key!r}] is {value!r:.60}, which cannot be used.", hint)
        for key, value in raw.items()
        if key in _RULES
        for is_valid, hint in (_RULES[key],)
        if not is_valid(value)
    ]


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _at_least(least: float, unit: str) -> tuple[Callable[[Any], bool], str]:
    # `<` with infinity also refuses NaN.
    return (
        lambda value: _is_number(value) and least <= value < float("inf"),
        f"Give a number of {unit}, at least {least:g}.",
    )


def _whole(least: int, unit: str) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda value: type(value) is int and value >= least,
        f"Give a whole number of {unit}, at least {least}.",
    )


def _or_none(
    rule: tuple[Callable[[Any], bool], str], none: str
) -> tuple[Callable[[Any], bool], str]:
    is_valid, hint = rule
    return lambda value: value is None or is_valid(value), f"{hint[:-1]}, or None: {none}."


def _text(limit: int) -> tuple[Callable[[Any], bool], str]:
    return (
        lambda value: isinstance(value, str) and 0 < len(value.strip()) <= limit,
        f"Give a text of 1 to {limit} characters.",
    )


def _path_or_object(*, required: bool) -> tuple[Callable[[Any], bool], str]:
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


_RULES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
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


@receiver(setting_changed)
def _forget_config(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        get_config.cache_clear()
        _built.cache_clear()
