"""Engines in threads of the test's process, and tasks that wait for what the test says."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django_tasks_seq import TaskSequence, register_sequence
from django_tasks_seq.cache.changes import Claim
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.engine import Engine, EngineOptions, Wakeup, build_engine
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from tests.helpers import DEADLINE, InThread

STORE = ModelTaskCacheHandler()


class EngineThread:
    """A worker without a process: the same engine, its tasks on threads of its own."""

    def __init__(self, *, store: ModelTaskCacheHandler = STORE, **options: Any) -> None:
        self._stops = 0
        self.wakeup = Wakeup()
        chosen = {"poll": 0.05, "concurrency": 4, "drain_timeout": 20.0, **options}
        self.options = EngineOptions(**chosen)
        self.engine: Engine = build_engine(
            store, self.options, wakeup=self.wakeup, stops=lambda: self._stops
        )
        self.thread = InThread(self.engine.run)

    def ask_to_stop(self) -> None:
        """As a signal does."""
        self._stops += 1
        self.wakeup.set()

    def stop(self, timeout: float = DEADLINE) -> int:
        """Ask it to stop, and return its exit code."""
        self.ask_to_stop()
        return self.thread.result(timeout)


@contextmanager
def engine(**options: Any) -> Iterator[EngineThread]:
    """A running engine, stopped at the end of the block."""
    running = EngineThread(**options)
    try:
        yield running
    finally:
        running.ask_to_stop()
        running.thread.join(DEADLINE)
    running.thread.result(1)


class Gate:
    """A point in a task where it waits until the test lets it pass."""

    def __init__(self) -> None:
        self._entered = threading.Semaphore(0)
        self._open = threading.Event()
        self.entries = 0

    def __call__(self) -> None:
        """Called in the task."""
        self.entries += 1
        self._entered.release()
        if not self._open.wait(DEADLINE):
            raise AssertionError("nobody opened the gate")

    def wait_for(self, count: int = 1) -> None:
        """Wait until so many more tasks stand here."""
        for _ in range(count):
            if not self._entered.acquire(timeout=DEADLINE):
                raise AssertionError(f"no task came to the gate within {DEADLINE} s")

    def open(self) -> None:
        """Let all pass, now and later."""
        self._open.set()


def declare(name: str, *tasks: Any, **handlers: Any) -> TaskSequence:
    """Register a sequence; the tests' fixture forgets it."""
    return register_sequence(TaskSequence(name=name, tasks=list(tasks), **handlers))


def claim(count: int = 1, lease: float = 60.0, worker: int | None = None) -> list[Claim]:
    """Claim as a worker does, on this thread's connection."""
    return STORE.claim((), count, lease, worker)


def claim_one() -> Claim:
    (one,) = claim()
    return one


def everything() -> dict[str, list[dict[str, Any]]]:
    """All rows about jobs: what a refused write must leave as it was."""
    return {
        model.__name__: [dict(row) for row in model.objects.order_by("pk").values()]
        for model in (Job, TaskStatus, TaskAttempt, JobEvent)
    }


def on_threads(count: int, call: Callable[[], Any]) -> list[Any]:
    """What *call* returned in each of *count* threads that began together."""
    barrier = threading.Barrier(count)

    def together() -> Any:
        barrier.wait(DEADLINE)
        return call()

    threads = [InThread(together) for _ in range(count)]
    return [thread.result() for thread in threads]
