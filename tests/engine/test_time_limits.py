"""Tasks that run longer than they may."""

import asyncio
import threading
from typing import Any

from django.db.models import F

from django_tasks_seq import BaseErrorHandler, Retry, TaskSpec, executor
from django_tasks_seq.engine.loop import EXIT_ABANDONED
from django_tasks_seq.models import Job, TaskAttempt
from tests.engines import EngineThread, Gate, declare, engine
from tests.helpers import DEADLINE, wait_until


def nothing(payload: Any) -> Any:
    return payload


def outcomes() -> list[tuple[int, str]]:
    return list(TaskAttempt.objects.order_by("id").values_list("attempt", "outcome"))


def test_a_sync_task_that_heeds_its_limit_is_timed_out() -> None:
    """After a fraction of a second it sees `should_stop`, and ending by it counts as timed out."""
    reasons = []

    def heeds(payload: Any, context: Any) -> None:
        wait_until(lambda: context.should_stop, what="the limit")
        reasons.append(context.stop_reason)
        context.raise_if_stopping()

    declare("limited", TaskSpec("a", heeds, timeout=0.2))
    with engine(name="one:1", stop_grace=100.0):
        job = executor.wait(executor.start_sequence("limited", {}), 30)

    assert reasons == ["timeout"]
    assert job.status == "FAILED"
    assert outcomes() == [(1, "TIMED_OUT")]


def test_a_task_that_returns_after_its_limit_has_succeeded() -> None:
    """What it did is done: within the grace its result is kept."""

    def late(payload: Any, context: Any) -> Any:
        wait_until(lambda: context.should_stop, what="the limit")
        return "done"

    declare("limited", TaskSpec("a", late, timeout=0.1))
    with engine(name="one:1", stop_grace=100.0):
        job = executor.wait(executor.start_sequence("limited", {}), 30)

    assert (job.status, job.result) == ("SUCCESSFUL", "done")


def test_an_abandoned_task_is_recorded_and_its_late_outcome_refused() -> None:
    """It does not stop: it is timed out, its thread is replaced, and nothing it returns is kept."""
    gate, ended = Gate(), threading.Event()

    def stuck(payload: Any, context: Any) -> Any:
        if context.attempt == 1:
            gate()
            ended.set()
        return f"attempt {context.attempt}"

    retry = Retry(2, delay=0.0, jitter=False)
    declare("stuck", TaskSpec("a", stuck, timeout=0.1, retry=retry), ("b", nothing))
    with engine(name="one:1", concurrency=2, stop_grace=0.1):
        job = executor.wait(executor.start_sequence("stuck", {}), 30)
        gate.open()
        assert ended.wait(DEADLINE)
        executor.wait(executor.start_sequence("stuck", {}), 30)

    assert (job.refresh().status, job.result) == ("SUCCESSFUL", "attempt 2")
    assert job.claim_token == 2, "its retry was claimed anew"
    assert (1, "TIMED_OUT") in outcomes()


def test_an_abandoned_task_leaves_room_for_others() -> None:
    """With one of two threads lost, two more tasks run side by side."""
    stuck, pair = Gate(), Gate()

    def hangs(payload: Any) -> None:
        stuck()

    def waits(payload: Any) -> None:
        pair()

    declare("stuck", TaskSpec("a", hangs, timeout=0.1))
    declare("pair", ("a", waits))
    with engine(name="one:1", concurrency=2, stop_grace=0.1):
        executor.wait(executor.start_sequence("stuck", {}), 30)
        executor.start_many("pair", [1, 2])
        pair.wait_for(2)
        pair.open()
        stuck.open()


def test_the_error_handler_of_an_abandoned_task_runs_and_no_later_task_does() -> None:
    """The job has failed; that its thread returns a result after all moves it no further."""
    gate, calls = Gate(), []

    class Notes(BaseErrorHandler):
        def handle_error(self, error: Any, context: Any) -> Any:
            gate.open()
            assert ended.wait(DEADLINE)
            calls.append(error.exception_class)

    ended = threading.Event()

    def stuck(payload: Any) -> Any:
        gate()
        ended.set()
        return "late"

    def never(payload: Any) -> None:
        calls.append("the next task ran")

    declare(
        "stuck", TaskSpec("a", stuck, timeout=0.1), ("b", never), error_handler=Notes
    )  # fmt: skip
    with engine(name="one:1", concurrency=2, stop_grace=0.1):
        job = executor.wait(executor.start_sequence("stuck", {}), 30)

    assert job.status == "FAILED"
    assert calls == ["django_tasks_seq.exceptions.TaskTimeout"]


