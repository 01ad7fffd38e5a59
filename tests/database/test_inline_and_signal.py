"""Start handlers that run tasks where they are due, and which handler serves a sequence."""

import sys
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from django.dispatch import Signal

from django_tasks_seq import (
    BaseStartTaskHandler,
    InlineStartTaskHandler,
    Retry,
    SignalStartTaskHandler,
    TaskSpec,
    WorkerStartTaskHandler,
    executor,
)
from django_tasks_seq.signals import task_ready
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, count, same

pytestmark = pytest.mark.django_db(transaction=True)
Configure = Callable[..., None]


@pytest.fixture
def _inline(configure: Configure) -> None:
    configure(START_TASK_HANDLER=InlineStartTaskHandler)


@pytest.mark.usefixtures("_inline")
def test_inline_runs_in_the_caller(declare: Declare) -> None:
    """`start_sequence` returns when the job is done, handlers included."""
    calls: list[Any] = []
    declare(count, count, success_handler=calls.append)

    job = executor.start_sequence("probe", {"n": 0})

    assert job.refresh().result == {"n": 2}
    assert job.is_settled
    assert calls == [{"n": 2}]


@pytest.mark.usefixtures("_inline")
def test_inline_is_a_loop(declare: Declare) -> None:
    """A sequence of 900 tasks runs inline: the stack of the last is as deep as that of the first."""
    depths: list[int] = []

    def measure(payload: Any) -> int:
        depth, frame = 0, sys._getframe()
        while frame.f_back is not None:
            depth, frame = depth + 1, frame.f_back
        depths.append(depth)
        return int(payload) + 1

    declare(*[measure] * 900)
    job = executor.start_sequence("probe", 0)

    assert job.refresh().result == 900
    assert max(depths[1:]) - min(depths[1:]) <= 1


@pytest.mark.usefixtures("_inline")
def test_inline_runs_the_error_handler_and_retries_at_once(declare: Declare) -> None:
    """Retries without delay are turns of the same loop."""
    failing, errors = Failing(), []
    declare(
        TaskSpec("t1", failing, retry=Retry(3, delay=0)),
        error_handler=lambda error: errors.append(error.attempt),
    )
    job = executor.start_sequence("probe")

    assert failing.attempts == [1, 2, 3]
    assert errors == [3]
    assert job.refresh().is_settled


@pytest.mark.usefixtures("_inline")
def test_inline_leaves_what_is_due_later_to_a_sweep(declare: Declare) -> None:
    """A retry with a delay is run by whoever promotes it."""
    failing = Failing(times=1)
    declare(TaskSpec("t1", failing, retry=Retry(2, delay=100, jitter=False)))
    job = executor.start_sequence("probe")
    assert job.refresh().status == "WAITING"
    advance(101)
    drain()

    assert job.refresh().status == "SUCCESSFUL"


@pytest.mark.usefixtures("_inline")
def test_a_job_started_by_an_inline_task_runs_after_it(declare: Declare) -> None:
    """A nested start is another turn, not a call within the task."""
    order: list[str] = []

    def outer(payload: Any) -> None:
        executor.start_sequence("inner")
        order.append("outer")

    declare(lambda payload: order.append("inner"), name="inner")
    declare(outer, lambda payload: order.append("outer 2"))
    executor.start_sequence("probe")

    assert order[0] == "outer"
    assert sorted(order) == ["inner", "outer", "outer 2"]


@pytest.mark.usefixtures("_inline")
def test_async_tasks_run_inline(declare: Declare) -> None:
    """An async task runs inline as well."""

    async def task(payload: Any) -> Any:
        return payload

    declare(task, task)

    assert executor.start_sequence("probe", 7).refresh().result == 7


# --- signal


def test_a_receiver_of_task_ready_runs_the_task(
    declare: Declare, configure: Configure, heard: Callable[[Signal], list[dict[str, Any]]]
) -> None:
    """`task_ready` carries job, task and payload, sent by the handler's class."""
    configure(START_TASK_HANDLER=SignalStartTaskHandler)
    received = heard(task_ready)
    declare(count, same)
    job = executor.start_sequence("probe", {"n": 0})

    assert received == [
        {"sender": SignalStartTaskHandler, "job_id": job.id, "task_id": "t1", "payload": {"n": 0}}
    ]
    executor.execute_task(received[0]["job_id"], received[0]["task_id"])
    assert received[1]["payload"] == {"n": 1}


def test_a_receiver_may_execute_at_once(declare: Declare, configure: Configure) -> None:
    """A receiver that calls `execute_task` runs the whole job as a loop."""
    configure(START_TASK_HANDLER=SignalStartTaskHandler)

    def run(signal: Signal, job_id: UUID, task_id: str, payload: Any, **kwargs: Any) -> None:
        executor.execute_task(job_id, task_id, payload)

    task_ready.connect(run)
    try:
        declare(*[count] * 100)
        job = executor.start_sequence("probe", {"n": 0})
    finally:
        task_ready.disconnect(run)

    assert job.refresh().result == {"n": 100}


def test_without_a_receiver_the_task_runs_where_it_is(
    declare: Declare, configure: Configure
) -> None:
    """Nobody who listens is no job that hangs."""
    configure(START_TASK_HANDLER=SignalStartTaskHandler)
    declare(count, count)

    assert executor.start_sequence("probe", {"n": 0}).refresh().result == {"n": 2}


def test_a_receiver_that_raises_loses_nothing(declare: Declare, configure: Configure) -> None:
    """The job stays READY, and the sweep sends the signal again."""
    configure(START_TASK_HANDLER=SignalStartTaskHandler)
    calls = []

    def broken(signal: Signal, **kwargs: Any) -> None:
        calls.append(kwargs["task_id"])
        raise ConnectionError

    task_ready.connect(broken)
    try:
        declare(same)
        job = executor.start_sequence("probe")
        advance(61)
        drain()
    finally:
        task_ready.disconnect(broken)

    assert calls == ["t1", "t1"]
    assert job.refresh().status == "READY"


# --- which handler


def test_a_sequences_own_handler_replaces_the_settings_one(declare: Declare, inbox: Inbox) -> None:
    """`start_task_handler` of the sequence wins, as class, object or path."""
    declare(same, name="class", start_task_handler=WorkerStartTaskHandler)
    declare(same, name="object", start_task_handler=InlineStartTaskHandler())
    declare(
        same,
        name="path",
        start_task_handler="django_tasks_seq.handlers.InlineStartTaskHandler",
    )
    started = {name: executor.start_sequence(name) for name in ("class", "object", "path")}

    assert not inbox.messages
    assert started["class"].refresh().status == "READY"
    assert started["object"].refresh().status == "SUCCESSFUL"
    assert started["path"].refresh().status == "SUCCESSFUL"


def test_one_instance_serves_the_process(declare: Declare) -> None:
    """A start handler's class is built once."""
    built: list[Any] = []

    class Counting(BaseStartTaskHandler):
        def __init__(self) -> None:
            built.append(self)

        def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
            pass

    declare(same, start_task_handler=Counting)
    executor.start_many("probe", [1, 2, 3])
    executor.start_sequence("probe")

    assert len(built) == 1
