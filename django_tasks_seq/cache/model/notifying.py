"""NOTIFY: idle workers hear of a job as soon as its start is committed.

PostgreSQL commits transactions that have sent a notification one after the other, each with its own
wait for the disk: eight writers that all send one start half as many jobs as without. So one start at
a time sends it with its own commit, under a lock that nobody waits for. Whoever finds that lock held
asks again behind its own commit: either the lock is free and a transaction that writes nothing, and
waits for no disk, sends it; or somebody holds it, whose notification then comes after this commit.
"""

from __future__ import annotations

import logging
from weakref import WeakKeyDictionary

from django.db import Error, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from ...conf import get_config
from .sql import Database

logger = logging.getLogger("django_tasks_seq.executor")

CHANNEL = "django_tasks_seq"
# The number of an advisory lock, of which there are 2 ** 64 in each database: b"tasksseq".
LOCK = 0x7461736B73736571

SENT = f"pg_notify('{CHANNEL}', '') IS NOT NULL"
# SQL, true if it was sent. Only for a statement that is a transaction of its own, and so is short.
SENT_IF_ALONE = f"CASE WHEN pg_try_advisory_xact_lock({LOCK}) THEN {SENT} ELSE FALSE END"

# How often each connection has sent one behind a commit.
_sent: WeakKeyDictionary[BaseDatabaseWrapper, int] = WeakKeyDictionary()


def notifies(db: Database) -> bool:
    """Whether starts in this database are to be heard of."""
    return db.vendor == "postgresql" and get_config().notify is not False


def notify(db: Database) -> None:
    """Wake idle workers, once what this connection has written is committed."""
    connection = db.connection
    if not notifies(db):
        return
    if not connection.in_atomic_block:
        if connection.get_autocommit():
            _send(db)
        else:
            # Transactions by hand, which have no hooks.
            db.query(f"SELECT {SENT}", ())
        return
    before = _sent.get(connection, 0)

    def behind_the_commit() -> None:
        # One is enough for all that a transaction has started.
        if _sent.get(connection, 0) == before:
            _send(db)

    transaction.on_commit(behind_the_commit, using=db.alias, robust=True)


def _send(db: Database) -> None:
    connection = db.connection
    _sent[connection] = _sent.get(connection, 0) + 1
    try:
        db.query(f"SELECT {SENT_IF_ALONE}", ())
    except Error as error:
        # What was started is committed, and polls find it.
        logger.warning("workers were not notified: %s", error)
