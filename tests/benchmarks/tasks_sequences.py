"""The work: tasks that do nothing and return about 120 bytes, and some that write, wait or return more."""

from __future__ import annotations

import asyncio
import random
import string
import time
from typing import Any, Final

from django_tasks_seq import TaskContext, TaskSequence, TaskSpec, register_sequence

SEQUENCE: Final = "bench_noop"
TASKS: Final = 5
FILLER: Final = "x" * 96
TASK_COUNTS: Final = (1, 2, 5, 10, 20, 50)

ATOMIC: Final = "bench_atomic"
SIZED: Final = "bench_sized"
SLEEPING: Final = "bench_sleeping"
AWAITING: Final = "bench_awaiting"
AWAITING_ONCE: Final = "bench_awaiting_once"
HEAVY: Final = "bench_heavy"
DENSE: Final = "bench_dense"
FAILING: Final = "bench_failing"
CARRIED: Final = "bench_carried"

# The server compresses what is large, and finds nothing to compress in this.
DENSE_TEXT: Final = "".join(random.Random(1).choices(string.ascii_letters, k=8000))


def noop(payload: dict[str, Any]) -> dict[str, Any]:
    """Count on, so that the last result proves that each task got what the one before returned."""
    return {"text": FILLER, "count": payload["count"] + 1}


def sized(payload: dict[str, Any]) -> dict[str, Any]:
    """The same, with about as many bytes as the payload says."""
    size = payload["bytes"]
    return {"text": "x" * (size - 40), "bytes": size, "count": payload["count"] + 1}


def write(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    """The same, and one row by the ORM."""
    # The bare limit imports this module without Django.
    from tests.benchmarks.models import Entry

    Entry.objects.create(job_id=context.job_id, task_id=context.task_id, text=FILLER)
    return noop(payload)


def sleep(payload: dict[str, Any]) -> dict[str, Any]:
    """The same, later."""
    time.sleep(payload["seconds"])
    return {**payload, "count": payload["count"] + 1}


async def wait(payload: dict[str, Any]) -> dict[str, Any]:
    """The same, later, on the event loop."""
    await asyncio.sleep(payload["seconds"])
    return {**payload, "count": payload["count"] + 1}


def weigh(payload: dict[str, Any]) -> dict[str, Any]:
    """Hold a heavy payload for a while."""
    time.sleep(payload["seconds"])
    return {"count": payload["count"] + 1}


def dense(payload: dict[str, Any]) -> dict[str, Any]:
    """The same as `sized`, up to 8,000 bytes that cannot be compressed."""
    return {**sized(payload), "text": DENSE_TEXT[: payload["bytes"] - 40]}


def fail(payload: dict[str, Any]) -> None:
    """Raise, with a message as a library writes it."""
    raise ConnectionError(f"HTTPSConnectionPool(host='api.example.com', port=443): {payload}")


def sequence_of(tasks: int) -> str:
    """Name of the sequence of so many tasks that do nothing."""
    return SEQUENCE if tasks == TASKS else f"{SEQUENCE}_{tasks}"


def _register(name: str, task: Any, tasks: int = TASKS) -> None:
    register_sequence(TaskSequence(name, tasks=[(f"task_{n}", task) for n in range(tasks)]))


for count in TASK_COUNTS:
    _register(sequence_of(count), noop, count)
_register(SIZED, sized)
_register(SLEEPING, sleep)
_register(AWAITING, wait)
_register(AWAITING_ONCE, wait, 1)
_register(HEAVY, weigh, 1)
_register(DENSE, dense)
_register(FAILING, fail, 1)
register_sequence(
    TaskSequence(
        CARRIED,
        tasks=[(f"task_{number}", noop) for number in range(TASKS)],
        start_task_handler="django_tasks_seq.handlers.InlineStartTaskHandler",
    )
)
register_sequence(
    TaskSequence(
        ATOMIC, tasks=[TaskSpec(f"task_{number}", write, atomic=True) for number in range(TASKS)]
    )
)
