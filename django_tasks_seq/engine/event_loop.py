"""The event loop that async tasks run on, in a thread of its own."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress

from ..attempt import Attempt
from .threads import take_all

logger = logging.getLogger("django_tasks_seq.worker")

# Seconds for cancelled tasks to end in when the worker leaves.
LAST_STEPS = 0.5


class LoopRunner:
    """Async attempts as tasks of one event loop in a thread of its own."""

    def __init__(self, concurrency: int, wake: Callable[[], None]) -> None:
        self.concurrency = concurrency
        self._wake = wake
        self._queue: deque[Attempt] = deque()
        self._ended: deque[Attempt] = deque()
        self._running: dict[int, tuple[Attempt, asyncio.Task[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def submit(self, calls: list[Attempt]) -> None:
        if not calls:
            return
        self._queue.extend(calls)
        self._get_loop().call_soon_threadsafe(self._begin)

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=self._work, name="tasks-seq-loop", daemon=True).start()
        return self._loop

    def _work(self) -> None:
        loop = self._get_loop()
        while not self._closed:
            try:
                loop.run_forever()
            except BaseException:
                # A task that some task has left behind raised SystemExit or the like: only it has ended.
                logger.exception("the event loop was left, and goes on")
        loop.close()

    def _begin(self) -> None:
        loop = self._get_loop()
        while self._queue and len(self._running) < self.concurrency:
            call = self._queue.popleft()
            self._running[id(call)] = (call, loop.create_task(self._run(call)))

    async def _run(self, call: Attempt) -> None:
        try:
            await call.arun()
        except BaseException as error:
            # What raises although nothing may must not hold the job for ever.
            logger.exception("an attempt broke", extra={"job_id": str(call.claim.job_id)})
            call.outcome = call.outcome or call.failed(error)
        call.ended = call.ended or time.monotonic()
        if self._running.pop(id(call), None) is not None:
            self._ended.append(call)
            self._wake()
        self._begin()

    def cancel(self, call: Attempt) -> None:
        """Cancel an attempt whose `stop_reason` says why."""
        found = self._running.get(id(call))
        if found and self._loop:
            self._loop.call_soon_threadsafe(found[1].cancel)

    def take(self) -> list[Attempt]:
        return take_all(self._ended)

    def withdraw(self) -> list[Attempt]:
        return take_all(self._queue)

    def running(self) -> list[Attempt]:
        return [call for call, _ in list(self._running.values())]

    def queued(self) -> int:
        return len(self._queue)

    def awaited(self) -> int:
        return len(self._running)

    def has_room(self) -> bool:
        """Whether one more would begin at once."""
        return len(self._running) + len(self._queue) < self.concurrency

    def has_enough(self) -> bool:
        return bool(self._ended)

    def abandon(self, call: Attempt) -> None:
        self._running.pop(id(call), None)

    def nudge(self) -> None:
        pass

    def close(self) -> None:
        """Let what was cancelled run its `finally` blocks, then stop; a loop that hangs is left."""
        if self._loop is None:
            return
        with suppress(TimeoutError):
            asyncio.run_coroutine_threadsafe(self._finish(), self._loop).result(2 * LAST_STEPS)
        self._closed = True
        self._loop.call_soon_threadsafe(self._loop.stop)

    async def _finish(self) -> None:
        tasks = [task for _, task in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=LAST_STEPS)
