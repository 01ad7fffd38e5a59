"""The one reader of settings: `TASKS_SEQ`, typed, cached, read anew when a test overrides it.

Paths in settings are imported here and nowhere else; nothing is ever imported from a row.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from inspect import isclass
from threading import RLock
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict

from django.conf import settings
from django.core.signals import setting_changed
from django.dispatch import receiver

from .conf_rules import (
    ADMIN_DEFAULTS,
    SETTING,
    AdminSettings,
    Problem,
    not_a_dict,
    unknown_keys,
    value_problems,
)
from .exceptions import ConfigurationError
from .text import suggest

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

# Two threads must not build two stores; a constructor may ask for another instance.
_building: Final = RLock()


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


@cache
def get_config() -> Config:
    """The settings as they are now; raises `ConfigurationError` when a value cannot be used.

    An unknown key is a system check error (`django_tasks_seq.E001`) and is left out here.
    """
    raw = _raw()
    for problem in value_problems(raw):
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
        return [not_a_dict(raw)]
    return [*unknown_keys(raw), *value_problems(raw)]


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


def _raw() -> Mapping[str, Any]:
    raw = getattr(settings, SETTING, {})
    if not isinstance(raw, Mapping):
        problem = not_a_dict(raw)
        raise ConfigurationError(problem.message, hint=problem.hint)
    return raw


@receiver(setting_changed)
def _forget_config(*, setting: str, **_: Any) -> None:
    if setting == SETTING:
        get_config.cache_clear()
        _built.cache_clear()
