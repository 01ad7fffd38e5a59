"""SIGTERM and SIGINT for a worker: the handler counts, writes one byte, and does nothing else."""

from __future__ import annotations

import os
import signal
import threading
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
    try:
        yield stops
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
