"""`execute_task`: one task of a carried job, run by whoever brought it here."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from uuid import UUID

from asgiref.sync import async_to_sync
from django.db import InterfaceError, InternalError, OperationalError, connections

from . import announcements
from .attempt import MANAGER, Attempt
from .cache.base import BaseJobStore, deadline
from .cache.changes import Applied, Change, Claim, Failure, Held, Write
from .choices import AttemptOutcome
from .conf import get_config
from .exceptions import UnknownTask
from .handler_call import HandlerCall, give_up
from .handlers import handler_due_for
from .hygiene import close_leftovers, end_session, is_in_transaction
from .outcomes import Gone, Raised, Returned, Stopped
from .registry import find_sequence
from .starting import hand_over
from .task_call import TaskCall
from .unknown import cannot_begin, set_aside

logger = logging.getLogger("django_tasks_seq.executor")
# The last is what a server says that has become read-only, or has ended a transaction that idled.
DATABASE_ERRORS = (OperationalError, InterfaceError, InternalError)
BUSY_PAUSE = 0.05
DOWN_PAUSE = 0.5


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
    with _watching(store):
        claim = store.claim_job(job_id, task_id, get_config().lease_seconds, worker_name())
    if isinstance(claim, str):
        return TaskRun(ran=False, reason=claim)
    try:
        call = _call(store, claim)
    except Exception as error:  # noqa: BLE001 (a payload that is no JSON any more, a broken setting)
        call = _fail(store, claim, error)
    if isinstance(call, TaskRun):
        hand_over(store, [job_id])
        return call
    with RENEWER.renewing(call):
        outcome = _run(store, call)
    if outcome != "LOST":
        hand_over(store, [job_id])
    return TaskRun(ran=True, outcome=outcome)


def _call(store: BaseJobStore, claim: Claim) -> Attempt | TaskRun:
    sequence = find_sequence(claim.sequence)
    if claim.requested and not claim.handler:
        return TaskRun(ran=False, reason=_leave(store, claim))
    aside = set_aside(claim, sequence, get_config().unknown_task_grace)
    if aside is not None:
        _write(store, claim, aside)
        return TaskRun(ran=False, reason="unknown_task")
    if (given_up := give_up(claim)) is not None:
        _write(store, claim, given_up)
        return TaskRun(ran=False, reason="done")
    if claim.is_through and not claim.handler:
        _write(store, claim, MANAGER.end_job(claim, handler=handler_due_for(sequence, "success")))
        return TaskRun(ran=False, reason="done")
    if claim.handler:
        return HandlerCall(store, claim, sequence, worker=worker_name(), keep=False)
    spec = sequence.spec(claim.task_id) if sequence else None
    if sequence is None or spec is None:
        raise UnknownTask(claim.task_id, claim.sequence)
    return TaskCall(store, claim, sequence, spec, worker=worker_name(), keep=False)


def _fail(store: BaseJobStore, claim: Claim, error: Exception) -> TaskRun:
    """This job fails, for its attempt could not even be made."""
    logger.error("an attempt could not be made: %s", error, extra={"job_id": str(claim.job_id)})
    _write(store, claim, cannot_begin(claim, find_sequence(claim.sequence), error))
    return TaskRun(ran=True, outcome="FAILED")


def _run(store: BaseJobStore, call: Attempt) -> str:
    if call.must_show:
        shown = _apply(store, MANAGER.start_task(call.claim, call.report()))
        if call.claim.job_id not in shown.done:
            return "LOST"
        call.claim.begun = True
    announcements.tell_begun(call)
    is_ours = not is_in_transaction()
    if call.is_async:
        async_to_sync(call.arun)()
    else:
        call.run()
    if is_ours:
        close_leftovers()
    return _record(store, call)


def _record(store: BaseJobStore, call: Attempt) -> str:
    write = call.write()
    if write is not None:
        applied = _apply(store, write)
        error = applied.broken.get(call.claim.job_id)
        if error is not None and isinstance(call.outcome, Returned):
            # The database refuses what the task returned: it failed, for good.
            failure = Failure(call.described(error), AttemptOutcome.FAILED, None)
            call.outcome = Raised(failure, error)
            return _record(store, call)
        if call.claim.job_id in applied.stale:
            # It has ended by a commit whose answer was lost: whoever claims next sees how.
            call.claim.begun = False
            _apply(store, MANAGER.release(call.claim))
        if call.claim.job_id not in applied.done:
            logger.warning("outcome refused", extra={"job_id": str(call.claim.job_id)})
            return "LOST"
        _tell_settled(call, write, applied.done[call.claim.job_id])
    if call.outcome is None or isinstance(call.outcome, Gone):
        return "LOST"
    if isinstance(call.outcome, Stopped):
        return "RELEASED" if write is not None else "LOST"
    announcements.tell(announcements.news_of(call))
    if isinstance(call.outcome, Raised):
        return "FAILED" if call.outcome.failure.delay is None else "WAITING"
    return "SUCCESSFUL"


def _tell_settled(call: Attempt, write: Write, requested: str) -> None:
    """Of jobs that end because a person asked for it; of others `announcements.tell` tells."""
    written = write.heeding(requested) if isinstance(write, Change) else write
    asked = written is not write or isinstance(call.outcome, Stopped)
    if asked and isinstance(written, Change):
        announcements.tell_settled(call.claim.job_id, call.claim.sequence, written.settles)


def _leave(store: BaseJobStore, claim: Claim) -> str:
    """Give the claim up, heeding what people want of the job by now; why nothing has run."""
    change = MANAGER.release(claim)
    done = _apply(store, change).done
    if claim.job_id not in done:
        return "running"
    requested = done[claim.job_id]
    announcements.tell_settled(claim.job_id, claim.sequence, change.heeding(requested).settles)
    return {"cancel": "cancelled", "pause": "paused"}.get(requested, "not_due")


def _write(store: BaseJobStore, claim: Claim, change: Change) -> None:
    """Write what takes the place of an attempt."""
    if claim.job_id in _apply(store, change).done:
        announcements.tell_settled(claim.job_id, claim.sequence, change.settles)


def _apply(store: BaseJobStore, write: Write) -> Applied:
    """Apply one write; a row that somebody holds is waited for as long as the lease is renewed.

    So is a database that is gone, for a lease: what cannot be recorded then counts as lost.
    """
    give_up_at = time.monotonic() + get_config().lease_seconds
    while True:
        try:
            with _watching(store):
                applied = store.apply([write], worker_name())
        except DATABASE_ERRORS as error:
            connection = connections[get_config().database]
            if connection.in_atomic_block:
                raise  # it is the caller's transaction that failed
            logger.warning("an outcome could not be recorded yet: %s", error)
            end_session(connection)
            if time.monotonic() > give_up_at:
                return Applied(lost={write.job_id})
            time.sleep(DOWN_PAUSE)
            continue
        if not applied.busy:
            return applied
        time.sleep(BUSY_PAUSE)


def _watching(store: BaseJobStore) -> AbstractContextManager[None]:
    """Around statements of ours alone: the task's own, on the same connection, take their time."""
    return store.watching(deadline(get_config().lease_seconds))


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
        """Renew the claim of *call* while the block runs; not inside the caller's transaction.

        What is not committed cannot be seen, let alone renewed, from another thread.
        """
        if connections[get_config().database].in_atomic_block:
            yield
            return
        with self._lock:
            self._calls[call.claim.job_id] = call
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(
                    target=self._run, args=(call.store,), name="tasks-seq-renewer", daemon=True
                )
                self._thread.start()
        try:
            yield
        finally:
            with self._lock:
                self._calls.pop(call.claim.job_id, None)

    def _run(self, store: BaseJobStore) -> None:
        with store.bookkeeping(deadline(get_config().lease_seconds)):
            self._renew_all()
        connections.close_all()

    def _renew_all(self) -> None:
        """Until nothing is left to renew; the next attempt starts another thread."""
        while True:
            # Often enough for a short lease.
            time.sleep(min(self.INTERVAL, get_config().lease_seconds / 5))
            with self._lock:
                calls = list(self._calls.values())
                if not calls:
                    self._thread = None
                    break
            try:
                renew(calls)
            except Exception:
                logger.exception("leases could not be renewed")
                connections.close_all()


def renew(calls: list[Attempt]) -> None:
    """Renew the claims of *calls*, show what runs, and pass on what people requested."""
    by_store: dict[int, list[Attempt]] = {}
    for call in calls:
        by_store.setdefault(id(call.store), []).append(call)
    for group in by_store.values():
        store = group[0].store
        held = [Held(call.claim.job_id, call.claim.token) for call in group]
        tick = store.tick(held, get_config().lease_seconds)
        for call in group:
            lost = call.claim.job_id in tick.lost
            if lost:
                call.context.stop_reason = call.context.stop_reason or "claim_lost"
            else:
                call.heed(tick.requested.get(call.claim.job_id, ""))
        show(
            store, [c for c in group if isinstance(c, TaskCall) and c.claim.job_id not in tick.lost]
        )


def show(store: BaseJobStore, calls: list[TaskCall]) -> None:
    """Write the RUNNING rows of tasks that run for a while, with their progress."""
    running = [call for call in calls if call.outcome is None]
    for call in running:
        # Before it is: the thread of the task may release its claim meanwhile, and with it that row.
        call.claim.begun = True
    if running:
        writes = [MANAGER.start_task(call.claim, call.report()) for call in running]
        store.apply(writes, running[0].worker)


RENEWER = Renewer()