def test_an_async_task_is_cancelled_at_its_limit() -> None:
    """Its `finally` blocks run, and the attempt is timed out."""
    cleaned = []

    async def sleeps(payload: Any) -> None:
        try:
            await asyncio.sleep(DEADLINE)
        finally:
            cleaned.append(True)

    declare("limited", TaskSpec("a", sleeps, timeout=0.2))
    with engine(name="one:1", stop_grace=100.0):
        job = executor.wait(executor.start_sequence("limited", {}), 30)

    assert cleaned == [True]
    assert job.status == "FAILED"
    assert outcomes() == [(1, "TIMED_OUT")]


def test_an_async_task_that_swallows_its_cancellation_is_abandoned() -> None:
    """It is recorded as timed out, and other async tasks go on."""
    release = threading.Event()

    async def swallows(payload: Any) -> str:
        while not release.is_set():
            try:
                await asyncio.sleep(0.01)
            except asyncio.CancelledError:
                continue
        return "late"

    async def quick(payload: Any) -> str:
        await asyncio.sleep(0)
        return "quick"

    declare("limited", TaskSpec("a", swallows, timeout=0.1))
    declare("quick", ("a", quick))
    with engine(name="one:1", stop_grace=0.1):
        job = executor.wait(executor.start_sequence("limited", {}), 30)
        other = executor.wait(executor.start_sequence("quick", {}), 30)
        release.set()

    assert job.refresh().status == "FAILED"
    assert (other.status, other.result) == ("SUCCESSFUL", "quick")
    assert outcomes() == [(1, "TIMED_OUT")]


def test_a_timed_out_atomic_task_takes_back_what_it_wrote() -> None:
    """It is abandoned while it runs; when it comes to its end its transaction is rolled back."""
    from tests.testapp.models import Effect

    gate, ended = Gate(), threading.Event()

    def stuck(payload: Any, context: Any) -> None:
        gate()
        Effect.objects.create(job_id=context.job_id)
        ended.set()

    declare("stuck", TaskSpec("a", stuck, timeout=0.1, atomic=True))
    declare("quick", ("a", nothing))
    with engine(name="one:1", concurrency=2, stop_grace=0.1) as one:
        job = executor.start_sequence("stuck", {})
        gate.wait_for()
        wait_until(lambda: one.engine.limits.abandoned == 1, what="that it is given up")
        gate.open()
        assert ended.wait(DEADLINE)
        assert executor.wait(job, 30).status == "FAILED"
        executor.wait(executor.start_sequence("quick", {}), 30)

    assert not Effect.objects.exists()


def test_a_worker_that_has_lost_its_claims_goes_on() -> None:
    """It stood still, and others have its jobs: its tasks have time to stop before it ends for them."""
    gate = Gate()

    def waits(payload: Any, context: Any) -> None:
        gate()
        wait_until(lambda: context.should_stop, what="the loss")

    declare("long", ("a", waits))
    declare("quick", ("a", nothing))
    with engine(name="one:1", concurrency=2, stop_grace=100.0) as one:
        executor.start_many("long", [{}, {}])
        gate.wait_for(2)
        Job.objects.update(claim_token=F("claim_token") + 1, worker=None)
        assert executor.wait(executor.start_sequence("quick", {}), 30).status == "SUCCESSFUL"
        gate.open()

    assert one.engine.exit_code == 0


def test_a_worker_whose_lost_tasks_do_not_stop_ends() -> None:
    """After the grace they count as abandoned, as those do that were told by their limit."""
    gate = Gate()

    def stuck(payload: Any) -> None:
        gate()

    declare("long", ("a", stuck))
    one = EngineThread(name="one:1", concurrency=2, stop_grace=0.2)
    executor.start_many("long", [{}, {}])
    gate.wait_for(2)
    Job.objects.update(claim_token=F("claim_token") + 1, worker=None)

    assert one.thread.result() == EXIT_ABANDONED
    gate.open()
