"""When a failed task is tried again: a decision as data, which the engine stores."""

from __future__ import annotations

import random as random_module
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from .declarations import is_number, refuse
from .exceptions import DontRetry, RetryLater

__all__ = ["Retry"]

Backoff = Callable[[BaseException, int], "float | None"]
ExceptionClasses = type[BaseException] | tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Retry:
    """How often and when a failed task is tried again; `Retry(1)`, the default, is never.

    The delay before attempt n + 1 is `delay * factor ** (n - 1)` seconds, at most `max_delay`; with
    `jitter` it is a random part of that, so that jobs that failed together do not return together.
    `backoff(exception, attempt)` replaces that formula; None from it means: no further attempt.
    Raises `SequenceDeclarationError` for values that make no sense.

    >>> Retry(max_attempts=3, jitter=False).next_delay(ValueError(), attempt=2)
    2.0
    """

    max_attempts: int
    delay: float = field(default=1.0, kw_only=True)
    factor: float = field(default=2.0, kw_only=True)
    max_delay: float = field(default=3600.0, kw_only=True)
    jitter: bool = field(default=True, kw_only=True)
    backoff: Backoff | None = field(default=None, kw_only=True)
    retry_on: ExceptionClasses = field(default=(Exception,), kw_only=True)
    dont_retry_on: ExceptionClasses = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "retry_on", _exceptions("retry_on", self.retry_on))
        object.__setattr__(self, "dont_retry_on", _exceptions("dont_retry_on", self.dont_retry_on))
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            refuse("Retry", f"max_attempts is {self.max_attempts!r}; give a whole number from 1.")
        for name, least in (("delay", 0.0), ("factor", 1.0), ("max_delay", 0.0)):
            if not is_number(getattr(self, name), least):
                refuse("Retry", f"{name} is {getattr(self, name)!r}; give a number from {least:g}.")
        if self.backoff is not None and not callable(self.backoff):
            refuse("Retry", f"backoff is {self.backoff!r}; give a callable (exception, attempt).")

    def next_delay(
        self,
        exception: BaseException,
        attempt: int,
        random: Callable[[], float] = random_module.random,
    ) -> float | None:
        """Seconds until the next attempt, or None when there is none.

        `attempt` is the number of attempts of this budget that are used up, from 1. Raises what
        `backoff` raises, and ValueError when that returns anything but seconds or None.
        """
        if attempt >= self.max_attempts or isinstance(exception, DontRetry):
            return None
        if isinstance(exception, RetryLater):
            return _seconds(exception.seconds, "RetryLater")
        if isinstance(exception, self.dont_retry_on) or not isinstance(exception, self.retry_on):
            return None
        if self.backoff is not None:
            seconds = self.backoff(exception, attempt)
            return None if seconds is None else _seconds(seconds, "backoff")
        return self._exponential(attempt) * (random() if self.jitter else 1.0)

    def _exponential(self, attempt: int) -> float:
        try:
            return min(self.max_delay, self.delay * self.factor ** (attempt - 1))
        except OverflowError:
            return self.max_delay


def _seconds(value: float, source: str) -> float:
    if not is_number(value, 0):
        raise ValueError(f"{source} gave {value!r}; seconds from 0 were expected.")
    return float(value)


def _exceptions(name: str, given: Any) -> tuple[type[BaseException], ...]:
    classes = (given,) if isinstance(given, type) else given
    is_iterable = isinstance(classes, Iterable)
    found = tuple(classes) if is_iterable else ()
    if not is_iterable or not all(
        isinstance(cls, type) and issubclass(cls, BaseException) for cls in found
    ):
        refuse("Retry", f"{name} is {given!r}; give a tuple of exception classes.")
    return found
