"""Who calls user code, and what the engine asks of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from asgiref.sync import async_to_sync

from ..attempt import Attempt
from .event_loop import LoopRunner
from .threads import ThreadRunner


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
