"""The state machine as data: who may write which status over which. `status.py` computes with it.

`docs/reference/statuses.md` is compared with these tables by a test.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from .choices import FINAL, JobStatus, TaskState

S, T = JobStatus, TaskState


class Transition(NamedTuple):
    """From one of these statuses to one of those."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]


# The engine's verbs, all but `claim`, `promote` and `rescue` under the claim's token.
JOB: Mapping[str, Transition] = {
    "claim": Transition((S.READY, S.WAITING), (S.RUNNING,)),
    "promote": Transition((S.WAITING,), (S.READY,)),
    "rescue": Transition((S.RUNNING,), (S.READY, S.FAILED)),
    "start_task": Transition((S.RUNNING,), (S.RUNNING,)),
    "complete_task": Transition((S.RUNNING,), (S.RUNNING, S.READY)),
    "complete_job": Transition((S.RUNNING,), (S.SUCCESSFUL,)),
    "retry_task": Transition((S.RUNNING,), (S.WAITING,)),
    "fail_job": Transition((S.RUNNING,), (S.FAILED,)),
    "release": Transition((S.RUNNING,), (S.READY,)),
    "defer": Transition((S.RUNNING,), (S.WAITING,)),
    "stop": Transition((S.RUNNING,), (S.CANCELLED, S.PAUSED)),
    # A handler runs while its job is final; the claim's token guards these as well.
    "finish_handler": Transition(FINAL, FINAL),
    "retry_handler": Transition(FINAL, FINAL),
    "change_outcome": Transition((S.FAILED,), (S.READY, S.SUCCESSFUL)),
    # People's verbs, under the row's lock.
    "request": Transition((S.RUNNING,), (S.RUNNING,)),
    "cancel": Transition((S.READY, S.WAITING, S.PAUSED, S.RUNNING), (S.CANCELLED,)),
    "pause": Transition((S.READY, S.WAITING), (S.PAUSED,)),
    "resume": Transition((S.PAUSED,), (S.READY, S.WAITING)),
    "retry": Transition((S.FAILED, S.CANCELLED), (S.READY,)),
    "retry_from": Transition(FINAL, (S.READY,)),
    "skip": Transition((S.READY, S.WAITING, S.PAUSED, S.FAILED), (S.READY, S.PAUSED, S.SUCCESSFUL)),
}

OPEN = (T.READY, T.WAITING, T.RUNNING)
TASK: Mapping[str, Transition] = {
    "start_task": Transition((T.READY, T.WAITING, T.RUNNING), (T.RUNNING,)),
    "complete_task": Transition(OPEN, (T.SUCCESSFUL,)),
    "retry_task": Transition(OPEN, (T.WAITING,)),
    "fail_job": Transition(OPEN, (T.FAILED,)),
    "release": Transition((T.RUNNING, T.READY, T.WAITING), (T.READY,)),
    "rescue": Transition((T.RUNNING,), (T.READY, T.FAILED)),
    "retry": Transition((*OPEN, T.FAILED), (T.READY,)),
    "retry_from": Transition((*OPEN, T.FAILED, T.SUCCESSFUL, T.SKIPPED), (T.READY,)),
    "skip": Transition((*OPEN, T.FAILED), (T.SKIPPED,)),
}
