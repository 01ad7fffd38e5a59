"""The engine: what a worker does. Start it with `build_engine`, or through the command."""

from __future__ import annotations

from collections.abc import Callable

from ..cache.base import BaseJobStore
from ..conf import get_config
from .loop import Engine
from .options import EngineOptions
from .runners import InlineRunner, TaskRunner
from .teller import Teller
from .wakeup import Wakeup

__all__ = [
    "Engine",
    "EngineOptions",
    "Wakeup",
    "build_engine",
    "build_inline_engine",
    "options_from_settings",
]


def options_from_settings() -> EngineOptions:
    """Engine options as `TASKS_SEQ` has them."""
    config = get_config()
    return EngineOptions(
        lease=config.lease_seconds,
        poll=config.poll_interval,
        stop_grace=config.stop_grace,
        max_crashes=config.max_crashes,
        unknown_grace=config.unknown_task_grace,
        resend=config.resend_seconds,
    )


def build_engine(
    store: BaseJobStore,
    options: EngineOptions,
    *,
    wakeup: Wakeup | None = None,
    stops: Callable[[], int] = lambda: 0,
) -> Engine:
    """An engine as a worker has it: tasks on threads and an event loop of its own."""
    wakeup = wakeup or Wakeup()
    runner = TaskRunner(options.concurrency, options.async_concurrency, wakeup.set)
    return Engine(store, options, runner, wakeup, Teller(), stops)


def build_inline_engine(store: BaseJobStore, options: EngineOptions) -> Engine:
    """The same engine with tasks in the calling thread, on its connection: for tests."""
    return Engine(store, options, InlineRunner(), Wakeup(), Teller(here=True))
