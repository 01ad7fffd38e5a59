"""A worker deletes what is older than `RETENTION_DAYS`: now and then, on a thread of its own.

The engine's thread only looks at a clock. All workers do this, each at a time of its own; one that
meets another at it leaves it to that one, so that they do not all prune at once.
"""

from __future__ import annotations

import logging
import random
import threading
import time

from django.db import DatabaseError, connections

from ..cache.base import BaseJobStore
from ..cache.retention import Prunable
from ..conf import get_config
from ..pruning import DAY, LONGEST_AGE, Pruner
from .options import EngineOptions

logger = logging.getLogger("django_tasks_seq.worker")

# Seconds until a worker looks for the first time, and between looks; less or more by chance.
FIRST_LOOK = 30.0
LOOK = 300.0
CHANCE = (0.5, 1.5)
# Between two batches: so many times what the last one took, so that pruning is a twentieth of the
# time. It still deletes some 800 jobs a second, more than most sites start.
REST = 19.0
# Jobs that cannot be deleted are tried one by one, so many at most.
MOST_REFUSED = 100
# A statement that is not answered by then never will be; a very large job takes its time.
PATIENCE = 600.0


class Pruning:
    """Starts a thread when it is time, which ends when nothing is left to delete.

    A worker that ends by itself (`burst`, `until_empty`) does not prune: it is to end soon.
    """

    def __init__(self, store: BaseJobStore, options: EngineOptions) -> None:
        self._store = store
        self._is_able = store.supports_pruning and not (options.burst or options.until_empty)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._at = time.monotonic() + FIRST_LOOK * random.uniform(*CHANCE)  # noqa: S311

    def begin_if_due(self) -> None:
        """Called each second by the engine."""
        now = time.monotonic()
        if not self._is_able or now < self._at or self.is_running:
            return
        self._at = now + LOOK * random.uniform(*CHANCE)  # noqa: S311
        if get_config().retention_days is not None:
            self._thread = threading.Thread(target=self._run, name="tasks-seq-pruning", daemon=True)
            self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether it is deleting now."""
        return self._thread is not None and self._thread.is_alive()

    def close(self, within: float) -> None:
        """Begin no further batch, and wait so many seconds for the one that runs."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(within)

    def _run(self) -> None:
        try:
            with self._store.bookkeeping(PATIENCE):
                self._prune()
        except DatabaseError as error:
            # The engine, which needs the database more, says what is wrong with it.
            logger.warning("pruning stopped, to be tried again: %s", error)
        except Exception:
            logger.exception("pruning failed")
        finally:
            connections.close_all()

    def _prune(self) -> None:
        age = min((get_config().retention_days or 0) * DAY, LONGEST_AGE)
        pruner = Pruner(self._store, Prunable(age))
        try:
            while (
                pruner.batch()
                and not pruner.is_contended
                and pruner.refused < MOST_REFUSED
                and not self._stop.wait(REST * pruner.last)
            ):
                pass
            self._store.prune_workers(age)
        finally:
            self._tell(pruner)

    @staticmethod
    def _tell(pruner: Pruner) -> None:
        if pruner.jobs:
            logger.info(
                "pruned %s jobs (%s tasks); locks were held for %.0f ms at most",
                pruner.jobs,
                pruner.tasks,
                pruner.longest * 1000,
            )
        if pruner.refused:
            logger.warning("%s old jobs cannot be deleted: %s", pruner.refused, pruner.refusal)
