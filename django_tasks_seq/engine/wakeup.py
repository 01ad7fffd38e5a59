"""Waking the engine: a pipe that threads and signal handlers write one byte to.

`Event.set()` in a signal handler can deadlock against the main thread's own `wait()`; a byte in a
pipe cannot, and can be waited for together with the database's socket.
"""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Protocol


class Listener(Protocol):
    """Something that the engine waits for besides the pipe: the database's notifications."""

    has_heard: bool

    def fileno(self) -> int | None:
        """What to wait on, or None."""
        ...

    def heard(self) -> bool:
        """Read what has arrived; whether anything had."""
        ...

    def close(self) -> None:
        """Listen no more; what was waited on belongs to somebody else again."""
        ...


class Wakeup:
    """Wait, and be woken."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        self._is_set = False

    @property
    def write_fd(self) -> int:
        """The end that a signal handler writes to."""
        return self._write

    def set(self) -> None:
        """Wake the engine; cheap when it has been woken already."""
        if not self._is_set:
            self._is_set = True
            # A full pipe wakes as well as one more byte would.
            with suppress(BlockingIOError):
                os.write(self._write, b"\0")

    def wait(self, timeout: float, listener: Listener | None = None) -> bool:
        """Wait until woken or *timeout* seconds have passed; whether *listener* heard something."""
        fileno = listener.fileno() if listener else None
        sources = [self._read] if fileno is None else [self._read, fileno]
        if listener is not None and listener.has_heard:
            timeout = 0.0  # it came with the answer to a query
        ready, _, _ = select.select(sources, [], [], max(0.0, timeout))
        if self._read in ready:
            with suppress(BlockingIOError):
                os.read(self._read, 4096)
        # After the read: a byte written between the two would be swallowed, and none follow it.
        self._is_set = False
        return listener is not None and (listener.has_heard or fileno in ready) and listener.heard()

    def close(self) -> None:
        """Close both ends."""
        os.close(self._read)
        os.close(self._write)
