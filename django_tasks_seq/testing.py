"""The engine in tests: the same code, tasks in the test's own thread and on its connection.

Works inside `TestCase` and pytest-django: commits are savepoints, `on_commit` hooks are run.

    def test_order_is_fulfilled(self):
        order = place_order()                 # calls executor.start_sequence
        drain()
        order.refresh_from_db()
        self.assertEqual(order.status, "fulfilled")
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from django.db import connections

from . import clock
from .conf import get_config
from .engine import build_inline_engine, options_from_settings
from .executor import store

__all__ = ["advance", "drain", "reset_clock", "restored_clock"]


def drain(*, queues: Sequence[str] = (), max_jobs: int | None = None) -> int:
    """Run all that is due until nothing is; return how many claims of jobs that took.

    Hooks that wait for the commit of the test's transaction are called before, those too that a
    `captureOnCommitCallbacks(execute=True)` has called already.

    What waits for later (a retry, `run_after`) stays: `advance` first. Handlers that are due and
    jobs of other start handlers are run as well. A task that raises fails its job, not the test.

    >>> drain()  # doctest: +SKIP
    1
    """
    options = replace(
        options_from_settings(), queues=tuple(queues), max_jobs=max_jobs, burst=True, name="drain:0"
    )
    claimed = 0
    while True:
        run_commit_hooks()
        engine = build_inline_engine(store(), options)
        engine.work()
        engine.wakeup.close()
        claimed += engine.claiming.claimed
        if not connections[get_config().database].run_on_commit or max_jobs is not None:
            return claimed


def run_commit_hooks() -> None:
    """Call what waits for the commit of the test's transaction, which never comes."""
    connection: Any = connections[get_config().database]
    while connection.run_on_commit:
        _, hook, robust = connection.run_on_commit.pop(0)
        try:
            hook()
        except Exception:
            if not robust:
                raise


def advance(seconds: float = 0.0, *, minutes: float = 0.0, hours: float = 0.0) -> float:
    """Move the jobs' clock forward; nothing sleeps. Returns by how much it is ahead now, in seconds.

    Leases end, retries and late starts become due. It stays ahead, for later tests too, until
    `reset_clock`: call that at the end of each test, or use `restored_clock`.

    >>> advance(minutes=5)  # doctest: +SKIP
    300.0
    """
    clock.set_offset(clock.offset() + seconds + 60 * minutes + 3600 * hours)
    return clock.offset()


def reset_clock() -> None:
    """Set the jobs' clock back to the database's."""
    clock.set_offset(0.0)


@contextmanager
def restored_clock() -> Iterator[None]:
    """Whatever is advanced inside is set back at the end."""
    before = clock.offset()
    try:
        yield
    finally:
        clock.set_offset(before)
