"""Pruning: old jobs are deleted batch by batch, and each batch is as large as the last was quick."""

from __future__ import annotations

from typing import Final

from .cache.base import BaseJobStore
from .cache.retention import Prunable, Pruned

DAY: Final = 86_400.0
# No row is older; a database's calendar ends somewhere.
LONGEST_AGE: Final = 100 * 365 * DAY

# Seconds that a batch is meant to hold its locks, and after which it is undone.
GOAL: Final = 0.02
LIMIT: Final = 0.08
FIRST_BATCH: Final = 20
LARGEST_BATCH: Final = 1000


class Pruner:
    """One walk over the jobs of *store* that may go, from the oldest on.

    Counts what has been deleted so far; *passed* are jobs that somebody held or had just changed,
    *refused* those that the database would not let go, with its words for the last in *refusal*.
    *longest* is how many seconds locks were held at most.

    >>> pruner = Pruner(store, Prunable(30 * DAY))  # doctest: +SKIP
    >>> while pruner.batch():  # doctest: +SKIP
    ...     time.sleep(pruner.last)
    """

    def __init__(self, store: BaseJobStore, what: Prunable) -> None:
        self.what = what
        self.jobs = self.tasks = self.attempts = self.events = 0
        self.batches = self.passed = self.refused = 0
        self.last = self.longest = 0.0
        self.refusal = ""
        # Whether the last batch met another that was deleting the same jobs.
        self.is_contended = False
        self._store = store
        self._size = FIRST_BATCH
        self._after: object = None
        self._is_patient = False

    def batch(self) -> bool:
        """Delete one batch in one transaction; whether there may be more to delete."""
        size = self._size
        done = self._store.prune(
            self.what, size, after=self._after, seconds=None if self._is_patient else LIMIT
        )
        if not done.found:
            return False
        self.batches += 1
        self.last = done.seconds
        self.longest = max(self.longest, done.seconds)
        if done.is_slow or done.refusal:
            self._again(done)
            return True
        self._count(done)
        ideal = size * GOAL / max(done.seconds, GOAL / 100)
        self._size = int(max(1, size / 4, min(ideal, size * 2, LARGEST_BATCH)))
        return done.found == size

    def _count(self, done: Pruned) -> None:
        self.jobs += done.jobs
        self.tasks += done.tasks
        self.attempts += done.attempts
        self.events += done.events
        self.passed += done.found - done.jobs
        self.is_contended = done.jobs * 2 < done.found
        self._after, self._is_patient = done.reached, False

    def _again(self, done: Pruned) -> None:
        """Nothing was deleted: try fewer, at last one alone, which may take longer."""
        self.is_contended = False
        if done.found > 1:
            self._size = max(1, done.found // 4)
        elif done.is_slow and not self._is_patient:
            self._is_patient = True
        else:
            self._after, self._is_patient = done.reached, False
            self.passed += done.is_slow
            self.refused += bool(done.refusal)
            self.refusal = done.refusal or self.refusal
