"""`execute_task`: one task of a carried job, run by whoever brought it here."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import close_old_connections

from . import announcements
from .attempt import MANAGER, Attempt
from .cache.base import BaseJobStore
from .cache.changes import Applied, Claim, Held, Write
from .conf import get_config
from .handler_call import HandlerCall
from .outcomes import Committed, Decided, Gone, Raised, Stopped
from .registry import find_sequence
from .starting import hand_over
from .task_call import TaskCall

logger = logging.getLogger("django_tasks_seq.executor")
UNKNOWN_DELAY = 30.0
BUSY_PAUSE = 0.05


@dataclass(frozen=True, slots=True)
class TaskRun:
    """What `execute_task` did: *ran*, or the *reason* why not; *outcome* of the task when it ran.

    Reasons: unknown_job, unknown_task, not_due, not_next, done, running, final, paused, cancelled.
    Outcomes: SUCCESSFUL, FAILED, WAITING (to be retried), RELEASED, LOST (nothing was recorded).

    >>> executor.execute_task(job.id, "charge")  # doctest: +SKIP
    TaskRun(ran=True, reason='', outcome='SUCCESSFUL')
    """

    ran: bool
    reason: str = ""
    outcome: str = ""


def execute(store: BaseJobStore, job_id: UUID, task_id: str) -> TaskRun:
    """Claim, run, checkpoint, give the claim up, announce what is due; see `executor.execute_task`."""
    claim = store.claim_job(job_id, task_id, get_config().lease_seconds, worker_name())
    if isinstance(claim, str):
        return TaskRun(ran=False, reason=claim)
    call = _call(store, claim)
    if isinstance(call, TaskRun):
        return call
    with RENEWER.renewing(call):
        if call.must_show:
            _apply(store, MANAGER.start_task(claim, call.report()))
            claim.begun = True
        announcements.tell_begun(call)
        if call.is_async:
            async_to_sync(call.arun)()
        else:
            call.run()
        outcome = _record(store, call)
    hand_over(store, [job_id])
    return TaskRun(ran=True, outcome=outcome)


def _call(store: BaseJobStore, claim: Claim) -> Attempt | TaskRun:
    sequence = find_sequence(claim.sequence)
    if claim.handler:
        return HandlerCall(store, claim, sequence, worker=worker_name(), keep=False)
    if claim.requested:
        _apply(store, MANAGER.stop(claim, claim.requested))
        return TaskRun(ran=False, reason="cancelled" if claim.requested == "cancel" else "paused")
    spec = sequence.spec(claim.task_id) if sequence else None
    if sequence is None or spec is None:
        _apply(store, MANAGER.defer(claim, UNKNOWN_DELAY))
        return TaskRun(ran=False, reason="unknown_task")
    return TaskCall(store, claim, sequence, spec, worker=worker_name(), keep=False)


def _record(store: BaseJobStore, call: Attempt) -> str:
    write = call.write()
    job_id = call.claim.job_id
    if write is not None:
        applied = _apply(store, write)
        if job_id in applied.broken:
            logger.error("outcome refused by the database", extra={"job_id": str(job_id)})
        if job_id not in applied.done:
            return "LOST"
    match call.outcome:
        case None | Gone():
            return "LOST"
        case Stopped():
            return "RELEASED"
        case Committed(requested=requested) if requested and not call.claim.is_last:
            pass
        case Decided():
            return "SUCCESSFUL"
    announcements.tell(announcements.news_of(call))
    if isinstance(call.outcome, Raised):
        return "FAILED" if call.outcome.failure.delay is None else "WAITING"
    return "SUCCESSFUL"


def _apply(store: BaseJobStore, write: Write) -> Applied:
    """Apply one write; a row that somebody holds is waited for as long as the lease is renewed."""
    while True:
        applied = store.apply([write], worker_name())
        if not applied.busy:
            return applied
        time.sleep(BUSY_PAUSE)


def worker_name() -> str:
    """`host:pid` of this process."""
    return f"{socket.gethostname()}:{os.getpid()}"


class Renewer:
    """Renews the leases of this process's attempts, from one daemon thread."""

    INTERVAL = 1.0

    def __init__(self) -> None:
        self._calls: dict[UUID, Attempt] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    @contextmanager
    def renewing(self, call: Attempt) -> Iterator[None]:
        """Renew the claim of *call* while the block runs."""
        with self._lock:
            self._calls[call.claim.job_id] = call
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, name="tasks-seq-renewer", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._calls.pop(call.claim.job_id, None)

    def _run(self) -> None:
        """Until nothing is left to renew; the next attempt starts another thread."""
        while True:
            time.sleep(self.INTERVAL)
            with self._lock:
                calls = list(self._calls.values())
                if not calls:
                    self._thread = None
                    break
            try:
                renew(calls)
            except Exception:
                logger.exception("leases could not be renewed")
        close_old_connections()


def renew(calls: list[Attempt]) -> None:
    """Renew the claims of *calls*, show what runs, and pass on what people requested."""
    now = time.monotonic()
    for call in calls:
        if call.deadline is not None and now > call.deadline:
            call.context.stop_reason = call.context.stop_reason or "timeout"
    by_store: dict[int, list[Attempt]] = {}
    for call in calls:
        by_store.setdefault(id(call.store), []).append(call)
    for group in by_store.values():
        store = group[0].store
        held = [Held(call.claim.job_id, call.claim.token) for call in group]
        tick = store.tick(held, get_config().lease_seconds)
        for call in group:
            lost = call.claim.job_id in tick.lost
            requested = "claim_lost" if lost else tick.requested.get(call.claim.job_id)
            call.context.stop_reason = call.context.stop_reason or requested or None
        show(
            store, [c for c in group if isinstance(c, TaskCall) and c.claim.job_id not in tick.lost]
        )


def show(store: BaseJobStore, calls: list[TaskCall]) -> None:
    """Write the RUNNING rows of tasks that run for a while, with their progress."""
    writes = [MANAGER.start_task(c.claim, c.report()) for c in calls if c.outcome is None]
    if not writes:
        return
    applied = store.apply(writes, calls[0].worker)
    for call in calls:
        call.claim.begun = call.claim.begun or call.claim.job_id in applied.done


RENEWER = Renewer()
