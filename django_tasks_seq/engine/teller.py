"""Telling receivers and the log what happened, away from the engine's thread.

A receiver that hangs holds up other receivers, but no claim, no checkpoint and no renewal.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from .. import announcements, signals
from ..attempt import Attempt
from ..cache.changes import Change
from ..hygiene import REST, rest_connections, tidy_connections
from ..outcomes import Raised

logger = logging.getLogger("django_tasks_seq.worker")
# Seconds for who is still at it when a worker ends: at most, and after the drain limit.
LONGEST_GOODBYE, SHORTEST_GOODBYE = 5.0, 0.5


class Teller:
    """Calls what it is given in order, in a daemon thread; *here* calls it at once, for tests."""

    def __init__(self, *, here: bool = False) -> None:
        self._here = here
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_listening = True

    def look(self) -> None:
        """Find out, once for many attempts, whether anyone wants to know of plain progress."""
        self._is_listening = announcements.is_anyone_listening()

    def ended(self, call: Attempt) -> None:
        """Tell of an attempt whose outcome is committed, as its claim stands now."""
        if self._is_listening or isinstance(call.outcome, Raised):
            self.do(partial(announcements.tell, announcements.news_of(call)))

    def settled(self, change: Change, sequence: str) -> None:
        """Tell of a job that was ended by *change*, and not by a task or a handler."""
        self.do(partial(announcements.tell_settled, change.job_id, sequence, change.settles))

    def begun(self, calls: list[Attempt]) -> None:
        """Tell of attempts that begin."""
        if signals.task_started.has_listeners() or signals.job_started.has_listeners():
            for call in calls:
                self.do(partial(announcements.tell_begun, call))

    def do(self, job: Callable[[], None]) -> None:
        """Call *job* soon."""
        if self._here:
            job()
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="tasks-seq-teller", daemon=True)
            self._thread.start()
        self._queue.put(job)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            try:
                job()
            except BaseException:
                # Whatever it raises, SystemExit too: without this thread nobody would be told again.
                with suppress(Exception):
                    logger.exception("a receiver or the logger failed")
            tidy_connections()

    def _next(self) -> Callable[[], None] | None:
        try:
            return self._queue.get(timeout=REST)
        except queue.Empty:
            rest_connections()
            return self._queue.get()

    def close(self, within: float) -> None:
        """Wait so many seconds for what is still to be told; a receiver that hangs is left behind."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join(within)


def patience(stop_at: float | None) -> float:
    """Seconds for who is still at it at the end; a drain has little more than its limit."""
    left = LONGEST_GOODBYE if stop_at is None else stop_at - time.monotonic()
    return min(LONGEST_GOODBYE, max(SHORTEST_GOODBYE, left))
