"""Time limits: async attempts are cancelled, sync ones see `should_stop`."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from django_tasks_seq import Retry, TaskSpec, executor
from django_tasks_seq.exceptions import StopTask
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.working import Inbox
from tests.helpers import wait_until

pytestmark = pytest.mark.django_db
SHORT = 0.05


async def forever(payload: Any) -> None:
    await asyncio.Event().wait()


def test_an_async_task_is_cancelled_at_its_limit(declare: Declare) -> None:
    """An async task that runs too long is cancelled and recorded as timed out."""
    declare(TaskSpec("t1", forever, timeout=SHORT))
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().error == f"t1: TaskTimeout: The task ran longer than {SHORT:g} s."
    attempt = job.attempts.get()
    assert attempt.outcome == "TIMED_OUT"
    assert attempt.exception_class == "django_tasks_seq.exceptions.TaskTimeout"


def test_execute_task_cancels_an_async_task_too(declare: Declare, inbox: Inbox) -> None:
    """A consumer's async task has the same limit."""
    declare(TaskSpec("t1", forever, timeout=SHORT))
    job = executor.start_sequence("probe")

    assert executor.execute_task(job, "t1").outcome == "FAILED"
    assert job.attempts.get().outcome == "TIMED_OUT"


def test_a_timeout_is_retried_as_a_failure_is(declare: Declare) -> None:
    """A timed out attempt counts, and the next may succeed."""
    calls = []

    async def slow_once(payload: Any) -> Any:
        calls.append(payload)
        if len(calls) == 1:
            await forever(payload)
        return "done"

    declare(TaskSpec("t1", slow_once, timeout=SHORT, retry=Retry(2, delay=0)))
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().result == "done"
    assert [attempt.outcome for attempt in job.attempts.all()] == ["TIMED_OUT"]


def test_a_task_may_tidy_up_when_it_is_cancelled(declare: Declare) -> None:
    """What a cancelled task awaits in its `finally` runs to its end."""
    tidied = []

    async def tidy(payload: Any) -> None:
        try:
            await forever(payload)
        finally:
            await asyncio.sleep(0)
            tidied.append(True)

    declare(TaskSpec("t1", tidy, timeout=SHORT))
    executor.start_sequence("probe")
    drain()

    assert tidied == [True]


def test_a_timeout_of_its_own_is_a_failure_like_any(declare: Declare) -> None:
    """A TimeoutError that the task raises itself is not taken for the limit."""

    async def inner(payload: Any) -> None:
        async with asyncio.timeout(0):
            await forever(payload)

    declare(TaskSpec("t1", inner, timeout=60))
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().error == "t1: TimeoutError"
    assert job.attempts.get().outcome == "FAILED"


def test_the_default_limit_is_the_settings_one(
    declare: Declare, configure: Callable[..., None]
) -> None:
    """`TIMEOUT` holds for tasks that say nothing."""
    configure(TIMEOUT=SHORT)
    declare(forever)
    job = executor.start_sequence("probe")
    drain()

    assert job.attempts.get().outcome == "TIMED_OUT"


def run_until_stopped(payload: Any, context: Any) -> str:
    wait_until(lambda: context.should_stop)
    return str(context.stop_reason)


def test_a_sync_task_sees_its_limit(declare: Declare) -> None:
    """`should_stop` turns true at the limit; a task that returns nevertheless has succeeded."""
    declare(TaskSpec("t1", run_until_stopped, timeout=SHORT))
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().result == "timeout"


def test_raise_if_stopping_at_the_limit_is_a_timeout(declare: Declare) -> None:
    """With the reason "timeout" the attempt counts as timed out."""

    def stop(payload: Any, context: Any) -> None:
        while True:
            context.raise_if_stopping()

    declare(TaskSpec("t1", stop, timeout=SHORT, retry=Retry(2, delay=0)))
    job = executor.start_sequence("probe")
    drain()

    assert [attempt.outcome for attempt in job.attempts.all()] == ["TIMED_OUT"] * 2
    assert job.refresh().status == "FAILED"


def test_nothing_stops_a_task_that_may_go_on(declare: Declare) -> None:
    """Without a reason `raise_if_stopping()` does nothing, and `should_stop` is false."""

    def look(payload: Any, context: Any) -> list[Any]:
        context.raise_if_stopping()
        return [context.should_stop, context.stop_reason]

    declare(look)
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().result == [False, None]


def test_stop_task_passes_a_broad_except() -> None:
    """Control flow derives from BaseException, so that `except Exception` cannot eat it."""
    assert not issubclass(StopTask, Exception)
