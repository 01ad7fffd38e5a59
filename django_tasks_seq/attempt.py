"""One attempt: user code is called here, and nothing else stands inside its `try`."""

from __future__ import annotations

import asyncio
import random
import time
from functools import partial
from typing import Any, NoReturn

from asgiref.sync import ThreadSensitiveContext, sync_to_async

from . import repairs
from .atomic import run_atomic
from .cache.base import BaseJobStore
from .cache.changes import Claim, Failure, Report, Write
from .choices import HANDLER_TASK_ID, AttemptOutcome, HandlerDue, Requested
from .conf import get_config
from .context import TaskContext
from .errors_text import describe_exception
from .exceptions import (
    ClaimLost,
    ConfigurationError,
    StopTask,
    StoreNotSupported,
    TaskFailed,
    TaskResultError,
    TaskTimeout,
)
from .handlers import (
    UNCHANGED,
    Complete,
    RetryJob,
    RetryTask,
    error_handler_for,
    handler_due_for,
    success_handler_for,
)
from .injection import Resolve, scope
from .outcomes import Decided, Gone, Outcome, Raised, Returned, Stopped
from .payloads import decode, encode_result
from .sequences import Retry, TaskSequence, TaskSpec
from .status import TaskStatusManager
from .tasks import Adapter

UNREAD: Any = object()
MANAGER = TaskStatusManager()
HANDLER_RETRY = Retry(1_000_000, delay=1.0, factor=2.0, max_delay=60.0)


class Attempt:
    """One call of user code under a claim: run once, in a thread or on an event loop.

    `run` and `arun` never raise: what user code does ends up in `outcome`.
    """

    task_id: str
    adapter: Adapter
    timeout: float | None = None

    def __init__(
        self, store: BaseJobStore, claim: Claim, sequence: TaskSequence | None, worker: str, *, keep: bool
    ) -> None:
        self.store = store
        self.claim = claim
        self.sequence = sequence
        self.worker = worker
        # Whether the claim goes on after this attempt: a worker's does, a consumer's does not.
        self.keep = keep
        self.outcome: Outcome | None = None
        self.submitted: float | None = None
        self.started: float | None = None
        self.ended = 0.0
        self.deadline: float | None = None
        # Set by the engine when it has given up on this attempt: whatever it does later is refused.
        self.abandoned = False
        self.context: TaskContext

    @property
    def is_async(self) -> bool:
        """Whether it is to be awaited."""
        return self.adapter.is_async

    @property
    def must_show(self) -> bool:
        """Whether a RUNNING row has to be committed before its code runs."""
        return False

    def run(self) -> None:
        """Call it in this thread."""
        self._begin()
        self.outcome = self.settle(self.call())
        self.ended = time.monotonic()

    async def arun(self) -> None:
        """Await it."""
        self._begin()
        async with ThreadSensitiveContext():
            self.outcome = await self._acall()
        self.ended = time.monotonic()

    def _begin(self) -> None:
        self.started = time.monotonic()
        if self.timeout is not None:
            self.deadline = self.started + self.timeout

    def call(self) -> Outcome:
        """Call user code; what it raised is an outcome, too."""
        try:
            argument = self.argument()
            with scope() as resolve:
                result = self.adapter.build(resolve)(argument, self.context)
        except BaseException as error:  # noqa: BLE001 (user code may raise anything, SystemExit too)
            return self.failed(error)
        return self.returned(result)

    async def _acall(self) -> Outcome:
        try:
            argument = await self.aargument()
            with scope() as resolve:
                result = await self.adapter.build(resolve)(argument, self.context)
        except BaseException as error:  # noqa: BLE001 (user code may raise anything, SystemExit too)
            return self.failed(error)
        return await self.asettle(self.returned(result))

    def argument(self) -> Any:
        """What user code is called with, besides the context."""
        return self.context.payload

    async def aargument(self) -> Any:
        """Async twin of `argument`."""
        return self.context.payload

    def settle(self, outcome: Outcome) -> Outcome:
        """Write what an outcome has to write by itself, in this thread."""
        return outcome

    async def asettle(self, outcome: Outcome) -> Outcome:
        """Async twin of `settle`."""
        return outcome

    def returned(self, result: Any) -> Outcome:
        """The outcome of code that returned."""
        try:
            return Returned(*encode_result(result, self.task_id))
        except TaskResultError as error:
            # It has run, and would do again what it did: no further attempt.
            return Raised(Failure(describe_exception(error), AttemptOutcome.FAILED, None), error)

    def failed(self, error: BaseException) -> Outcome:
        """The outcome of code that raised."""
        reason = self.context.stop_reason
        if isinstance(error, ClaimLost):
            return Gone()
        if isinstance(error, (StopTask, asyncio.CancelledError)) and reason is not None:
            return self.timed_out() if reason == "timeout" else Stopped(reason)
        return Raised(self.failure(error, AttemptOutcome.FAILED), error)

    def timed_out(self) -> Raised:
        """The outcome of code that ran longer than it may."""
        error = TaskTimeout(self.timeout)
        return Raised(self.failure(error, AttemptOutcome.TIMED_OUT), error)

    def failure(self, error: BaseException, outcome: str) -> Failure:
        """*error* as text, with the delay until the next attempt."""
        try:
            delay = self.delay(error)
        except Exception as broken:  # noqa: BLE001 (`backoff` is user code)
            return Failure(describe_exception(broken), outcome, None)
        return Failure(describe_exception(error), outcome, delay)

    def delay(self, error: BaseException) -> float | None:
        """Seconds until the next attempt, None when this was the last."""
        raise NotImplementedError

    def report(self) -> Report:
        """Times and notes of this attempt, as they are to be written now."""
        now = time.monotonic()
        return Report(
            started=None if self.started is None else now - self.started,
            ended=now - self.ended if self.ended else 0.0,
            cursor=self.context._new_cursor,  # noqa: SLF001 (the context is this module's other half)
            progress=self.context._progress,  # noqa: SLF001
        )

    def write(self) -> Write | None:
        """What its outcome writes; None when nothing is left to write."""
        raise NotImplementedError


