"""An attempt of a task."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from .atomic import run_atomic
from .attempt import MANAGER, Attempt
from .conf import get_config
from .context import TaskContext
from .exceptions import StoreNotSupported
from .handlers import handler_due_for
from .outcomes import Raised, Returned, Stopped
from .payloads import decode
from .sequences import Retry, TaskSequence, TaskSpec

if TYPE_CHECKING:
    from .cache.base import BaseJobStore
    from .cache.changes import Claim, Report, Write

UNREAD: Any = object()


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
        limit = store.atomic_limit() if spec.atomic else None
        if limit is not None:
            self.timeout = limit if self.timeout is None else min(limit, self.timeout)
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

    def report(self) -> Report:
        report = super().report()
        report.fails_when_lost = self.spec.on_lost == "fail"
        return report

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
            case Stopped(reason="claim_lost"):
                return None
            case Stopped():
                # What people want is read anew under the fence: they may have changed their minds.
                return MANAGER.release(self.claim, self.report())
        return None

    def success(self, text: str | None) -> Write:
        """What a task that returned *text* writes."""
        handler = handler_due_for(self.sequence, "success") if self.claim.is_last else ""
        return MANAGER.complete_task(
            self.claim, text, self.report(), handler=handler, keep=self.keep
        )
