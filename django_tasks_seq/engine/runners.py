"""Who calls user code: threads for sync tasks, one event loop for async ones.

Threads are daemons of our own: a `ThreadPoolExecutor` would keep the interpreter alive behind a task
that never ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import Protocol

from asgiref.sync import async_to_sync
from django.db import connections

from ..attempt import Attempt
from .hygiene import tidy_connections

# Below this many seconds a task is over before another thread has woken to help.
SHORT = 0.001
WEIGHT = 0.05


class Runner(Protocol):
    """What the engine asks of whoever calls user code."""

    def submit(self, calls: list[Attempt]) -> None:
        """Run these, in any order, when there is room."""
        ...

    def take(self) -> list[Attempt]:
        """Attempts that have ended since the last call."""
        ...

    def withdraw(self) -> list[Attempt]:
        """Take back what has not begun."""
        ...

    def running(self) -> list[Attempt]:
        """Attempts whose code runs now."""
        ...

    def queued(self) -> int:
        """Number of attempts that wait for room."""
        ...

    def idle(self) -> int:
        """Number of attempts that could begin now."""
        ...

    def awaited(self) -> int:
        """Number of async attempts that run."""
        ...

    def count(self) -> int:
        """Attempts that threads have ended since the beginning."""
        ...

    def set_wake_at(self, ended: int) -> None:
        """Wake the engine when so many have ended, if others still wait."""
        ...

    def has_enough(self) -> bool:
        """Whether the engine should not wait before it takes what has ended."""
        ...

    def cancel(self, call: Attempt) -> None:
        """Cancel an async attempt whose `stop_reason` says why; a sync one sees `should_stop`."""
        ...

    def abandon(self, call: Attempt) -> None:
        """Give up on an attempt that does not end; its room is given to others."""
        ...

    def nudge(self) -> None:
        """Called every few milliseconds while attempts wait."""
        ...

    def close(self) -> None:
        """Begin nothing any more."""
        ...


class InlineRunner:
    """Calls user code in the caller's thread, on its connection: for tests."""

    def __init__(self) -> None:
        self._ended: list[Attempt] = []

    def submit(self, calls: list[Attempt]) -> None:
        for call in calls:
            if call.is_async:
                async_to_sync(call.arun)()
            else:
                call.run()
            self._ended.append(call)

    def take(self) -> list[Attempt]:
        ended, self._ended = self._ended, []
        return ended

    def withdraw(self) -> list[Attempt]:
        return []

    def running(self) -> list[Attempt]:
        return []

    def queued(self) -> int:
        return 0

    def idle(self) -> int:
        return 1

    def awaited(self) -> int:
        return 0

    def count(self) -> int:
        return 0

    def set_wake_at(self, ended: int) -> None:
        pass

    def has_enough(self) -> bool:
        return bool(self._ended)

    def cancel(self, call: Attempt) -> None:
        pass

    def abandon(self, call: Attempt) -> None:
        pass

    def nudge(self) -> None:
        pass

    def close(self) -> None:
        pass


class ThreadRunner:
    """*concurrency* threads that take attempts from one deque."""

    def __init__(self, concurrency: int, wake: Callable[[], None]) -> None:
        self.concurrency = concurrency
        self.wake_at = 1
        self._wake = wake
        self._queue: deque[Attempt] = deque()
        self._ended: deque[Attempt] = deque()
        self._running: dict[int, Attempt] = {}
        self._tokens = threading.Semaphore(0)
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
        parked = min(wanted, self._parked)
        if parked:
            self._tokens.release(parked)
        for _ in range(min(wanted - parked, self.concurrency - self._started)):
            self._start()

    def _start(self) -> None:
        self._started += 1
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
            call.run()
            self._running.pop(me, None)
            if call.abandoned:
                break
            self._end(call)
            tidy_connections()
        connections.close_all()

    def _park(self) -> None:
        self._parked += 1
        # What was submitted between the look at the queue and this line has woken nobody.
        if not self._queue:
            self._tokens.acquire()
        self._parked -= 1

    def _end(self, call: Attempt) -> None:
        self._duration += WEIGHT * (call.ended - (call.started or call.ended) - self._duration)
        self._count += 1
        self._ended.append(call)
        if not self._queue or len(self._ended) >= self.wake_at:
            self._wake()

    def take(self) -> list[Attempt]:
        return _drain(self._ended)

    def withdraw(self) -> list[Attempt]:
        return _drain(self._queue)

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
            if running is call:
                self._running.pop(ident, None)
                self._start_replacement()

    def _start_replacement(self) -> None:
        self._started -= 1
        if self._queue:
            self._rouse(1)

    def close(self) -> None:
        self._closed = True
        self._tokens.release(self._started + 1)


