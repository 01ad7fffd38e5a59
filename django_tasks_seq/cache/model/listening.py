"""LISTEN on the engine's own connection: idle workers wake as soon as a job's start commits.

Polling goes on underneath. Behind a transaction-mode pooler nothing is heard, and polling must do.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.db import Error

from .notifying import CHANNEL
from .sql import Database


class Listener:
    """Hears the notifications that starts send in their transactions."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self.has_heard = False
        self._raw: Any = None

    def fileno(self) -> int | None:
        """The socket of the connection, listening on it first if it is a new one."""
        connection = self._db.connection
        connection.ensure_connection()
        raw: Any = connection.connection
        if raw is not self._raw:
            raw.add_notify_handler(self._note)
            self._db.execute(f"LISTEN {CHANNEL}", ())
            self._raw = raw
            # What was sent before the first LISTEN went unheard.
            self.has_heard = True
        return int(raw.fileno())

    def _note(self, notify: object) -> None:
        self.has_heard = True

    def heard(self) -> bool:
        """Read what has arrived on the socket; whether a notification was among it, now or before."""
        if self._raw is not None:
            # The server may have ended the session: that, too, makes the socket readable.
            with self._db.connection.wrap_database_errors:
                self._raw.pgconn.consume_input()
                while (notify := self._raw.pgconn.notifies()) is not None:
                    self._note(notify)
        heard, self.has_heard = self.has_heard, False
        return heard

    def close(self) -> None:
        """Listen no more on a connection that outlives its worker, as in `call_command`."""
        raw, self._raw = self._raw, None
        if raw is None or raw.closed or raw is not self._db.connection.connection:
            return
        with suppress(Error):
            self._db.execute(f"UNLISTEN {CHANNEL}", ())
        raw.remove_notify_handler(self._note)
