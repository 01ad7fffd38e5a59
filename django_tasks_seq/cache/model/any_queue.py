"""Claims of a worker on all queues: which queues there are is not asked each time."""

from __future__ import annotations

import random
import time

from ..changes import Claim
from . import claims
from .sql import Database

# A queue that is new is passed over for at most so many seconds, and only while others are full.
REMEMBERED = 0.25


class BusyQueues:
    """Names of the queues that filled a worker's last claim, by worker.

    To find out which queues have ready jobs costs a fifth of a claim of 128: the scan passes by all
    entries that the claim before has left dead. A worker that is behind finds the same ones again.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[list[str], float]] = {}

    def of(self, worker_id: int | None) -> list[str]:
        """Queues to ask first, in another order each time; none when nothing is known."""
        names, until = self._known.get(worker_id or 0, ([], 0.0))
        if time.monotonic() >= until:
            return []
        return random.sample(names, len(names))

    def note(self, worker_id: int | None, names: list[str]) -> None:
        """These filled a claim."""
        if worker_id is not None:
            self._known[worker_id] = (names, time.monotonic() + REMEMBERED)

    def forget(self, worker_id: int | None) -> None:
        """They no longer do."""
        self._known.pop(worker_id or 0, None)


def claim(  # noqa: PLR0917 (what `BaseJobStore.claim` is told)
    db: Database,
    busy: BusyQueues,
    limit: int,
    lease: float,
    worker_id: int | None,
    most_bytes: int | None,
) -> list[Claim]:
    """Claim up to *limit* READY jobs of whatever queues there are."""
    known = busy.of(worker_id)
    taken = claims.claim(db, known, limit, lease, worker_id, most_bytes)
    if len(taken) >= limit:
        return taken
    busy.forget(worker_id)
    names = claims.ready_queues(db)
    if most_bytes is not None:
        most_bytes -= claims.weight(taken)
    if not (taken and most_bytes is not None and most_bytes <= 0):
        taken += claims.claim(db, names, limit - len(taken), lease, worker_id, most_bytes)
    if len(taken) >= limit:
        busy.note(worker_id, names)
    return taken
