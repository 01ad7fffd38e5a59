"""A file that says that a worker lives: its time of change is the last beat."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

logger = logging.getLogger("django_tasks_seq.worker")


class HealthFile:
    """Written anew at each beat, removed at the end; for a supervisor's liveness probe.

    >>> HealthFile("/run/worker.health").write()  # doctest: +SKIP
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._next = self._path.with_name(f".{self._path.name}.{os.getpid()}")

    def write(self) -> None:
        """Replace the file; a link in its place is replaced, never followed."""
        with suppress(FileNotFoundError):
            self._next.unlink()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        fd = os.open(self._next, flags, 0o644)
        try:
            os.write(fd, f"{os.getpid()}\n".encode())
        finally:
            os.close(fd)
        self._next.replace(self._path)

    def beat(self) -> None:
        """Write it; what is in the way, a full disk say, is logged and ends no worker."""
        try:
            self.write()
        except OSError as error:
            logger.warning("the health file cannot be written: %s", error)

    def remove(self) -> None:
        """Remove the file."""
        with suppress(OSError):
            self._path.unlink()
