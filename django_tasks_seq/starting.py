"""Calling start handlers: after the commit, whenever the task of a carried job is due."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

from django.db import connections, transaction

from .cache.base import BaseJobStore, deadline
from .cache.changes import Due
from .conf import get_config
from .handlers import start_handler_for
from .payloads import decode
from .registry import find_sequence

logger = logging.getLogger("django_tasks_seq.executor")
BATCH = 500


class Once:
    """Calls a hook the first time: a test may run the hooks of its transaction more than once."""

    def __init__(self, hook: Callable[[], None]) -> None:
        self._hook: Callable[[], None] | None = hook

    def __call__(self) -> None:
        hook, self._hook = self._hook, None
        if hook is not None:
            hook()


def after_commit(hook: Callable[[], None]) -> None:
    """Call *hook* once the caller's transaction on the jobs' database is committed; now without one."""
    alias = get_config().database
    if connections[alias].in_atomic_block:
        transaction.on_commit(Once(hook), using=alias, robust=True)
    else:
        hook()


def hand_over(store: BaseJobStore, job_ids: Sequence[UUID]) -> None:
    """After the commit, call `handle_start` for those of *job_ids* that are carried and due."""
    if job_ids:
        after_commit(lambda: send(store, job_ids))


def send(store: BaseJobStore, job_ids: Sequence[UUID]) -> None:
    """Call `handle_start` for those of *job_ids* that are carried and due, now."""
    # Inline runs tasks by the executor, which stands beside this module and may not be imported yet.
    from . import executor  # noqa: F401

    for start in range(0, len(job_ids), BATCH):
        with store.watching(deadline(get_config().lease_seconds)):
            found = store.due(job_ids[start : start + BATCH])
        for due in found:
            _call(due)


def _call(due: Due) -> None:
    try:
        handler = start_handler_for(find_sequence(due.sequence))
        handler.handle_start(due.job_id, due.task_id, _payload(due))
    except Exception:
        # The row says that the job is due, and a sweep will try again.
        logger.exception(
            "start handler failed",
            extra={"job_id": str(due.job_id), "sequence": due.sequence, "task_id": due.task_id},
        )


def _payload(due: Due) -> Any:
    """Its payload; None for one that is no JSON any more, with which `execute_task` fails the job."""
    try:
        return decode(due.payload)
    except (ValueError, RecursionError):
        return None
