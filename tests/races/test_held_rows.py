"""A row that somebody holds: the engine never waits for it. PostgreSQL, where rows are locked."""

from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F

from django_tasks_seq import TaskSpec, executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from tests.engines import Gate, declare, engine
from tests.helpers import DEADLINE, InThread, wait_until, wait_until_blocked
from tests.testapp.models import Account, Effect

pytestmark = [pytest.mark.postgresql, pytest.mark.mariadb]


def nothing(payload: Any) -> Any:
    return payload


def effect(payload: Any, context: Any) -> Any:
    Effect.objects.create(job_id=context.job_id, task_id=context.task_id, attempt=context.attempt)
    return payload


def hold(job: Job) -> None:
    """Lock the job's row until the caller's transaction ends, as a view does."""
    Job.objects.select_for_update().get(pk=job.pk)


def successful(job: Job) -> bool:
    return Job.objects.filter(pk=job.pk, status="SUCCESSFUL").exists()


def test_a_held_job_is_claimed_later_and_delays_no_other(
    other_connection: BaseDatabaseWrapper,
) -> None:
    """All other jobs of two workers end while one row is still locked; that job ends afterwards."""
    declare("lines", ("a", nothing), ("b", nothing), ("c", nothing))
    held, *others = executor.start_many("lines", [{"n": n} for n in range(60)])

    with other_connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute(f"SELECT 1 FROM {Job._meta.db_table} WHERE id = %s FOR UPDATE", [held.pk])
        with engine(name="one:1"), engine(name="two:2"):
            wait_until(lambda: all(map(successful, others)), what="the end of the other jobs")
            assert not TaskStatus.objects.filter(job_id=held.pk).exists()
            cursor.execute("ROLLBACK")
            wait_until(lambda: successful(held), what="the end of the held job")


def test_a_held_job_in_hand_keeps_its_outcome_and_delays_no_other() -> None:
    """An outcome whose row is locked stays in hand; the others of its batch are committed."""
    gate = Gate()

    def waits(payload: dict[str, Any]) -> Any:
        if payload["n"] == 0:
            gate()
        return payload

    declare("lines", ("a", waits), ("b", nothing))
    held, *others = executor.start_many("lines", [{"n": n} for n in range(60)])
    with engine(name="one:1", lease=60.0):
        gate.wait_for()
        with transaction.atomic():
            hold(held)
            gate.open()
            more = InThread(
                executor.start_many, "lines", [{"n": n} for n in range(60, 90)]
            ).result()
            wait_until(lambda: all(map(successful, [*others, *more])), what="the other jobs")
            assert not TaskStatus.objects.filter(job_id=held.pk, status="SUCCESSFUL").exists()
        wait_until(lambda: successful(held), what="the end of the held job")

    assert gate.entries == 1
    assert Job.objects.get(pk=held.pk).claim_token == 1


def test_a_held_row_does_not_stop_renewals_of_others() -> None:
    """While one row is locked beyond its lease, the other job's lease is renewed."""
    gate = Gate()

    def waits(payload: Any) -> Any:
        gate()
        return payload

    declare("lines", ("a", waits))
    held, other = executor.start_many("lines", [{"n": n} for n in range(2)])

    def lease_of(job: Job) -> Any:
        return Job.objects.values_list("lease_until", flat=True).get(pk=job.pk)

    with engine(name="one:1", lease=2.0):
        gate.wait_for(2)
        with transaction.atomic():
            hold(held)
            before = lease_of(held), lease_of(other)
            wait_until(lambda: lease_of(other) > before[1], what="a renewal of the other")
            once = lease_of(other)
            wait_until(lambda: lease_of(other) > once, what="a second renewal")
            assert lease_of(held) == before[0]
        wait_until(lambda: lease_of(held) > before[0], what="a renewal of the held job")
        gate.open()
        wait_until(lambda: successful(held) and successful(other), what="the end of both")

    assert not JobEvent.objects.exists()


