"""Tasks that tests share, and a start handler whose queue a test empties by hand."""

from collections import deque
from typing import Any
from uuid import UUID

from django_tasks_seq import BaseStartTaskHandler, TaskRun, executor
from django_tasks_seq.models import Job


def same(payload: Any) -> Any:
    """Return what came."""
    return payload


def count(payload: Any) -> Any:
    """Return the payload with `n` counted up."""
    return {**payload, "n": payload["n"] + 1}


def nothing(payload: Any) -> None:
    """Return nothing."""


class Failing:
    """A task that raises its first *times* calls, then returns what came."""

    def __init__(self, times: int = 1_000_000, error: Any = None) -> None:
        self.times = times
        self.error = error or ValueError("no stock")
        self.calls: list[tuple[Any, Any]] = []

    def __call__(self, payload: Any, context: Any) -> Any:
        self.calls.append((payload, context))
        if len(self.calls) <= self.times:
            raise self.error
        return payload

    @property
    def attempts(self) -> list[int]:
        """Numbers of the attempts so far."""
        return [context.attempt for _, context in self.calls]


class Seen:
    """A task that keeps what it was called with and returns *result* (or what came)."""

    def __init__(self, *result: Any) -> None:
        self.result = result
        self.payloads: list[Any] = []
        self.contexts: list[Any] = []

    def __call__(self, payload: Any, context: Any) -> Any:
        self.payloads.append(payload)
        self.contexts.append(context)
        return self.result[0] if self.result else payload


class Inbox:
    """Messages of a start handler of a site's own, and the consumer that works them off."""

    def __init__(self) -> None:
        self.messages: deque[tuple[str, str, Any]] = deque()
        messages = self.messages

        class QueueStartTaskHandler(BaseStartTaskHandler):
            def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
                messages.append((str(job_id), task_id, payload))

        self.handler = QueueStartTaskHandler

    def consume(self) -> list[TaskRun]:
        """Work off all messages, and those that come meanwhile, as a consumer does."""
        runs = []
        while self.messages:
            job_id, task_id, payload = self.messages.popleft()
            runs.append(executor.execute_task(job_id, task_id, payload))
        return runs

    @property
    def tasks(self) -> list[str]:
        """Ids of the tasks that messages are there for."""
        return [task_id for _, task_id, _ in self.messages]


def statuses(job: Job) -> dict[str, str]:
    """Statuses of the job's task rows, in order."""
    return dict(job.task_statuses.order_by("position").values_list("task_id", "status"))
