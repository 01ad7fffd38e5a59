"""Handlers: the bases, the verdicts, and the start handlers that are shipped."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .base import (
    UNCHANGED,
    BaseErrorHandler,
    BaseStartTaskHandler,
    BaseSuccessHandler,
    Complete,
    RetryJob,
    RetryTask,
    error_handler_for,
    handler_due_for,
    start_handler_for,
    success_handler_for,
)

if TYPE_CHECKING:
    from .start import InlineStartTaskHandler, SignalStartTaskHandler, WorkerStartTaskHandler

__all__ = [
    "UNCHANGED",
    "BaseErrorHandler",
    "BaseStartTaskHandler",
    "BaseSuccessHandler",
    "Complete",
    "InlineStartTaskHandler",
    "RetryJob",
    "RetryTask",
    "SignalStartTaskHandler",
    "WorkerStartTaskHandler",
    "error_handler_for",
    "handler_due_for",
    "start_handler_for",
    "success_handler_for",
]

_SHIPPED = ("InlineStartTaskHandler", "SignalStartTaskHandler", "WorkerStartTaskHandler")


def __getattr__(name: str) -> Any:
    # Inline runs tasks, so its module needs the executor, which needs this package.
    if name in _SHIPPED:
        from . import start

        return getattr(start, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
