"""What a task may leave behind in its thread: open transactions, broken connections."""

from __future__ import annotations

import os
import select
from contextlib import suppress
from typing import Any

from django.db import connections

IDLE = 0  # psycopg.pq.TransactionStatus.IDLE
# A thread without a task for so many seconds rests; between two batches it does not.
REST = 1.0
STREAMS = (0, 1, 2)
EXIT_FORKED = 70


def tidy_connections() -> None:
    """Make this thread's connections fit for the next task; what is in doubt is closed.

    `CONN_MAX_AGE = 0` means the end of a request. A thread that goes from task to task ends its
    request when it rests, see `rest_connections`: opening a session costs more than a short task.
    """
    for connection in connections.all(initialized_only=True):
        if connection.connection is None and not connection.in_atomic_block:
            continue
        try:
            if connection.in_atomic_block or _is_in_transaction(connection):
                _forget(connection)
            else:
                _end_unknown_transaction(connection)
                if _is_for_one_request(connection):
                    connection.close_at = None
                connection.close_if_unusable_or_obsolete()
        except Exception:  # noqa: BLE001 (a driver may raise anything)
            _forget(connection)  # one that cannot even be asked must not end its thread


def end_child_of(pid: int) -> None:
    """End this process if it is not *pid*: a task has forked, and its child has come back from it.

    It shares sockets with its parent, and would go on as a second worker under the same claims.
    """
    if os.getpid() != pid:
        os._exit(EXIT_FORKED)


def keep_streams() -> None:
    """Open what a task has closed of the descriptors 0 to 2, on nothing.

    The next connection would get their numbers, and what is printed would go to the database.
    """
    try:
        for fd in STREAMS:
            os.get_inheritable(fd)
    except OSError:
        opened = os.open(os.devnull, os.O_RDWR)
        while opened <= STREAMS[-1]:
            opened = os.open(os.devnull, os.O_RDWR)
        os.close(opened)


def rest_connections() -> None:
    """This thread has nothing to do: close what `CONN_MAX_AGE` would not keep between requests."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is not None and _is_for_one_request(connection):
            try:
                connection.close()
            except Exception:  # noqa: BLE001 (a driver may raise anything)
                _forget(connection)


def _is_for_one_request(connection: Any) -> bool:
    # A session of a pool is cheap to take, and other threads may be waiting for this one.
    is_pooled = bool(connection.settings_dict["OPTIONS"].get("pool"))
    return connection.settings_dict["CONN_MAX_AGE"] == 0 and not is_pooled


def drop_dead_connections() -> None:
    """Before a task: forget sessions that the server has ended while this thread waited.

    On an idle connection to PostgreSQL or MariaDB nothing arrives unless it is the end.
    """
    for connection in connections.all(initialized_only=True):
        has_socket = connection.vendor in {"postgresql", "mysql"}
        if has_socket and connection.connection is not None:
            try:
                is_dead = _has_news(connection.connection.fileno())
            except Exception:  # noqa: BLE001 (a driver may raise anything)
                is_dead = True
            if is_dead:
                _forget(connection)


def _has_news(fileno: int) -> bool:
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return bool(poll.poll(0))


def close_leftovers() -> None:
    """Close connections on which a transaction was left open, and leave all others as they are."""
    for connection in connections.all(initialized_only=True):
        if connection.connection is None:
            continue
        try:
            if _is_in_transaction(connection):
                _forget(connection)
            elif not connection.in_atomic_block:
                _end_unknown_transaction(connection)
        except Exception:  # noqa: BLE001 (a driver may raise anything)
            _forget(connection)


def is_in_transaction() -> bool:
    """Whether this thread is inside an atomic block of anybody."""
    return any(connection.in_atomic_block for connection in connections.all(initialized_only=True))


def _is_in_transaction(connection: Any) -> bool:
    """Whether a transaction is open that Django does not know of, or autocommit was switched off."""
    if not connection.autocommit:
        return True
    raw = connection.connection
    if connection.vendor == "postgresql":
        return bool(raw.info.transaction_status != IDLE)
    return bool(getattr(raw, "in_transaction", False))


def _end_unknown_transaction(connection: Any) -> None:
    """MariaDB's driver does not tell whether there is one; to roll back none is one round trip."""
    if connection.vendor == "mysql":
        connection.connection.rollback()


def _forget(connection: Any) -> None:
    """Close it and let Django make a new one: an atomic block left open cannot be closed in order."""
    raw = connection.connection
    _let_go_of_sqlite(connection)
    del connections[connection.alias]
    if raw is not None:
        with suppress(Exception):
            raw.close()


def end_session(connection: Any) -> None:
    """Close a connection that has failed, and with it whatever transaction it is in."""
    _let_go_of_sqlite(connection)
    connection.close()


def _let_go_of_sqlite(connection: Any) -> None:
    """With Python 3.11 a closed connection keeps its lock while a traceback refers to its cursor."""
    if connection.vendor == "sqlite" and connection.connection is not None:
        with suppress(Exception):
            connection.connection.rollback()
