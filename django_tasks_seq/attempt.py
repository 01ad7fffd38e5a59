"""One attempt: user code is called here, and nothing else stands inside its `try`."""

from __future__ import annotations

import asyncio
import os
import time
from typing import TYPE_CHECKING, Any

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async
from django.db import connections

from .cache.changes import Claim, Failure, Report, Write
from .choices import AttemptOutcome
from .conf import get_config
from .errors_text import ExceptionText, describe_exception
from .exceptions import ClaimLost, StopTask, TaskResultError, TaskTimeout
from .hygiene import end_child_of
from .injection import scope
from .outcomes import Gone, Outcome, Raised, Returned, Stopped
from .payloads import encode_result, secrets_of
from .status import TaskStatusManager

if TYPE_CHECKING:
    from .cache.base import BaseJobStore
    from .context import TaskContext
    from .sequences import TaskSequence
    from .tasks import Adapter

MANAGER = TaskStatusManager()


class Attempt:
    """One call of user code under a claim: run once, in a thread or on an event loop.

    `run` and `arun` never raise: what user code does ends up in `outcome`.
    """

    task_id: str
    adapter: Adapter
    timeout: float | None = None

    def __init__(
        self,
        store: BaseJobStore,
        claim: Claim,
        sequence: TaskSequence | None,
        worker: str,
        *,
        keep: bool,
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
        async with ThreadSensitiveContext() as context:
            self.outcome = await self._acall()
            if context in SyncToAsync.context_to_thread_executor:
                # Its sync code had a thread of its own, which ends here with what it has opened.
                await sync_to_async(connections.close_all)()
        self.ended = time.monotonic()

    def _begin(self) -> None:
        self.started = time.monotonic()
        if self.timeout is not None:
            self.deadline = self.context.deadline = self.started + self.timeout

    def call(self) -> Outcome:
        """Call user code; what it raised is an outcome, too."""
        pid = os.getpid()
        try:
            argument = self.argument()
            with scope() as resolve:
                result = self.adapter.build(resolve)(argument, self.context)
        except BaseException as error:  # noqa: BLE001 (user code may raise anything, SystemExit too)
            end_child_of(pid)
            return self.failed(error)
        end_child_of(pid)
        return self.returned(result)

    async def _acall(self) -> Outcome:
        limit = asyncio.timeout(self.timeout)
        pid = os.getpid()
        try:
            argument = await self.aargument()
            with scope() as resolve:
                async with limit:
                    result = await self.adapter.build(resolve)(argument, self.context)
        except BaseException as error:  # noqa: BLE001 (user code may raise anything, SystemExit too)
            end_child_of(pid)
            is_ours = isinstance(error, TimeoutError) and limit.expired()
            return self.timed_out() if is_ours else self.failed(error)
        end_child_of(pid)
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
            return Raised(Failure(self.described(error), AttemptOutcome.FAILED, None), error)

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
            return Failure(self.described(broken), outcome, None)
        return Failure(self.described(error), outcome, delay)

    def described(self, error: BaseException) -> ExceptionText:
        """*error* as text, in which what it was given under `REDACT_KEYS` is masked."""
        given = self.context._given()  # noqa: SLF001 (the context is this module's other half)
        return describe_exception(error, secrets_of(given, get_config().redact_keys))

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

    def heed(self, requested: str) -> None:
        """Tell user code what people request of its job now."""
        self.context._heed(requested)  # noqa: SLF001 (the context is this module's other half)

    def write(self) -> Write | None:
        """What its outcome writes; None when nothing is left to write."""
        raise NotImplementedError
