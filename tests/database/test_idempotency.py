"""Idempotency keys: one job for (sequence, key), whoever starts it, as long as it is kept."""

from typing import Any

import pytest
from django.db import connection, transaction

from django_tasks_seq import IdempotencyConflict, executor
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.working import Seen, same
from tests.helpers import InThread, wait_until, wait_until_blocked


@pytest.mark.django_db
def test_a_second_start_returns_the_first_job(declare: Declare) -> None:
    """With the same payload the first job comes back as it is now, and is not started again."""
    task = Seen()
    declare(task)
    first = executor.start_sequence("probe", {"a": 1, "b": 2}, idempotency_key="k")
    drain()

    second = executor.start_sequence("probe", {"b": 2, "a": 1}, idempotency_key="k")
    drain()

    assert (first.was_started, second.was_started) == (True, False)
    assert second == first
    assert second.status == "SUCCESSFUL"
    assert len(task.payloads) == 1


@pytest.mark.django_db
@pytest.mark.parametrize("other", [{"a": 2}, None, {"a": True}, {"a": 1.0}])
def test_another_payload_is_a_conflict(declare: Declare, other: Any) -> None:
    """The same key with another payload raises, names the first job, and starts nothing."""
    declare(same)
    first = executor.start_sequence("probe", {"a": 1}, idempotency_key="k")

    with pytest.raises(IdempotencyConflict, match="Nothing was started") as refused:
        executor.start_sequence("probe", other, idempotency_key="k")

    assert (refused.value.key, refused.value.job_id) == ("k", first.id)
    assert Job.objects.count() == 1
    assert not connection.needs_rollback


@pytest.mark.django_db
def test_keys_are_of_one_sequence(declare: Declare) -> None:
    """Two sequences may use the same key; without a key every start is a job."""
    declare(same, name="one")
    declare(same, name="two")

    started = [executor.start_sequence(name, idempotency_key="k") for name in ("one", "two")]
    started += [executor.start_sequence("one") for _ in range(2)]

    assert all(job.was_started for job in started)
    assert Job.objects.count() == 4


@pytest.mark.django_db
def test_a_key_is_free_again_when_its_job_is_gone(declare: Declare) -> None:
    """Once the first job was pruned the key starts another."""
    declare(same)
    first = executor.start_sequence("probe", 1, idempotency_key="k")
    Job.objects.all().delete()

    second = executor.start_sequence("probe", 2, idempotency_key="k")

    assert second.was_started
    assert second.id != first.id


def concurrent_start(payload: Any) -> Job:
    found: Job = executor.start_sequence("probe", payload, idempotency_key="k")
    return found


@pytest.mark.mariadb
@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_concurrent_second_start_waits_and_gets_the_first_job(declare: Declare) -> None:
    """The loser of two starts waits for the winner's commit, then gets the winner's job."""
    declare(same)
    with transaction.atomic():
        first = executor.start_sequence("probe", 1, idempotency_key="k")
        loser = InThread(concurrent_start, 1)
        wait_until_blocked()

    second = loser.result()

    assert second == first
    assert not second.was_started
    assert Job.objects.count() == 1


@pytest.mark.mariadb
@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_concurrent_second_start_wins_when_the_first_rolls_back(declare: Declare) -> None:
    """When the winner rolls back, the start that waited makes its own job."""
    declare(same)
    with transaction.atomic():
        first = executor.start_sequence("probe", 1, idempotency_key="k")
        waiting = InThread(concurrent_start, 2)
        wait_until_blocked()
        transaction.set_rollback(True)

    second = waiting.result()

    assert second.was_started
    assert second.id != first.id
    assert Job.objects.get().payload == 2


@pytest.mark.mariadb
@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_concurrent_conflict_is_told_after_the_wait(declare: Declare) -> None:
    """A start with another payload waits as well, and raises once the first is committed."""
    declare(same)
    with transaction.atomic():
        executor.start_sequence("probe", 1, idempotency_key="k")
        waiting = InThread(concurrent_start, 2)
        wait_until_blocked()

    with pytest.raises(IdempotencyConflict):
        waiting.result()


@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
def test_on_sqlite_a_second_start_waits_for_the_write_lock(declare: Declare) -> None:
    """While one transaction has started the job, another start waits and then gets that job."""
    declare(same)
    begun: list[bool] = []

    def second() -> Job:
        begun.append(True)
        return concurrent_start(1)

    with transaction.atomic():
        first = executor.start_sequence("probe", 1, idempotency_key="k")
        loser = InThread(second)
        wait_until(lambda: begun)

    job = loser.result()

    assert job == first
    assert not job.was_started
