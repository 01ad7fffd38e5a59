"""`atomic=True` tasks: their ORM writes and their outcome are one commit (promise G5)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from django.db import OperationalError, transaction

from .cache.transient import TRIES, is_transient, pause
from .choices import AttemptOutcome
from .conf import get_config
from .outcomes import Committed, Gone, Outcome, Raised, Returned

if TYPE_CHECKING:
    from .task_call import TaskCall

logger = logging.getLogger("django_tasks_seq.executor")
SQLITE_BUSY, SQLITE_LOCKED = 5, 6


class Flag:
    """Whether something has happened."""

    is_set = False

    def set(self) -> None:
        """It has."""
        self.is_set = True


class _RollBackError(Exception):
    def __init__(self, outcome: Outcome) -> None:
        super().__init__()
        self.outcome = outcome


def run_atomic(attempt: TaskCall) -> Outcome:
    """Call the task and write its outcome in one transaction of this thread's own connection."""
    outcome = _once(attempt)
    for tries in range(1, TRIES):
        # Everything was rolled back, so the task has not happened yet.
        if not (isinstance(outcome, Raised) and _may_succeed_again(outcome.error)):
            break
        pause(tries)
        if attempt.abandoned:
            return Gone()
        outcome = _once(attempt)
    return outcome


def _once(attempt: TaskCall) -> Outcome:
    alias, committed = get_config().database, Flag()
    outcome: Outcome = Gone()
    # Inside a test's transaction nothing is committed here, and no hook is called.
    is_inner = transaction.get_connection(alias).in_atomic_block
    try:
        with transaction.atomic(using=alias):
            if not is_inner:
                # The first hook of the transaction: those of the task come after it.
                transaction.on_commit(committed.set, using=alias)
            outcome = _call_and_write(attempt)
    except _RollBackError as rolled_back:
        return rolled_back.outcome
    except BaseException as error:
        if not committed.is_set:  # a deferred constraint, a lost connection
            return Raised(attempt.failure(error, AttemptOutcome.FAILED), error)
        facts = {"job_id": str(attempt.claim.job_id), "task_id": attempt.task_id}
        logger.exception("an on_commit hook of an atomic task failed", extra=facts)
    return outcome


def _call_and_write(attempt: TaskCall) -> Committed:
    outcome = attempt.call()
    if not isinstance(outcome, Returned):
        raise _RollBackError(outcome)
    job_id = attempt.claim.job_id
    # The fence comes last before the commit: taken earlier it would hold the job's row while user
    # code runs.
    applied = attempt.store.apply_inside(attempt.success(outcome.text), attempt.worker)
    if job_id in applied.broken:
        error = applied.broken[job_id]
        raise _RollBackError(Raised(attempt.failure(error, AttemptOutcome.FAILED), error))
    if attempt.abandoned or job_id not in applied.done:
        raise _RollBackError(Gone())
    return Committed(outcome.text, outcome.value, applied.done[job_id])


def _may_succeed_again(error: BaseException) -> bool:
    """Whether the database gave the transaction up; on SQLite somebody else was writing."""
    code = getattr(error.__cause__, "sqlite_errorcode", 0)
    return is_transient(error) or (
        isinstance(error, OperationalError) and code & 0xFF in (SQLITE_BUSY, SQLITE_LOCKED)
    )
