"""Fixtures of tests that run jobs in their own thread: `drain()` is the worker, `advance()` the clock."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.dispatch import Signal

from django_tasks_seq import TaskSequence, register_sequence, registry
from django_tasks_seq.models import Job
from tests.database.working import Inbox

Declare = Callable[..., TaskSequence]


@pytest.fixture
def declare() -> Iterator[Declare]:
    """`declare(task, …, name="probe", **options)` registers a sequence until the test ends.

    A bare callable gets the id `t1`, `t2`, …; a TaskSpec or an ("id", task) pair is taken as it is.
    """

    def make(*tasks: Any, name: str = "probe", **options: Any) -> TaskSequence:
        pairs = [
            task if _has_id(task) else (f"t{number}", task) for number, task in enumerate(tasks, 1)
        ]
        return register_sequence(TaskSequence(name, pairs, **options))

    with registry.isolated():
        yield make


def _has_id(task: Any) -> bool:
    return isinstance(task, tuple) or type(task).__name__ == "TaskSpec"


@pytest.fixture
def configure(settings: Any) -> Callable[..., None]:
    """`configure(MAX_ATTEMPTS=3)` changes keys of `TASKS_SEQ` until the test ends."""

    def change(**values: Any) -> None:
        settings.TASKS_SEQ = {**getattr(settings, "TASKS_SEQ", {}), **values}

    return change


@pytest.fixture
def heard() -> Iterator[Callable[[Signal], list[dict[str, Any]]]]:
    """`heard(signal)` is the list of what that signal has sent since."""
    connected: list[tuple[Signal, Any]] = []

    def listen(signal: Signal) -> list[dict[str, Any]]:
        received: list[dict[str, Any]] = []

        def receive(signal: Signal, **facts: Any) -> None:
            received.append(facts)

        signal.connect(receive, weak=False)
        connected.append((signal, receive))
        return received

    yield listen
    for signal, receive in connected:
        signal.disconnect(receive)


@pytest.fixture
def inbox(configure: Callable[..., None]) -> Inbox:
    """A start handler that puts messages into a plain queue, set as the settings' default."""
    box = Inbox()
    configure(START_TASK_HANDLER=box.handler)
    return box


@pytest.fixture
def unchanged() -> Callable[[Job], Any]:
    """`with unchanged(job):` fails when any row of this job differs afterwards."""

    @contextmanager
    def watch(job: Job) -> Iterator[None]:
        before = rows_of(job)
        yield
        assert rows_of(job) == before

    return watch


def rows_of(job: Job) -> list[Any]:
    querysets: list[Any] = [Job.objects.filter(pk=job.pk)]
    querysets += [job.task_statuses, job.attempts, job.events]
    return [list(rows.order_by("pk").values()) for rows in querysets]
