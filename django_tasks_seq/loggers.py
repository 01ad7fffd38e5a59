"""Loggers of tasks: `context.logger`, one for each attempt, and the engine's own."""

from __future__ import annotations

import copy
import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache
from inspect import isclass
from typing import Any, Final, cast
from uuid import UUID

from django.core.signals import setting_changed
from django.db.utils import DataError, IntegrityError
from django.dispatch import receiver

from .conf import get_config, load
from .text import one_line

__all__ = ["BaseTaskLogger", "StdlibTaskLogger", "logger_for"]

VALUE_LENGTH: Final = 1000
OUR_LOGGERS: Final = (
    "django_tasks_seq",
    "django_tasks_seq.executor",
    "django_tasks_seq.worker",
)
# What our records carry besides their message, and rows have told.
NAMES: Final = frozenset({"job_id", "sequence", "task_id", "error", "label"})
# Names that a log record has already; `logging` refuses them in `extra`.
_TAKEN: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class BaseTaskLogger(ABC):
    """What a logger of tasks can do; `LOGGER` names a subclass, made anew for each attempt.

    `event` is constant text, what varies goes into `data`.

    Example: `context.logger.info("card charged", order_id=7)`
    """

    @abstractmethod
    def set_context(self, **data: Any) -> None:
        """Add `data` (job_id, sequence, task_id, attempt, worker) to all that is logged later."""

    @abstractmethod
    def debug(self, event: str, **data: Any) -> None:
        """Log what only a developer wants to know."""

    @abstractmethod
    def info(self, event: str, **data: Any) -> None:
        """Log what happened as it should."""

    @abstractmethod
    def warning(self, event: str, **data: Any) -> None:
        """Log what somebody should look at one day."""

    @abstractmethod
    def error(self, event: str, **data: Any) -> None:
        """Log what somebody should look at now."""


class StdlibTaskLogger(BaseTaskLogger):
    """Logs to `getLogger("django_tasks_seq")`, context and data as attributes of the record.

    A record is one line: control characters are replaced, long values are cut. `exc_info=True`
    works as it does in `logging`. A key that `logging` uses itself is written `data_<key>`.
    """

    logger: logging.Logger = logging.getLogger("django_tasks_seq")

    def __init__(self) -> None:
        self._context: dict[str, Any] = {}

    def set_context(self, **data: Any) -> None:
        # A new dict: a copy of this logger may share the old one.
        self._context = {**self._context, **data}

    def debug(self, event: str, **data: Any) -> None:
        self._log(logging.DEBUG, event, data)

    def info(self, event: str, **data: Any) -> None:
        self._log(logging.INFO, event, data)

    def warning(self, event: str, **data: Any) -> None:
        self._log(logging.WARNING, event, data)

    def error(self, event: str, **data: Any) -> None:
        self._log(logging.ERROR, event, data)

    def _log(self, level: int, event: str, data: dict[str, Any]) -> None:
        if not self.logger.isEnabledFor(level):
            return
        exc_info = data.pop("exc_info", None)
        extra = {_free(key): _plain(value) for key, value in {**self._context, **data}.items()}
        self.logger.log(level, one_line(str(event)), exc_info=exc_info, extra=extra, stacklevel=3)


def logger_for(**context: Any) -> BaseTaskLogger:
    """A logger as `LOGGER` names it, that knows `context`; cheap enough for each attempt.

    Example: `logger_for(job_id=job.id, task_id="charge").info("charged")`
    """
    logger = _factory()()
    logger.set_context(**context)
    return logger


@cache
def _factory() -> Callable[[], BaseTaskLogger]:
    loaded = load(get_config().logger, what="TASKS_SEQ['LOGGER']")
    if isclass(loaded):
        return cast("Callable[[], BaseTaskLogger]", loaded)
    return lambda: cast("BaseTaskLogger", copy.copy(loaded))


def _free(key: str) -> str:
    return f"data_{key}" if key in _TAKEN else key


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return one_line(str(value) if isinstance(value, (str, UUID)) else repr(value), VALUE_LENGTH)


class OneLine(logging.Filter):
    """Makes the arguments of a record, and the names that go along with it, texts of one line.

    The message stays a template, by which collectors group records.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Let every record pass, tidied up."""
        args = record.args
        if isinstance(args, tuple):
            record.args = tuple(map(_argument, args))
        elif args:
            record.args = {key: _argument(value) for key, value in args.items()}
        facts = vars(record)
        for name in NAMES & facts.keys():
            facts[name] = _plain(facts[name])
        return True


def _argument(value: Any) -> Any:
    if not isinstance(value, BaseException):
        return _plain(value)
    try:
        text = str(value)
    except Exception:  # noqa: BLE001 (an exception's text is other people's code)
        text = type(value).__name__
    if isinstance(value, (DataError, IntegrityError)):
        # PostgreSQL adds the row that it refused, payload and all.
        text = text.partition("\n")[0]
    return one_line(text, VALUE_LENGTH)


for _name in OUR_LOGGERS:
    logging.getLogger(_name).addFilter(OneLine())


@receiver(setting_changed)
def _forget_factory(*, setting: str, **_: Any) -> None:
    if setting == "TASKS_SEQ":
        _factory.cache_clear()
