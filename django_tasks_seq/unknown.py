"""A job whose sequence, or next task, this process does not know: as between two releases."""

from __future__ import annotations

import random

from .attempt import MANAGER
from .cache.changes import Change, Claim, Failure, Report
from .choices import AttemptOutcome
from .errors_text import describe_exception
from .exceptions import SequenceChanged
from .handlers import handler_due_for
from .sequences import TaskSequence

UNKNOWN_DELAY = 30.0


def set_aside(claim: Claim, sequence: TaskSequence | None, grace: float) -> Change | None:
    """What is written in place of an attempt that cannot be made here; None when it can.

    For *grace* seconds the claim is given back, at no cost, to whoever knows better; then the job
    fails with SequenceChanged. A handler is then the one of the settings.
    """
    if sequence is not None and _is_known(claim, sequence):
        return None
    if (claim.unknown_for or 0.0) <= grace:
        return MANAGER.defer(claim, random.uniform(0.3, 1.0) * UNKNOWN_DELAY)  # noqa: S311 (jitter)
    if claim.handler:
        return None
    task_id = claim.task_id if sequence else ""
    error = SequenceChanged(claim.job_id, claim.sequence, claim.version, task_id)
    failure = Failure(describe_exception(error), AttemptOutcome.FAILED, None)
    handler = handler_due_for(sequence, "error")
    change = MANAGER.fail_attempt(claim, failure, Report(), handler=handler, keep=False)
    # The error handler has been waited for as long as the task.
    change.values.pop("unknown_since")
    return change


def _is_known(claim: Claim, sequence: TaskSequence) -> bool:
    if claim.handler or claim.is_through:
        return True
    return sequence.spec(claim.task_id) is not None


def cannot_begin(claim: Claim, sequence: TaskSequence | None, error: Exception) -> Change:
    """What is written when an attempt cannot even be made: the task, or the handler, has failed.

    A stored payload that is no JSON any more, a setting that is broken: no other attempt can help.
    """
    failure = Failure(describe_exception(error), AttemptOutcome.FAILED, None)
    if claim.handler:
        return MANAGER.finish_handler(claim, failure=failure)
    handler = handler_due_for(sequence, "error")
    return MANAGER.fail_attempt(claim, failure, Report(), handler=handler, keep=False)