class TaskCall(Attempt):
    """One attempt of a task. *value* is its decoded payload where the caller has it."""

    def __init__(
        self,
        store: BaseJobStore,
        claim: Claim,
        sequence: TaskSequence,
        spec: TaskSpec,
        *,
        worker: str = "",
        value: Any = UNREAD,
        keep: bool = True,
    ) -> None:
        super().__init__(store, claim, sequence, worker, keep=keep)
        self.spec = spec
        self.task_id = claim.task_id
        self.adapter = spec.adapter
        self.timeout = spec.timeout if spec.timeout is not None else get_config().timeout
        payload = decode(claim.payload) if value is UNREAD else value
        self.context = TaskContext(claim, store, payload, self.task_id, worker)

    @property
    def must_show(self) -> bool:
        return self.claim.suspect or self.spec.on_lost == "fail"

    def run(self) -> None:
        self._begin()
        if not self.spec.atomic:
            self.outcome = self.call()
        elif self.store.supports_atomic_tasks:
            self.outcome = run_atomic(self)
        else:
            store = type(self.store).__name__
            self.outcome = self.failed(StoreNotSupported(store, "run atomic=True tasks"))
        self.ended = time.monotonic()

    def delay(self, error: BaseException) -> float | None:
        retry = self.spec.retry or Retry(get_config().max_attempts)
        return retry.next_delay(error, self.claim.spent)

    def write(self) -> Write | None:
        match self.outcome:
            case Returned(text=text):
                return self.success(text)
            case Raised(failure=failure):
                handler = handler_due_for(self.sequence, "error")
                return MANAGER.fail_attempt(
                    self.claim, failure, self.report(), handler=handler, keep=self.keep
                )
            case Stopped(reason=reason) if reason in Requested.values:
                return MANAGER.stop(self.claim, reason, self.report())
            case Stopped(reason="drain"):
                return MANAGER.release(self.claim, self.report())
        return None

    def success(self, text: str | None) -> Write:
        """What a task that returned *text* writes."""
        handler = handler_due_for(self.sequence, "success") if self.claim.is_last else ""
        return MANAGER.complete_task(
            self.claim, text, self.report(), handler=handler, keep=self.keep
        )


class HandlerCall(Attempt):
    """One attempt of a success or error handler of a job that has ended (promise G11)."""

    def __init__(
        self, store: BaseJobStore, claim: Claim, sequence: TaskSequence | None, *, worker: str, keep: bool
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
            return Decided(self._amend(verdict))
        except ClaimLost:
            return Gone()
        except Exception as error:  # noqa: BLE001 (a payload that is no JSON, a fourth verdict)
            return Raised(Failure(describe_exception(error), AttemptOutcome.FAILED, None), error)

    async def asettle(self, outcome: Outcome) -> Outcome:
        return await sync_to_async(self.settle)(outcome)

    def _amend(self, verdict: RetryJob | RetryTask | Complete) -> str:
        value: Any = None
        if isinstance(verdict, RetryTask) and verdict.payload is not UNCHANGED:
            value = verdict.payload
        elif isinstance(verdict, Complete):
            value = verdict.result
        text, _ = encode_result(value, self.task_id)
        handler = handler_due_for(self.sequence, "success")
        change = self.store.amend(
            self.claim.job_id,
            lambda job: repairs.change_outcome(
                job, self.claim.token, verdict, text=text, handler=handler
            ),
        )
        return change.verb

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