class LoopRunner:
    """Async attempts as tasks of one event loop in a thread of its own."""

    def __init__(self, concurrency: int, wake: Callable[[], None]) -> None:
        self.concurrency = concurrency
        self._wake = wake
        self._queue: deque[Attempt] = deque()
        self._ended: deque[Attempt] = deque()
        self._running: dict[int, tuple[Attempt, asyncio.Task[None]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, calls: list[Attempt]) -> None:
        if not calls:
            return
        self._queue.extend(calls)
        self._get_loop().call_soon_threadsafe(self._begin)

    def _get_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(
                target=self._loop.run_forever, name="tasks-seq-loop", daemon=True
            ).start()
        return self._loop

    def _begin(self) -> None:
        loop = self._get_loop()
        while self._queue and len(self._running) < self.concurrency:
            call = self._queue.popleft()
            self._running[id(call)] = (call, loop.create_task(self._run(call)))

    async def _run(self, call: Attempt) -> None:
        try:
            await call.arun()
        finally:
            self._running.pop(id(call), None)
            if not call.abandoned:
                self._ended.append(call)
                self._wake()
            self._begin()

    def cancel(self, call: Attempt) -> None:
        """Cancel an attempt whose `stop_reason` says why."""
        found = self._running.get(id(call))
        if found and self._loop:
            self._loop.call_soon_threadsafe(found[1].cancel)

    def take(self) -> list[Attempt]:
        return _drain(self._ended)

    def withdraw(self) -> list[Attempt]:
        return _drain(self._queue)

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
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)


class TaskRunner:
    """Both kinds behind one face."""

    def __init__(self, concurrency: int, async_concurrency: int, wake: Callable[[], None]) -> None:
        self.threads = ThreadRunner(concurrency, wake)
        self.loop = LoopRunner(async_concurrency, wake)

    def submit(self, calls: list[Attempt]) -> None:
        awaited = [call for call in calls if call.is_async]
        self.loop.submit(awaited)
        if len(awaited) < len(calls):
            self.threads.submit([call for call in calls if not call.is_async])

    def take(self) -> list[Attempt]:
        return self.threads.take() + self.loop.take()

    def withdraw(self) -> list[Attempt]:
        return self.threads.withdraw() + self.loop.withdraw()

    def running(self) -> list[Attempt]:
        return self.threads.running() + self.loop.running()

    def queued(self) -> int:
        return self.threads.queued() + self.loop.queued()

    def idle(self) -> int:
        return self.threads.idle() if self.loop.has_room() else 0

    def awaited(self) -> int:
        return self.loop.awaited()

    def count(self) -> int:
        return self.threads.count()

    def set_wake_at(self, ended: int) -> None:
        self.threads.wake_at = ended

    def has_enough(self) -> bool:
        return self.threads.has_enough() or self.loop.has_enough()

    def abandon(self, call: Attempt) -> None:
        (self.loop if call.is_async else self.threads).abandon(call)

    def cancel(self, call: Attempt) -> None:
        if call.is_async:
            self.loop.cancel(call)

    def nudge(self) -> None:
        self.threads.nudge()

    def close(self) -> None:
        self.threads.close()
        self.loop.close()


def _drain(calls: deque[Attempt]) -> list[Attempt]:
    found = []
    try:
        while True:
            found.append(calls.popleft())
    except IndexError:
        return found


