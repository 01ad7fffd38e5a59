"""What every verb of the engine writes, as data; stores apply it. No status is decided elsewhere.

`transitions.py` is the table of what is allowed; people's verbs are computed in `repairs.py`.
"""

from __future__ import annotations

from json import dumps  # bound here: a task may put something else in the module
from typing import Any

from .cache.changes import NOW, Change, Claim, Failure, Moment, Report, Snapshot, TaskWrite, Write
from .choices import HandlerDue, JobStatus, Requested, TaskState, handler_task_id
from .conf import get_config
from .exceptions import TasksSeqError
from .status_parts import (
    GIVEN_UP,
    ago,
    at_rest,
    attempt_row,
    checkpoint,
    lost_attempt_row,
    lost_text,
    resend,
    task_write,
)
from .transitions import JOB, TASK

KEPT_BY_STOP = ("run_after", "suspect", "unknown_since")
REQUESTED_STATUS = {
    Requested.CANCEL: JobStatus.CANCELLED,
    Requested.PAUSE: JobStatus.PAUSED,
}


class TaskStatusManager:
    """Computes what each verb writes about a job and its tasks.

    A verb under a claim takes the `Claim`; its change holds only while that claim does.

    >>> TaskStatusManager().release(claim).values["status"]  # doctest: +SKIP
    'READY'
    """

    def start_task(self, claim: Claim, report: Report) -> Change:
        """The RUNNING row of an attempt, with its progress and cursor so far."""
        values = {
            "status": TaskState.RUNNING,
            "attempts": claim.attempt,
            "started_at": ago(report.started),
            "finished_at": None,
            "progress": report.progress,
            "fails_when_lost": report.fails_when_lost,
            **({} if report.cursor is None else {"cursor": report.cursor}),
        }
        return self._under(
            claim, "start_task", {}, tasks=(task_write(claim, "start_task", values),)
        )

    def complete_task(
        self, claim: Claim, result: str | None, report: Report, *, handler: str, keep: bool
    ) -> Write:
        """The task succeeded. *handler* is due when it was the last; *keep*: the claim goes on."""
        if keep and not claim.suspect and claim.unknown_for is None:
            return checkpoint(claim, result, report, handler)
        values: dict[str, Any] = {"suspect": False, "unknown_since": None}
        if claim.is_last:
            values |= {"status": JobStatus.SUCCESSFUL, "result": result}
            values |= self._end(handler, keep=keep, carried=claim.carried)
        elif not keep:
            values |= {"status": JobStatus.READY, "run_after": NOW, **GIVEN_UP}
            values |= resend(claim.carried)
        task = {
            "status": TaskState.SUCCESSFUL,
            "attempts": claim.attempt,
            "result": result,
            "error": "",
            "progress": None,
            "cursor": None,
            "started_at": ago(report.started),
            "finished_at": ago(report.ended),
        }
        verb = "complete_job" if claim.is_last else "complete_task"
        change = self._under(claim, verb, values, tasks=(task_write(claim, "complete_task", task),))
        return change if keep or claim.is_last else self._heeding(claim, change)

    def fail_attempt(
        self, claim: Claim, failure: Failure, report: Report, *, handler: str, keep: bool
    ) -> Change:
        """An attempt failed: the next is due after its delay, or the job fails."""
        last = failure.delay is None
        verb = "fail_job" if last else "retry_task"
        summary = failure.text.summary
        task = {
            "status": TaskState.FAILED if last else TaskState.WAITING,
            "attempts": claim.attempt,
            "error": summary,
            "progress": report.progress,
            "started_at": ago(report.started),
            "finished_at": ago(report.ended),
            **({} if report.cursor is None else {"cursor": report.cursor}),
        }
        values: dict[str, Any] = {"suspect": False, "unknown_since": None}
        if failure.delay is None:
            values |= {"status": JobStatus.FAILED, "error": f"{claim.task_id}: {summary}"}
            values |= self._end(handler, keep=keep, carried=claim.carried)
        else:
            values |= {"status": JobStatus.WAITING, "run_after": Moment(failure.delay), **GIVEN_UP}
        change = self._under(
            claim,
            verb,
            values,
            tasks=(task_write(claim, verb, task),),
            attempts=(attempt_row(claim.task_id, claim.attempt, failure, report),),
        )
        return change if last else self._heeding(claim, change)

    def end_job(self, claim: Claim, *, handler: str) -> Change:
        """A job all of whose tasks are done, and which nobody has ended: it is successful."""
        values = {"status": JobStatus.SUCCESSFUL, "result": claim.payload}
        values |= self._end(handler, keep=False, carried=claim.carried)
        return self._under(claim, "complete_job", values)

    def release(self, claim: Claim, report: Report | None = None) -> Change:
        """Give the claim up; an attempt that had begun costs nothing, its cursor is kept."""
        values = {"status": JobStatus.READY, **GIVEN_UP, **resend(claim.carried)}
        change = self._under(claim, "release", values, tasks=self._untouched(claim, report))
        return self._heeding(claim, change)

    def stop(self, claim: Claim, requested: str, report: Report | None = None) -> Change:
        """Do what a person requested of a running job, between two tasks or in the middle of one."""
        status = REQUESTED_STATUS[Requested(requested)]
        values = {"status": status, "requested": "", **GIVEN_UP}
        if status == JobStatus.CANCELLED:
            values["finished_at"] = NOW
        event = {
            "kind": f"{requested}_done",
            "status_before": JobStatus.RUNNING,
            "status_after": status,
        }
        return self._under(
            claim, "stop", values, tasks=self._untouched(claim, report), events=(event,)
        )

    def defer(self, claim: Claim, delay: float) -> Change:
        """Give the claim back: this worker does not know the job's sequence or task."""
        values = {"status": JobStatus.WAITING, "run_after": Moment(delay), **GIVEN_UP}
        events: tuple[dict[str, Any], ...] = ()
        if claim.unknown_for is None:
            values["unknown_since"] = NOW
            task_id = handler_task_id(claim.handler) if claim.handler else claim.task_id
            data = dumps({"sequence": claim.sequence, "task_id": task_id})
            events = ({"kind": "unknown_task", "data": data},)
        if not claim.handler:
            return self._under(claim, "defer", values, events=events)
        del values["status"]
        values["handler_attempts"] = max(0, claim.handler_attempts - 1)
        change = self._under(claim, "retry_handler", values, events=events)
        change.handler = claim.handler
        return change

    def lose(self, snapshot: Snapshot, *, handler: str) -> Change:
        """A dead worker's job: it goes on, unless its task kills workers or must not run twice."""
        row = snapshot.next_row
        running = row if row and row.status == TaskState.RUNNING else None
        crashes = running.crashes + 1 if running and snapshot.suspect else 0
        limit = get_config().max_crashes
        text = lost_text(snapshot)
        fails = running is not None and (running.fails_when_lost or crashes >= limit)
        values: dict[str, Any] = {"suspect": not fails, **GIVEN_UP}
        if fails and running is not None:
            why = f", for the {crashes}. time" if crashes >= limit else ""
            values |= {"status": JobStatus.FAILED, "error": f"{running.task_id}: {text}{why}"}
            values |= self._end(handler, keep=False, carried=snapshot.carried)
        else:
            values |= {"status": JobStatus.READY, **resend(snapshot.carried)}
        status = values["status"]
        event = {
            "kind": "lost",
            "reason": text,
            "status_before": snapshot.status,
            "status_after": status,
        }
        change = Change(
            "rescue",
            snapshot.job_id,
            snapshot.token,
            JOB["rescue"].sources,
            values,
            events=(event,),
        )
        if running is not None:
            task: dict[str, Any] = {"status": TaskState.FAILED if fails else TaskState.READY}
            task |= {"error": text, "crashes": max(crashes, running.crashes)}
            # The number is used up, the budget of retries is not: nobody knows that the task failed.
            task |= {"attempts": running.attempts, "budget_start": running.budget_start + 1}
            change.tasks = (
                TaskWrite(running.task_id, running.position, TASK["rescue"].sources, task),
            )
            change.attempts = (lost_attempt_row(running.task_id, running.attempts, text, snapshot),)
        return change

    # --- handlers ------------------------------------------------------------------------------

    def finish_handler(
        self, claim: Claim, *, result: str | None = None, failure: Failure | None = None
    ) -> Change:
        """A handler is through: it returned, or it failed for the last time."""
        values: dict[str, Any] = {"handler_due": "", "resend_at": None, **GIVEN_UP}
        values["unknown_since"] = None
        attempts: tuple[dict[str, Any], ...] = ()
        if failure is not None:
            values["handler_error"] = f"{claim.handler}: {failure.text.summary}"
            attempts = (self._handler_attempt(claim, failure),)
        elif claim.handler == HandlerDue.ERROR:
            values["error_result"] = result
        return self._of_handler(claim, "finish_handler", values, attempts)

    def retry_handler(self, claim: Claim, failure: Failure) -> Change:
        """A handler raised and is due again."""
        values = {"run_after": Moment(failure.delay or 0.0), **GIVEN_UP}
        if claim.carried:
            values["resend_at"] = Moment(failure.delay or 0.0)
        attempts = (self._handler_attempt(claim, failure),)
        return self._of_handler(claim, "retry_handler", values, attempts)

    def release_handler(self, claim: Claim) -> Change:
        """Give a handler's claim up before it was through; this attempt is not counted."""
        values = {"handler_attempts": max(0, claim.handler_attempts - 1), **GIVEN_UP}
        if claim.carried:
            values["resend_at"] = NOW
        return self._of_handler(claim, "retry_handler", values, ())

    def _of_handler(
        self, claim: Claim, verb: str, values: dict[str, Any], attempts: tuple[dict[str, Any], ...]
    ) -> Change:
        change = self._under(claim, verb, values, attempts=attempts)
        change.handler = claim.handler
        return change

    def _handler_attempt(self, claim: Claim, failure: Failure) -> dict[str, Any]:
        name = handler_task_id(claim.handler)
        return attempt_row(name, claim.handler_attempts, failure, Report())

    # --- parts ---------------------------------------------------------------------------------

    def _end(self, handler: str, *, keep: bool, carried: bool) -> dict[str, Any]:
        """Columns of a job that ends, its handler due by the same commit (promise G11)."""
        values: dict[str, Any] = {"finished_at": NOW, "requested": "", "handler_due": handler}
        if not handler or not keep:
            values |= GIVEN_UP
        if handler:
            values |= {"run_after": NOW, "handler_attempts": 1 if keep else 0}
            values |= {} if keep else resend(carried)
        return values

    def _heeding(self, claim: Claim, change: Change) -> Change:
        """*change* leaves the job to others, unless a person has asked to cancel or pause it.

        What was asked is known for certain only under the job row's lock, where the store writes: so
        the change carries what is to be written instead, and `Change.heeding` chooses there.
        """
        kept = {key: change.values[key] for key in KEPT_BY_STOP if key in change.values}
        for requested in Requested.values:
            stop = self.stop(claim, requested)
            stop.values |= kept
            stop.tasks, stop.attempts = change.tasks, change.attempts
            if requested == Requested.CANCEL:
                stop.tasks = tuple(at_rest(task) for task in change.tasks)
            change.instead[requested] = stop
        return change

    def _untouched(self, claim: Claim, report: Report | None) -> tuple[TaskWrite, ...]:
        """The task as before this attempt; a row is written only if there is one, or a cursor to keep."""
        cursor = report.cursor if report else None
        if not claim.begun and cursor is None:
            return ()
        values: dict[str, Any] = {"status": TaskState.READY, "attempts": claim.attempt - 1}
        if cursor is not None:
            values["cursor"] = cursor
        return (task_write(claim, "release", values),)

    def _under(
        self,
        claim: Claim,
        verb: str,
        values: dict[str, Any],
        *,
        tasks: tuple[TaskWrite, ...] = (),
        attempts: tuple[dict[str, Any], ...] = (),
        events: tuple[dict[str, Any], ...] = (),
    ) -> Change:
        transition = JOB[verb]
        status = values.get("status")
        if status is not None and status not in transition.targets:
            raise TasksSeqError(f"{verb} of job {claim.job_id} cannot lead to {status}.")
        return Change(
            verb, claim.job_id, claim.token, transition.sources, values, tasks, attempts, events
        )
