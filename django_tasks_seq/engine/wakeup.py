"""Waking the engine: a pipe that threads and signal handlers write one byte to.

`Event.set()` in a signal handler can deadlock against the main thread's own `wait()`; a byte in a
pipe cannot, and can be waited for together with the database's socket.
"""

from __future__ import annotations

import os
import selectors
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
        # `select` itself knows no file beyond the 1,024th, and async tasks open many.
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._read, selectors.EVENT_READ)
        self._listened: int | None = None

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
        self._listen_to(listener.fileno() if listener else None)
        if listener is not None and listener.has_heard:
            timeout = 0.0  # it came with the answer to a query
        ready = {key.fd for key, _ in self._selector.select(max(0.0, timeout))}
        if self._read in ready:
            with suppress(BlockingIOError):
                os.read(self._read, 4096)
        # After the read: a byte written between the two would be swallowed, and none follow it.
        self._is_set = False
        if listener is None or not (listener.has_heard or self._listened in ready):
            return False
        return listener.heard()

    def _listen_to(self, fileno: int | None) -> None:
        """Wait on this socket as well; a connection may be a new one under an old number."""
        if self._listened is not None:
            with suppress(KeyError, OSError):
                self._selector.unregister(self._listened)
        self._listened = fileno
        if fileno is not None:
            self._selector.register(fileno, selectors.EVENT_READ)

    def close(self) -> None:
        """Close both ends."""
        self._selector.close()
        os.close(self._read)
        os.close(self._write)
