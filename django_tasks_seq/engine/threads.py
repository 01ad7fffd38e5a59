"""Threads that call sync tasks: daemons of our own, started as they are needed.

A `ThreadPoolExecutor` would keep the interpreter alive behind a task that never ends.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable

from django.db import connections

from ..attempt import Attempt
from ..hygiene import (
    REST,
    drop_dead_connections,
    keep_streams,
    rest_connections,
    tidy_connections,
)

logger = logging.getLogger("django_tasks_seq.worker")

# Below this many seconds a task is over before another thread has woken to help.
SHORT = 0.001
WEIGHT = 0.05


def take_all(calls: deque[Attempt]) -> list[Attempt]:
    found = []
    try:
        while True:
            found.append(calls.popleft())
    except IndexError:
        return found


class ThreadRunner:
    """*concurrency* threads that take attempts from one deque."""

    def __init__(self, concurrency: int, wake: Callable[[], None]) -> None:
        self.concurrency = concurrency
        self.wake_at = 1
        self._wake = wake
        self._queue: deque[Attempt] = deque()
        self._ended: deque[Attempt] = deque()
        self._running: dict[int, Attempt] = {}
        # Each parked thread takes one token when it is roused.
        self._tokens = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._parked = 0
        self._started = 0
        self._duration = SHORT
        self._seen = 0
        self._count = 0
        self._closed = False

    def submit(self, calls: list[Attempt]) -> None:
        self._queue.extend(calls)
        is_short = self._duration < SHORT and self._parked < self._started
        self._rouse(1 if is_short else len(calls))

    def _rouse(self, wanted: int) -> None:
        """Wake parked threads, and start new ones as long as there are fewer than may be."""
        with self._lock:
            parked = min(wanted, self._parked)
            self._parked -= parked
            started = min(wanted - parked, self.concurrency - self._started)
            self._started += started
        if parked:
            self._tokens.release(parked)
        for _ in range(started):
            threading.Thread(target=self._work, name="tasks-seq-task", daemon=True).start()

    def _work(self) -> None:
        me = threading.get_ident()
        while not self._closed:
            try:
                call = self._queue.popleft()
            except IndexError:
                self._park()
                continue
            if call.abandoned:
                continue
            self._running[me] = call
            drop_dead_connections()
            _run(call)
            if self._running.pop(me, None) is None:
                break  # abandoned: this thread has been replaced
            self._end(call)
            keep_streams()
            tidy_connections()
        connections.close_all()

    def _park(self) -> None:
        with self._lock:
            # What was submitted since the look at the queue has woken nobody.
            if self._queue:
                return
            self._parked += 1
        if not self._tokens.acquire(timeout=REST):
            rest_connections()
            self._tokens.acquire()

    def _end(self, call: Attempt) -> None:
        self._duration += WEIGHT * (call.ended - (call.started or call.ended) - self._duration)
        self._count += 1
        self._ended.append(call)
        if not self._queue or len(self._ended) >= self.wake_at:
            self._wake()

    def take(self) -> list[Attempt]:
        return take_all(self._ended)

    def withdraw(self) -> list[Attempt]:
        return take_all(self._queue)

    def running(self) -> list[Attempt]:
        return list(self._running.values())

    def queued(self) -> int:
        return len(self._queue)

    def idle(self) -> int:
        return self.concurrency - len(self._running) - len(self._queue)

    def count(self) -> int:
        return self._count

    def has_enough(self) -> bool:
        ended = len(self._ended)
        return ended >= self.wake_at or (ended > 0 and not self._queue)

    def nudge(self) -> None:
        """The estimate of short tasks was wrong: nothing ended although attempts wait."""
        if self._queue and self._count == self._seen:
            self._duration = max(self._duration, SHORT)
            self._rouse(len(self._queue))
        self._seen = self._count

    def abandon(self, call: Attempt) -> None:
        for ident, running in list(self._running.items()):
            # Its thread may take it out first: then it has ended, and needs no replacement.
            if running is call and self._running.pop(ident, None) is not None:
                self._start_replacement()

    def _start_replacement(self) -> None:
        with self._lock:
            self._started -= 1
        if self._queue:
            self._rouse(1)

    def close(self) -> None:
        self._closed = True
        self._tokens.release(self._started + 1)


def _run(call: Attempt) -> None:
    """Call it; what raises although nothing may must not end the thread, and hold the job for ever."""
    try:
        call.run()
    except BaseException as error:
        logger.exception("an attempt broke", extra={"job_id": str(call.claim.job_id)})
        call.outcome = call.outcome or call.failed(error)
    call.ended = call.ended or time.monotonic()
