"""The start handlers that are shipped: the worker, the caller itself, a signal.

The inline and the signal handler run tasks in the thread that made them due: as a loop, whose next
turn is what the last task made due, never by recursion.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, ClassVar
from uuid import UUID

from ..signals import task_ready
from .base import BaseStartTaskHandler

Consumer = Callable[[UUID, str, Any], object]
Turn = Callable[[], object]

# Set by the executor when it is imported: it stands above this module, and is what calls it.
consumer: Consumer | None = None


class WorkerStartTaskHandler(BaseStartTaskHandler):
    """The default: does nothing, for `manage.py run_task_worker` finds the job's row."""

    carried: ClassVar[bool] = False

    def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
        pass


class _Loop(threading.local):
    def __init__(self) -> None:
        self.turns: deque[Turn] = deque()
        self.is_turning = False


_loop = _Loop()


def in_turn(turn: Turn) -> None:
    """Call *turn* now; from within another turn of this thread, after that."""
    _loop.turns.append(turn)
    if _loop.is_turning:
        return
    _loop.is_turning = True
    try:
        while _loop.turns:
            _loop.turns.popleft()()
    finally:
        _loop.turns.clear()
        _loop.is_turning = False


class InlineStartTaskHandler(BaseStartTaskHandler):
    """Runs the job in the caller, right after the commit: `start_sequence` returns when it is done.

    Retries that are due later are left to a worker's sweep.
    """

    def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
        in_turn(lambda: _consume(job_id, task_id, payload))


class SignalStartTaskHandler(BaseStartTaskHandler):
    """Sends `task_ready`; a receiver calls `executor.execute_task(job_id, task_id, payload)`.

    Without any receiver the task is run where the signal would have been sent.

        @receiver(task_ready)
        def advance(sender, job_id, task_id, payload, **kwargs):
            executor.execute_task(job_id, task_id, payload)
    """

    def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
        in_turn(lambda: self._send(job_id, task_id, payload))

    def _send(self, job_id: UUID, task_id: str, payload: Any) -> None:
        if task_ready.has_listeners():
            task_ready.send_robust(
                sender=type(self), job_id=job_id, task_id=task_id, payload=payload
            )
        else:
            _consume(job_id, task_id, payload)


def _consume(job_id: UUID, task_id: str, payload: Any) -> None:
    if consumer is not None:
        consumer(job_id, task_id, payload)