def test_an_atomic_task_waits_for_a_held_row_and_commits() -> None:
    """The fence of an atomic task waits for whoever holds the row; its effect is there once."""
    declare("lines", TaskSpec("a", effect, atomic=True))
    job = executor.start_sequence("lines", {})
    gate = Gate()

    def waits(payload: Any, context: Any) -> Any:
        gate()
        return effect(payload, context)

    declare("gated", TaskSpec("a", waits, atomic=True))
    gated = executor.start_sequence("gated", {})
    with engine(name="one:1"):
        gate.wait_for()
        with transaction.atomic():
            hold(gated)
            gate.open()
            wait_until_blocked()
            wait_until(lambda: successful(job), what="the end of the other job")
            assert not Effect.objects.filter(job_id=gated.pk).exists()
        wait_until(lambda: successful(gated), what="the end of the held job")

    assert Effect.objects.filter(job_id=gated.pk).count() == 1
    assert gate.entries == 1


def test_an_atomic_task_is_refused_when_its_claim_changed() -> None:
    """If whoever held the row took the claim, all that the atomic task wrote is rolled back."""
    gate = Gate()

    def waits(payload: Any, context: Any) -> Any:
        result = effect(payload, context)
        if context.attempt == 1:
            gate()
        return result

    declare("gated", TaskSpec("a", waits, atomic=True))
    gated = executor.start_sequence("gated", {})
    with engine(name="one:1"):
        gate.wait_for()
        with transaction.atomic():
            hold(gated)
            gate.open()
            wait_until_blocked()
            Job.objects.filter(pk=gated.pk).update(
                status="READY", claim_token=F("claim_token") + 1, lease_until=None, worker=None
            )
        wait_until(lambda: successful(gated), what="the run under a new claim")

    assert gate.entries == 2
    assert Effect.objects.count() == 1
    assert Job.objects.get().claim_token == 3
    assert not TaskAttempt.objects.exists()


def test_a_deadlock_of_atomic_tasks_costs_no_attempt() -> None:
    """Two atomic tasks that deadlock both end in their first attempt, each with its effect once."""
    first, second = (Account.objects.create(name=name, balance=0) for name in "ab")
    gate = Gate()

    def move(payload: dict[str, Any], context: Any) -> None:
        for place, pk in enumerate(payload["accounts"]):
            Account.objects.filter(pk=pk).update(balance=F("balance") + 1)
            if place == 0:
                gate()
        Effect.objects.create(job_id=context.job_id, attempt=context.attempt)

    declare("moves", TaskSpec("move", move, atomic=True))
    order = [first.pk, second.pk]
    executor.start_many("moves", [{"accounts": order}, {"accounts": order[::-1]}])
    with engine(name="one:1"):
        gate.wait_for(2)
        gate.open()
        wait_until(
            lambda: Job.objects.filter(status="SUCCESSFUL").count() == 2, what="the end of both"
        )

    assert gate.entries == 3, "one of the two was rolled back and run again"
    assert set(Account.objects.values_list("balance", flat=True)) == {2}
    assert list(Effect.objects.values_list("attempt", flat=True)) == [1, 1]
    assert set(TaskStatus.objects.values_list("attempts", flat=True)) == {1}
    assert not TaskAttempt.objects.exists()


def test_a_task_is_not_run_again_for_another_error_of_the_database() -> None:
    """Only deadlocks and serialization failures are free: any other error is an attempt."""
    gate = Gate()
    gate.open()

    def raises(payload: Any) -> None:
        gate()
        raise OperationalError("the disk is full")

    declare("raises", TaskSpec("a", raises, atomic=True))
    executor.start_sequence("raises", {})
    with engine(name="one:1"):
        wait_until(lambda: Job.objects.filter(status="FAILED").exists(), DEADLINE, "the failure")

    assert gate.entries == 1
    assert TaskAttempt.objects.count() == 1
