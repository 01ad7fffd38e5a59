"""Client-side deadlines: a statement of ours that is not answered ends, and its thread goes on.

A peer that acknowledges and never answers (a pooler, a router, a proxy) holds a thread for ever,
whatever TCP's own time-outs are. So a thread of this process looks twice a second at what others wait
for. What it sees for longer than its deadline is cancelled on the server, which may wait for a lock;
if that does not help, the socket is shut down, and the thread that waits gets an `OperationalError`.
Only statements of ours are looked at: what tasks and views ask takes as long as it takes.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from django.db import connections

from ..base import LONGEST_DEADLINE

logger = logging.getLogger("django_tasks_seq.worker")

# Seconds.
LOOK: Final = 0.5
# Between the cancel and the end of the socket.
GRACE: Final = 1.0
# In a transaction of a view's or a command's, between two statements: a receiver may be called there.
IDLE: Final = 60.0
# A peer that does not even acknowledge is found out by TCP. `OPTIONS` of a site go before these.
KEEPALIVES: Final = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}


class Watch:
    """What one thread waits for: it counts what it begins, and the watchdog does the rest.

    Entered once for a transaction and again for each statement in it, which all have their time.
    """

    __slots__ = ("_age", "_is_cancelled", "_seen", "connection", "count", "depth", "seconds")

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.connection: Any = None
        self.count = self.depth = self._seen = 0
        self._age = 0.0
        self._is_cancelled = False

    def begin(self, connection: Any) -> None:
        """A statement begins on *connection*; at its end `depth` goes down again."""
        self.connection = connection
        self.count += 1
        self.depth += 1

    def look(self) -> None:
        """Called each `LOOK` seconds by the watchdog; no clock is read, a process may be stopped."""
        if not self.depth or self.count != self._seen:
            self._seen, self._age, self._is_cancelled = self.count, 0.0, False
            return
        raw = self.connection.connection
        if raw is None:
            return  # it connects, for which the driver has a time-out
        self._age += LOOK
        if self._age < self.seconds:
            return
        if not self._is_cancelled:
            self._is_cancelled = True
            logger.warning("a statement was not answered for %.1f s: it is cancelled", self._age)
            threading.Thread(target=_cancel, args=(raw,), daemon=True).start()
        elif self._age >= self.seconds + GRACE:
            self._shut_down(raw)

    def _shut_down(self, raw: Any) -> None:
        """End both directions of the socket: `close` would wake nobody who waits for it."""
        seen = self._seen
        # A number of our own: that of the driver may be closed, and another's, any moment.
        with suppress(Exception), socket.socket(fileno=os.dup(raw.fileno())) as end:
            if self.depth and self.count == seen:
                logger.warning("nor was that answered: its connection is shut down")
                end.shutdown(socket.SHUT_RDWR)


def _cancel(raw: Any) -> None:
    with suppress(Exception):
        raw.cancel_safe(timeout=GRACE)


class Watchdog:
    """One daemon thread for the process, while there is anything to look at."""

    def __init__(self) -> None:
        self._watches: set[Watch] = set()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def add(self, watch: Watch) -> None:
        """Look at *watch* from now on."""
        with self._lock:
            self._watches.add(watch)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name="tasks-seq-deadlines", daemon=True
                )
                self._thread.start()

    def discard(self, watch: Watch) -> None:
        """Look at it no more."""
        with self._lock:
            self._watches.discard(watch)

    def _run(self) -> None:
        while True:
            time.sleep(LOOK)
            with self._lock:
                watches = list(self._watches)
                if not watches:
                    self._thread = None
                    return
            for watch in watches:
                watch.look()


class _Here(threading.local):
    watch: Watch | None = None


here = _Here()
_watchdog = Watchdog()


def _forget_all() -> None:
    """In a forked child: the sockets that were looked at are its parent's."""
    global _watchdog  # noqa: PLW0603 (its lock may be held by a thread that the child does not have)
    _watchdog = Watchdog()
    here.watch = None


os.register_at_fork(after_in_child=_forget_all)


@contextmanager
def watched(connection: Any) -> Iterator[None]:
    """Around what this thread asks on *connection*; outside of `watching` it does nothing."""
    watch = here.watch
    if watch is None:
        yield
        return
    watch.begin(connection)
    try:
        yield
    finally:
        watch.depth -= 1


def idle_seconds() -> float:
    """How long a transaction of ours may idle on this thread: for its deadline, where it has one."""
    return IDLE if here.watch is None else here.watch.seconds


@contextmanager
def watching(alias: str, seconds: float) -> Iterator[None]:
    """Within, what the model store asks on this thread has *seconds* for each statement.

    Not in somebody's transaction: that is his. Not on SQLite, whose time-out is enough.
    """
    connection = connections[alias]
    if connection.vendor != "postgresql" or connection.in_atomic_block:
        yield
        return
    before, watch = here.watch, Watch(seconds)
    here.watch = watch
    _watchdog.add(watch)
    try:
        yield
    finally:
        _watchdog.discard(watch)
        here.watch = before


@contextmanager
def bookkeeping(alias: str, seconds: float) -> Iterator[None]:
    """`watching`, for a thread whose connection serves nothing else, and is opened as that needs.

    Connecting has the same time as a statement. Transactions are READ COMMITTED whatever the site
    asks for, because the fence is a locking read. Nothing is set for the session: behind a pooler
    that would be other people's. On MariaDB it is the driver that gives a statement up.
    """
    connection = connections[alias]
    if connection.vendor not in {"postgresql", "mysql"} or connection.in_atomic_block:
        yield
        return
    settings = connection.settings_dict
    asked = {name: value for name, value in settings["OPTIONS"].items() if name != "pool"}
    limit = max(2, round(min(seconds, LONGEST_DEADLINE)))
    defaults, level = _options(connection.vendor, limit)
    if len(asked) < len(settings["OPTIONS"]):
        connection.close()  # back to its pool
    opened: Any = connection.connection
    connection.settings_dict = {
        **settings,
        "OPTIONS": {**defaults, **asked, "isolation_level": level},
    }
    try:
        with watching(alias, seconds):
            yield
    finally:
        if connection.connection is not opened:
            connection.close()  # what follows on this thread is not ours
        connection.settings_dict = settings


def _options(vendor: str, seconds: int) -> tuple[dict[str, int], Any]:
    """Of a connection of our own: what a site's `OPTIONS` go before, and the isolation level."""
    if vendor == "mysql":
        names = ("connect_timeout", "read_timeout", "write_timeout")
        return dict.fromkeys(names, seconds), "read committed"
    from django.db.backends.postgresql.psycopg_any import IsolationLevel

    return {"connect_timeout": seconds, **KEEPALIVES}, IsolationLevel.READ_COMMITTED
