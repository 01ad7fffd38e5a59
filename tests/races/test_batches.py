"""Many writes in one commit: what one of them breaks, and what two say of the same key."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DataError, IntegrityError, connection, transaction

from django_tasks_seq import executor
from django_tasks_seq.attempt import MANAGER
from django_tasks_seq.cache.changes import Checkpoint, Report
from django_tasks_seq.exceptions import IdempotencyConflict
from django_tasks_seq.models import Job, TaskStatus
from tests.engines import STORE, claim, declare, engine, on_threads
from tests.helpers import InThread, wait_until, wait_until_blocked

TASK = TaskStatus._meta.db_table
REFUSE = {
    "sqlite": (
        (
            f"CREATE TRIGGER refuse_poison BEFORE INSERT ON {TASK} WHEN NEW.result LIKE '%%poison%%'"
            " BEGIN SELECT RAISE(ABORT, 'poison is refused'); END"
        ),
        "DROP TRIGGER refuse_poison",
    ),
    "postgresql": (
        f"ALTER TABLE {TASK} ADD CONSTRAINT refuse_poison CHECK (result NOT LIKE '%%poison%%')",
        f"ALTER TABLE {TASK} DROP CONSTRAINT refuse_poison",
    ),
}
REFUSE["mysql"] = REFUSE["postgresql"]


def same(payload: Any) -> Any:
    return payload


@pytest.fixture
def poison_is_refused(transactional_db: None) -> Iterator[None]:
    """The database refuses a result with a certain word."""
    create, drop = REFUSE[connection.vendor]
    with connection.cursor() as cursor:
        cursor.execute(create)
    yield
    with connection.cursor() as cursor:
        cursor.execute(drop)


def test_an_outcome_the_database_refuses_is_split_off(poison_is_refused: None) -> None:
    """Of ten outcomes in one commit, the one that breaks it is reported, the others are written."""
    declare("lines", ("only", same), ("next", same))
    executor.start_many("lines", [{"n": n} for n in range(10)])
    claims = claim(10)
    results = ["1"] * 10
    results[4] = '"poison"'

    applied = STORE.apply(
        [
            MANAGER.complete_task(one, result, Report(), handler="", keep=True)
            for one, result in zip(claims, results, strict=True)
        ]
    )

    assert set(applied.done) == {one.job_id for one in claims} - {claims[4].job_id}
    assert isinstance(applied.broken[claims[4].job_id], (IntegrityError, DataError))
    assert TaskStatus.objects.count() == 9


def test_the_job_of_a_refused_outcome_fails_and_its_neighbours_do_not(
    poison_is_refused: None,
) -> None:
    """A task whose result the database refuses has failed, for good and with the reason."""
    declare("lines", ("only", same), ("next", same))
    jobs = executor.start_many("lines", ["good", "poison", "fine"])
    with engine(name="one:1"):
        for job in jobs:
            executor.wait(job, 30)

    assert [job.refresh().status for job in jobs] == ["SUCCESSFUL", "FAILED", "SUCCESSFUL"]
    assert "poison" in jobs[1].error


@pytest.mark.postgresql
def test_text_that_postgresql_refuses_breaks_its_own_job_only() -> None:
    """A NUL that came as far as the commit is an error of that write alone."""
    declare("lines", ("only", same))
    executor.start_many("lines", [1, 2])
    good, bad = claim(2)

    def outcome(one: Any, result: str) -> Checkpoint:
        return Checkpoint(one.job_id, one.token, "only", 0, 1, result, 0.1, 0.0, ends=True)

    applied = STORE.apply([outcome(good, '"\0"'), outcome(bad, '"fine"')])

    assert set(applied.broken) == {good.job_id}
    assert set(applied.done) == {bad.job_id}


def test_an_outcome_is_recorded_once_though_it_is_sent_twice() -> None:
    """The answer to a commit was lost: sent again, it changes nothing and is no loss for a running job."""
    declare("lines", ("only", same), ("next", same))
    executor.start_sequence("lines", 1)
    (one,) = claim()
    write = MANAGER.complete_task(one, "1", Report(), handler="", keep=True)
    STORE.apply([write], "first")
    rows = list(TaskStatus.objects.values())

    again = STORE.apply([write], "second")

    assert set(again.done) == {one.job_id}
    assert list(TaskStatus.objects.values()) == rows


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_second_start_waits_for_the_first_and_returns_its_job() -> None:
    """Two transactions start one idempotency key: the second waits, then finds the first's job."""
    declare("lines", ("only", same))

    with transaction.atomic():
        first = executor.start_sequence("lines", 1, idempotency_key="order-7")
        late = InThread(executor.start_sequence, "lines", 1, idempotency_key="order-7")
        wait_until_blocked()
    second = late.result()

    assert (second.pk, first.was_started, second.was_started) == (first.pk, True, False)


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_second_start_goes_ahead_when_the_first_is_rolled_back() -> None:
    """The first start never happened, so the second one starts the job."""
    declare("lines", ("only", same))

    with transaction.atomic():
        first = executor.start_sequence("lines", 1, idempotency_key="order-7")
        late = InThread(executor.start_sequence, "lines", 1, idempotency_key="order-7")
        wait_until_blocked()
        transaction.set_rollback(True)
    second = late.result()

    assert second.was_started
    assert second.pk != first.pk
    assert [job.pk for job in Job.objects.all()] == [second.pk]


def test_starts_at_once_with_one_key_start_one_job() -> None:
    """However many start it together, exactly one of them has."""
    declare("lines", ("only", same))

    jobs = on_threads(6, lambda: executor.start_sequence("lines", 1, idempotency_key="order-7"))

    assert len({job.pk for job in jobs}) == 1
    assert sum(job.was_started for job in jobs) == 1
    assert Job.objects.count() == 1


def test_starts_at_once_with_other_payloads_conflict() -> None:
    """One key with two payloads: one job is started, the other start is refused."""
    declare("lines", ("only", same))
    payloads = iter([{"n": 1}, {"n": 2}])

    def start() -> Any:
        try:
            return executor.start_sequence("lines", next(payloads), idempotency_key="order-7")
        except IdempotencyConflict as conflict:
            return conflict

    results = on_threads(2, start)

    assert sum(isinstance(result, IdempotencyConflict) for result in results) == 1
    wait_until(lambda: Job.objects.count() == 1)
