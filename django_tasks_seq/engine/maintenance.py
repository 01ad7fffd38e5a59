"""What workers do beside running tasks: promote, rescue, run handlers that are due, sweep, prune."""

from __future__ import annotations

import logging
from functools import partial

from ..attempt import MANAGER
from ..cache.base import BaseJobStore
from ..cache.changes import Change, Outlook, Snapshot
from ..handlers import handler_due_for
from ..registry import find_sequence
from ..starting import send
from .options import EngineOptions
from .pruning import Pruning
from .teller import Teller

logger = logging.getLogger("django_tasks_seq.worker")


class Maintenance:
    """Looks with one statement whether there is anything to do, and does it in small batches."""

    def __init__(self, store: BaseJobStore, options: EngineOptions, teller: Teller) -> None:
        self.store = store
        self.options = options
        self.teller = teller
        self.pruning = Pruning(store, options)

    def look(self) -> Outlook:
        """What is due, by kind."""
        return self.store.look(self.options.queues)

    def promote(self) -> None:
        """Make waiting jobs that are due READY; carried ones are announced."""
        carried = self.store.promote()
        if carried:
            self.teller.do(partial(send, self.store, carried))

    def rescue(self) -> None:
        """Take jobs from workers that are gone."""
        changes = self.store.rescue(lose)
        for change in changes:
            logger.warning(
                "job rescued: %s", change.events[0]["reason"], extra={"job_id": str(change.job_id)}
            )
            if change.settles:
                self.teller.settled(change, self.store.load(change.job_id).sequence)
        carried = [change.job_id for change in changes if "resend_at" in change.values]
        if carried:
            self.teller.do(partial(send, self.store, carried))

    def sweep(self) -> None:
        """Announce carried jobs again that nobody has begun."""
        found = self.store.sweep(self.options.resend)
        if found:
            logger.warning("%s carried jobs are announced again", len(found))
            self.teller.do(partial(send, self.store, found))


def lose(job: Snapshot) -> Change:
    """What becomes of a job whose worker is gone."""
    sequence = find_sequence(job.sequence)
    # Whether a sequence unknown here has a handler, those will see who know it.
    handler = handler_due_for(sequence, "error") if sequence else "error"
    return MANAGER.lose(job, handler=handler)
