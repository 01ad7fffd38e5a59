"""Sequences for worker processes: they leave traces that survive a SIGKILL, and end only when told.

The ledger is the file that `TASKS_SEQ_TEST_LEDGER` names: one line for each call, written with one
`write` on an O_APPEND file, so that neither a kill nor a rollback takes anything back.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
import time
from typing import TYPE_CHECKING, Any

from django_tasks_seq import (
    BaseErrorHandler,
    BaseSuccessHandler,
    Retry,
    TaskSequence,
    TaskSpec,
    register_sequence,
)
from tests.testapp.models import Effect

if TYPE_CHECKING:
    from django_tasks_seq import TaskContext

LEDGER = "TASKS_SEQ_TEST_LEDGER"
LIMIT = 120.0  # a task that nobody releases ends, so that a broken test does


def note(event: str, context: TaskContext) -> None:
    """Write one line: event, job, task, attempt, process."""
    path = os.environ.get(LEDGER)
    if path:
        line = f"{event} {context.job_id} {context.task_id} {context.attempt} {os.getpid()}\n"
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        os.write(fd, line.encode())
        os.close(fd)


def link(chain: str, task_id: str) -> str:
    """The next value of a hash chain: it tells which tasks ran, in which order, on which results."""
    return hashlib.sha256(f"{chain}/{task_id}".encode()).hexdigest()[:16]


def _forward(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    return {**payload, "chain": link(payload.get("chain", ""), context.task_id)}


def chain_link(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    """A plain task: its only effect is its line in the ledger."""
    note("call", context)
    time.sleep(payload.get("seconds", 0))
    return _forward(payload, context)


def atomic_link(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    """A task whose row must be there exactly once."""
    note("call", context)
    Effect.objects.create(job_id=context.job_id, task_id=context.task_id, attempt=context.attempt)
    return _forward(payload, context)


def wait_for(path: str) -> None:
    deadline = time.monotonic() + LIMIT
    while not os.path.exists(path) and time.monotonic() < deadline:  # noqa: PTH110
        time.sleep(0.01)


def wait_for_file(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    """Run until the file `payload["until"]` exists, whatever else is asked."""
    note("call", context)
    wait_for(payload["until"])
    note("end", context)
    return _forward(payload, context)


def wait_for_stop(payload: Any, context: TaskContext) -> None:
    """Run until told to stop, noting a cursor."""
    note("call", context)
    done = context.cursor or 0
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        done += 1
        context.save_cursor(done)
        context.raise_if_stopping()
        time.sleep(0.01)


async def await_for_ever(payload: Any, context: TaskContext) -> None:
    """An async task that ends only when it is cancelled."""
    note("call", context)
    try:
        await asyncio.sleep(LIMIT)
    finally:
        note("cancelled", context)


def kill_process(payload: Any, context: TaskContext) -> Any:
    """End the whole process at once, as a segmentation fault would, in the first `payload["times"]` attempts."""
    note("call", context)
    if context.attempt <= payload["times"]:
        os.kill(os.getpid(), signal.SIGKILL)
    return payload


def fail_at_first(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    """Raise in the first attempt."""
    note("call", context)
    if context.attempt == 1:
        raise ValueError("the first attempt fails")
    return payload


def fail(payload: Any, context: TaskContext) -> None:
    """Raise."""
    note("call", context)
    raise ValueError("it always fails")


class KillOnce(BaseSuccessHandler):
    """Ends the process in its first attempt, after the job has ended."""

    def handle_success(self, result: Any, context: TaskContext) -> None:
        note("handler", context)
        if context.attempt == 1:
            os.kill(os.getpid(), signal.SIGKILL)


class WaitForFile(BaseSuccessHandler):
    """Runs until the file `result["until"]` exists, whatever else is asked."""

    def handle_success(self, result: Any, context: TaskContext) -> None:
        note("handler", context)
        wait_for(result["until"])


class KillAlways(BaseErrorHandler):
    """Ends the process each time."""

    def handle_error(self, error: Any, context: TaskContext) -> None:
        note("handler", context)
        os.kill(os.getpid(), signal.SIGKILL)


def declare(name: str, *tasks: Any, **handlers: Any) -> None:
    register_sequence(TaskSequence(name=name, tasks=list(tasks), **handlers))


declare(
    "chain",
    ("first", chain_link),
    TaskSpec("second", atomic_link, atomic=True),
    ("third", chain_link),
    TaskSpec("fourth", atomic_link, atomic=True),
    ("fifth", chain_link),
)
declare("short", ("only", chain_link))
declare("until_file", ("waits", wait_for_file), ("after", chain_link))
declare("until_stop", ("works", wait_for_stop))
declare("async_until_stop", ("works", await_for_ever))
declare("once", TaskSpec("charges", wait_for_file, on_lost="fail"), ("after", chain_link))
declare("poison", ("dies", kill_process), ("after", chain_link))
declare("second_try", TaskSpec("tries", fail_at_first, retry=Retry(2, delay=1.5, jitter=False)))
declare("success_killer", ("only", chain_link), success_handler=KillOnce)
declare("slow_handler", ("only", chain_link), success_handler=WaitForFile)
declare("error_killer", ("only", fail), error_handler=KillAlways)
declare("fails", ("always", fail))
declare("abandoned", TaskSpec("stuck", wait_for_file, timeout=0.2))
# What the release before has under this name stands in tests/chaos/releases.py.
declare(
    "reshaped",
    TaskSpec("last", atomic_link, atomic=True),
    ("new", chain_link),
    TaskSpec("charge_card", chain_link, aliases=["charge"]),
    ("kept", wait_for_file),
    version=2,
)
