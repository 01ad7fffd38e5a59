"""Errors by which a database says that it gave up on a transaction that may succeed when run again."""

from __future__ import annotations

import random
import time
from typing import Final

from django.db import OperationalError

# Run again so often, with pauses by chance of at most so many seconds: under SERIALIZABLE more than half
# of those that run at once can fail together, again and again. Whatever else a database says waits
# longer before it is retried.
TRIES: Final = 30
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.25
# Deadlock and serialization failure: by SQLSTATE on PostgreSQL, by number on MariaDB and MySQL, where
# waiting too long for a lock is one as well, and a row that is newer than the transaction's snapshot.
SQLSTATES: Final = ("40P01", "40001")
NUMBERS: Final = (1213, 1205, 1020)


def is_transient(error: BaseException) -> bool:
    """Whether *error* is one of them: everything was rolled back, and nothing has happened yet."""
    if not isinstance(error, OperationalError):
        return False
    cause = error.__cause__
    if getattr(cause, "sqlstate", None) in SQLSTATES:
        return True
    return bool(cause is not None and cause.args and cause.args[0] in NUMBERS)


def pause(tries: int) -> None:
    """Wait before it is run again, after so many tries."""
    time.sleep(random.uniform(0, min(FIRST_PAUSE * 2**tries, LONGEST_PAUSE)))  # noqa: S311
