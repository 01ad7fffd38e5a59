"""An attempt of a success or error handler."""

from __future__ import annotations

import random
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from asgiref.sync import sync_to_async

from .attempt import MANAGER, Attempt
from .cache.changes import Failure
from .choices import HANDLER_TASK_ID, AttemptOutcome, HandlerDue
from .conf import get_config
from .context import TaskContext
from .errors_text import describe_exception
from .exceptions import ClaimLost, ConfigurationError, TaskFailed, WorkerLost
from .handlers import (
    UNCHANGED,
    Complete,
    RetryJob,
    RetryTask,
    error_handler_for,
    handler_due_for,
    success_handler_for,
)
from .outcomes import Decided, Gone, Outcome, Raised, Returned, Stopped
from .payloads import decode, encode_result
from .sequences import Retry, TaskSequence
from .tasks import Adapter
from .verdicts import change_outcome

if TYPE_CHECKING:
    from .cache.base import BaseJobStore
    from .cache.changes import Change, Claim, Write

HANDLER_RETRY = Retry(1_000_000, delay=1.0, factor=2.0, max_delay=60.0)


def give_up(claim: Claim) -> Change | None:
    """What is written in place of one attempt too many: the earlier ones ended with their process."""
    allowed = get_config().handler_attempts
    if not claim.handler or claim.handler_attempts <= allowed:
        return None
    error = WorkerLost(f"its worker was lost in the last of {allowed} attempts")
    failure = Failure(describe_exception(error), AttemptOutcome.LOST, None)
    return MANAGER.finish_handler(claim, failure=failure)


class HandlerCall(Attempt):
    """One attempt of a success or error handler of a job that has ended (promise G11)."""

    def __init__(
        self,
        store: BaseJobStore,
        claim: Claim,
        sequence: TaskSequence | None,
        *,
        worker: str,
        keep: bool,
    ) -> None:
        super().__init__(store, claim, sequence, worker, keep=keep)
        self.kind = HandlerDue(claim.handler)
        self.task_id = HANDLER_TASK_ID[self.kind]
        self.timeout = get_config().timeout
        self.adapter = _handler(self.kind, sequence)
        self.context = TaskContext(claim, store, decode(claim.payload), self.task_id, worker)

    def argument(self) -> Any:
        if self.kind == HandlerDue.SUCCESS:
            return self.context.payload
        facts = self.store.failure(self.claim.job_id) or {
            "task_id": self.claim.plan[-1],
            "attempt": 0,
            "exception_class": "",
        }
        return TaskFailed(**{**facts, "exception_bases": facts.get("exception_bases") or ()})

    async def aargument(self) -> Any:
        return await sync_to_async(self.argument)()

    def delay(self, error: BaseException) -> float | None:
        if self.claim.handler_attempts >= get_config().handler_attempts:
            return None
        return HANDLER_RETRY.next_delay(RuntimeError(), self.claim.handler_attempts, random.random)

    def returned(self, result: Any) -> Outcome:
        if self.kind == HandlerDue.SUCCESS:
            return Returned(None, None)
        if isinstance(result, (RetryJob, RetryTask, Complete)):
            return Returned(None, result)
        return super().returned(result)

    def settle(self, outcome: Outcome) -> Outcome:
        """A verdict is written under the job's lock: it depends on all of the job's rows."""
        if not isinstance(outcome, Returned):
            return outcome
        verdict = outcome.value
        if not isinstance(verdict, (RetryJob, RetryTask, Complete)):
            return outcome
        try:
            change = self._amend(verdict)
        except ClaimLost:
            return Gone()
        except Exception as error:  # noqa: BLE001 (a payload that is no JSON, a fourth verdict)
            return Raised(Failure(self.described(error), AttemptOutcome.FAILED, None), error)
        return Decided(change.verb, change.settles)

    async def asettle(self, outcome: Outcome) -> Outcome:
        return await sync_to_async(self.settle)(outcome)

    def _amend(self, verdict: RetryJob | RetryTask | Complete) -> Change:
        value: Any = None
        if isinstance(verdict, RetryTask) and verdict.payload is not UNCHANGED:
            value = verdict.payload
        elif isinstance(verdict, Complete):
            value = verdict.result
        text, _ = encode_result(value, self.task_id)
        if isinstance(verdict, RetryTask) and verdict.payload is None:
            text = "null"  # None was given, which is not the same as nothing
        handler = handler_due_for(self.sequence, "success")
        return self.store.amend(
            self.claim.job_id,
            lambda job: change_outcome(job, self.claim.token, verdict, text=text, handler=handler),
        )

    def write(self) -> Write | None:
        match self.outcome:
            case Returned(text=text):
                return MANAGER.finish_handler(self.claim, result=text)
            case Raised(failure=failure) if failure.delay is None:
                return MANAGER.finish_handler(self.claim, failure=failure)
            case Raised(failure=failure):
                return MANAGER.retry_handler(self.claim, failure)
            case Stopped():
                return MANAGER.release_handler(self.claim)
        return None


def _handler(kind: HandlerDue, sequence: TaskSequence | None) -> Adapter:
    find = error_handler_for if kind == HandlerDue.ERROR else success_handler_for
    try:
        found = find(sequence)
    except ConfigurationError as error:
        # A path that cannot be imported fails this attempt, and not the engine.
        return Adapter(f"broken {kind} handler", "", is_async=False, build=partial(_raise, error))
    if found is None:
        # It was declared when its job ended, and is not any more: there is nothing to do.
        return Adapter(f"no {kind} handler", "", is_async=False, build=lambda _: lambda *_: None)
    return found


def _raise(error: Exception, resolve: object) -> NoReturn:
    raise error
