"""People's verbs against a worker that commits: one waits, and then knows better."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import transaction

from django_tasks_seq import TaskSpec, executor
from django_tasks_seq.attempt import MANAGER
from django_tasks_seq.cache.changes import Claim, Failure, Report
from django_tasks_seq.errors_text import describe_exception
from django_tasks_seq.exceptions import (
    InvalidTransition,
    JobNotCancellable,
    JobNotPausable,
    JobNotRetryable,
)
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from tests.engines import STORE, Gate, claim_one, declare, engine, everything
from tests.helpers import InThread, wait_until, wait_until_blocked
from tests.testapp.models import Effect


def nothing(payload: Any) -> Any:
    return payload


def completion(claim: Claim) -> Any:
    return MANAGER.complete_task(claim, "1", Report(), handler="", keep=True)


def failure(claim: Claim) -> Any:
    text = describe_exception(ValueError("no"))
    return MANAGER.fail_attempt(
        claim, Failure(text, "FAILED", None), Report(), handler="", keep=True
    )


def start(*tasks: str) -> tuple[Job, Claim]:
    declare("lines", *((name, nothing) for name in tasks))
    return executor.start_sequence("lines", {"n": 1}), claim_one()


@pytest.mark.mariadb
@pytest.mark.postgresql
@pytest.mark.parametrize(
    ("verb", "error"),
    [
        (executor.cancel, JobNotCancellable),
        (executor.pause, JobNotPausable),
        (executor.retry, JobNotRetryable),
    ],
)
def test_a_verb_waits_for_the_worker_that_ends_the_job(
    verb: Callable[..., Any], error: type[InvalidTransition]
) -> None:
    """The last outcome is being committed: the verb waits, is refused, and changes nothing."""
    job, mine = start("only")

    with transaction.atomic():
        assert set(STORE.apply([completion(mine)], "me").done) == {job.pk}
        late = InThread(verb, job)
        wait_until_blocked()
    before = everything()
    with pytest.raises(error, match="nothing was changed"):
        late.result()

    assert everything() == before
    assert Job.objects.get().status == "SUCCESSFUL"


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_retry_waits_for_the_failure_that_is_being_committed() -> None:
    """The job fails while somebody presses retry: the retry sees the failure and grants attempts."""
    job, mine = start("only", "next")

    with transaction.atomic():
        STORE.apply([failure(mine)], "me")
        late = InThread(executor.retry, job)
        wait_until_blocked()

    assert late.result().status == "READY"
    assert claim_one().attempt == 2


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_cancel_waits_for_a_checkpoint_and_is_then_heard() -> None:
    """A cancel during the checkpoint of a task that is not the last is a request the tick reads."""
    job, mine = start("only", "next")

    with transaction.atomic():
        STORE.apply([completion(mine)], "me")
        late = InThread(executor.cancel, job)
        wait_until_blocked()

    assert late.result().requested == "cancel"
    mine.advance("1")
    assert STORE.apply([completion(mine)], "me").done == {job.pk: "cancel"}


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_an_outcome_passes_by_a_verb_that_is_not_committed_and_is_then_refused() -> None:
    """While somebody cancels by force the worker's outcome is kept in hand, afterwards refused."""
    job, mine = start("only")

    with transaction.atomic():
        executor.cancel(job, force=True)
        during = InThread(STORE.apply, [completion(mine)], "me").result()
    before = everything()
    after = STORE.apply([completion(mine)], "me")

    assert during.busy == {job.pk}
    assert after.lost == {job.pk}
    assert everything() == before
    assert Job.objects.get().status == "CANCELLED"


def test_a_job_cancelled_by_force_refuses_what_its_task_still_does() -> None:
    """The plain task's late result is nowhere, and no task follows it."""
    gate = Gate()

    def waits(payload: Any) -> Any:
        gate()
        return {"late": True}

    declare("lines", ("a", waits), ("b", nothing))
    job = executor.start_sequence("lines", {})
    with engine(name="one:1"):
        gate.wait_for()
        executor.cancel(job, force=True, by="anna")
        gate.open()
        done = executor.start_sequence("lines", {})
        executor.wait(done, 30)

    job.refresh()
    assert (job.status, job.result, job.task_results()) == ("CANCELLED", None, {})
    assert not TaskStatus.objects.filter(
        job_id=job.pk, status__in=("RUNNING", "SUCCESSFUL")
    ).exists()
    assert not TaskAttempt.objects.exists()
    assert [event.kind for event in JobEvent.objects.all()] == ["force_cancel"]


@pytest.mark.mariadb
@pytest.mark.postgresql  # on SQLite the task holds the only write lock, and the cancel waits for its end
def test_a_job_cancelled_by_force_takes_back_its_atomic_task() -> None:
    """What an atomic task wrote is rolled back when the job was cancelled while it ran."""
    gate = Gate()

    def writes(payload: Any, context: Any) -> None:
        gate()
        Effect.objects.create(job_id=context.job_id)

    declare("lines", TaskSpec("a", writes, atomic=True))
    job = executor.start_sequence("lines", {})
    with engine(name="one:1"):
        gate.wait_for()
        executor.cancel(job, force=True)
        gate.open()
        executor.wait(executor.start_sequence("lines", {}), 30)

    assert job.refresh().status == "CANCELLED"
    assert not Effect.objects.filter(job_id=job.pk).exists()


def test_a_request_is_heard_by_a_running_task_and_ends_its_job() -> None:
    """A cancel reaches the task that runs as `should_stop`; the job is CANCELLED before its next task."""
    gate = Gate()
    reasons = []

    def watches(payload: Any, context: Any) -> Any:
        gate()
        wait_until(lambda: context.should_stop, what="the request")
        reasons.append(context.stop_reason)
        return "ended anyway"

    declare("lines", ("a", watches), ("b", nothing))
    gate.open()
    job = executor.start_sequence("lines", {})
    with engine(name="one:1"):
        gate.wait_for()
        executor.cancel(job)
        executor.wait(job, 30)

    assert reasons == ["cancel"]
    assert job.refresh().status == "CANCELLED"
    assert job.task_results() == {"a": "ended anyway"}
