"""SIGTERM and SIGINT for a worker: the handler counts, writes one byte, and does nothing else."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SUPERVISOR = "TASKS_SEQ_SUPERVISOR"


class Stops:
    """How often this process has been asked to stop."""

    def __init__(self, wake_fd: int) -> None:
        self._wake_fd = wake_fd
        self._count = 0
        self._supervisor = int(os.environ.get(SUPERVISOR, "0"))

    def __call__(self) -> int:
        """The number of requests so far; a supervisor that is gone counts as one."""
        orphaned = bool(self._supervisor) and os.getppid() != self._supervisor
        return max(self._count, int(orphaned))

    def note(self, signum: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self._count += 1
        with suppress(BlockingIOError):
            os.write(self._wake_fd, b"\0")


def leave_within(seconds: float, code: int) -> None:
    """End this process with *code* if it has not ended by itself so many seconds from now.

    A thread that a task has left alive, or an `atexit` hook that hangs, would keep it for ever.
    """

    def leave() -> None:
        time.sleep(seconds)
        os._exit(code)

    threading.Thread(target=leave, name="tasks-seq-leave", daemon=True).start()


def _ignore(signum: int, frame: FrameType | None) -> None:
    pass


@contextmanager
def stops_on_signals(wake_fd: int) -> Iterator[Stops]:
    """Count stop signals while the block runs; earlier handlers are put back at its end.

    Outside the main thread, where signals cannot be handled, nothing is counted.
    """
    stops = Stops(wake_fd)
    if threading.current_thread() is not threading.main_thread():
        yield stops
        return
    before = {signum: signal.signal(signum, stops.note) for signum in SIGNALS}
    if signal.getsignal(signal.SIGALRM) == signal.SIG_DFL:
        # A task's alarm, set in a thread where it cannot be handled, would end the worker and its jobs.
        before[signal.SIGALRM] = signal.signal(signal.SIGALRM, _ignore)
    try:
        yield stops
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
