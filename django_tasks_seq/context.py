"""What a task is told about its job, and what it may say while it runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any
from uuid import UUID

from .exceptions import StopTask
from .loggers import BaseTaskLogger, logger_for
from .payloads import decode, encode
from .registry import find_sequence

if TYPE_CHECKING:
    from .cache.base import BaseJobStore
    from .cache.changes import Claim

STOP_REASONS = ("drain", "cancel", "pause", "timeout", "claim_lost")


class Results(Mapping[str, Any]):
    """Results of earlier tasks by id, read from the store when first asked for.

    A task that this job knows by another id, an alias, is found by both.
    """

    def __init__(self, read: Callable[[], dict[str, str | None]], sequence: str) -> None:
        self._read = read
        self._sequence = sequence

    @cached_property
    def _texts(self) -> dict[str, str | None]:
        return self._read()

    def __getitem__(self, task_id: str) -> Any:
        if task_id not in self._texts:
            task_id = next((name for name in self._names(task_id) if name in self._texts), task_id)
        return decode(self._texts[task_id])

    def _names(self, task_id: str) -> tuple[str, ...]:
        sequence = find_sequence(self._sequence)
        spec = sequence.spec(task_id) if sequence else None
        return (spec.id, *spec.aliases) if spec else ()

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"<Results of {', '.join(self)}>"


class TaskContext:
    """One attempt of one task, as the task sees it.

    `attempt` counts from 1 and never falls. `idempotency_key` is "<job id>:<task id>", the same in
    every attempt, also after a manual retry: give it to what outside the database must happen once.
    `stop_reason` is one of drain, cancel, pause, timeout, claim_lost while `should_stop` is true.

        def import_rows(payload, context):
            for number in range(context.cursor or 0, payload["rows"]):
                context.raise_if_stopping()
                import_row(number)
                context.save_cursor(number + 1)
                context.report_progress(number + 1, payload["rows"])
    """

    def __init__(
        self, claim: Claim, store: BaseJobStore, payload: Any, task_id: str, worker: str
    ) -> None:
        self.job_id: UUID = claim.job_id
        self.sequence: str = claim.sequence
        self.task_id: str = task_id
        self.attempt: int = claim.handler_attempts if claim.handler else claim.attempt
        self.payload: Any = payload
        # By the monotonic clock; set when the attempt begins.
        self.deadline: float | None = None
        self._stop_reason: str | None = None
        self._claim = claim
        self._store = store
        self._worker = worker
        self._job_payload = claim.job_payload
        self._cursor = claim.row.cursor if claim.row else None
        self._new_cursor: str | None = None
        self._progress: str | None = None

    def __repr__(self) -> str:
        return f"<TaskContext {self.idempotency_key}, attempt {self.attempt}>"

    @property
    def idempotency_key(self) -> str:
        """The same for every attempt of this task of this job."""
        return f"{self.job_id}:{self.task_id}"

    @cached_property
    def job_payload(self) -> Any:
        """What the job was started with."""
        return decode(self._job_payload)

    @cached_property
    def results(self) -> Mapping[str, Any]:
        """Results of the tasks before this one, by task id; one query at the first look.

        In an async task use `await sync_to_async(dict)(context.results)`.
        """
        return Results(lambda: self._store.results(self.job_id), self.sequence)

    @cached_property
    def logger(self) -> BaseTaskLogger:
        """A logger that knows job, sequence, task and attempt."""
        return logger_for(
            job_id=str(self.job_id),
            sequence=self.sequence,
            task_id=self.task_id,
            attempt=self.attempt,
            worker=self._worker,
        )

    def report_progress(self, done: float, total: float, message: str = "") -> None:
        """Show people how far this task is; written at most once a second, and kept on failure."""
        progress = {"done": done, "total": total, "message": str(message)[:200]}
        self._progress = encode(progress, name="progress", ending="The progress was not noted.")

    def save_cursor(self, value: Any) -> None:
        """Note where a long loop is; the next attempt finds it in `cursor`.

        Written within a second, and with the outcome of an attempt that fails or is released: work
        done since the last write may be done again after a crash. Raises InvalidPayload for what is
        not JSON.
        """
        self._new_cursor = encode(value, name="cursor", ending="The cursor was not saved.")

    @property
    def cursor(self) -> Any:
        """What `save_cursor` noted last, in this attempt or an earlier one; None at first."""
        return decode(self._new_cursor if self._new_cursor is not None else self._cursor)

    @property
    def stop_reason(self) -> str | None:
        """Why the task should come to an end soon, one of `STOP_REASONS`; None while it may go on."""
        is_late = self.deadline is not None and time.monotonic() >= self.deadline
        if self._stop_reason is None and is_late:
            self._stop_reason = "timeout"
        return self._stop_reason

    @stop_reason.setter
    def stop_reason(self, reason: str | None) -> None:
        self._stop_reason = reason

    @property
    def should_stop(self) -> bool:
        """Whether the task should come to an end soon; `stop_reason` says why."""
        return self.stop_reason is not None

    def _given(self) -> set[str | None]:
        """Texts of its payload, its job's, and of results it has read: what an error may repeat."""
        read = vars(self).get("results")
        results = () if read is None else vars(read).get("_texts", {}).values()
        return {self._claim.payload, self._job_payload, *results}

    def _heed(self, requested: str) -> None:
        """Note what people request of the job now; a reason of another kind stands."""
        if self.stop_reason in (None, "cancel", "pause"):
            self.stop_reason = requested or None

    def raise_if_stopping(self) -> None:
        """End this attempt here if it should stop: it is released and costs nothing.

        The exception derives from BaseException, so that `except Exception` lets it pass. With the
        reason "timeout" the attempt counts as timed out.
        """
        reason = self.stop_reason
        if reason is not None:
            raise StopTask(reason)
