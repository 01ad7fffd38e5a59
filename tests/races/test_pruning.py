"""Pruning against people, workers, starts and another that prunes: nobody waits long, nobody loses a row."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.utils import timezone

from django_tasks_seq import JobNotFound, executor
from django_tasks_seq.cache.retention import Prunable, Pruned
from django_tasks_seq.models import Job, TaskStatus
from django_tasks_seq.pruning import DAY, LIMIT, Pruner
from tests.engines import STORE, claim, declare, engine, everything, on_threads
from tests.factories import JobFactory
from tests.helpers import InThread, wait_until, wait_until_blocked

MONTH = Prunable(30 * DAY)


def nothing(payload: Any) -> Any:
    return payload


def old(**traits: Any) -> Job:
    """A job that failed long ago at its second task."""
    declared: dict[str, Any] = {"sequence": "lines", "plan": ["a", "b"], "failed": True}
    job: Job = JobFactory.create(age=40 * DAY, took=0, history=1, **{**declared, **traits})
    return job


@pytest.fixture(autouse=True)
def _lines(_sequences_of_the_test: None) -> None:
    declare("lines", ("a", nothing), ("b", nothing))


def prune(limit: int = 100, seconds: float | None = LIMIT) -> Pruned:
    return STORE.prune(MONTH, limit, seconds=seconds)


@contextmanager
def once_found(call: Callable[[], Any]) -> Iterator[None]:
    """Call something when a batch has found its jobs, before it locks them."""
    is_called = False

    def meddle(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        nonlocal is_called
        result = execute(sql, params, many, context)
        if not is_called and sql.startswith("SELECT id") and "ORDER BY finished_at" in sql:
            is_called = True
            InThread(call).result()
        return result

    with connection.execute_wrapper(meddle):
        yield
    assert is_called


def test_a_job_that_is_retried_when_it_was_found_is_left_alone() -> None:
    """The retry commits between the search and the lock: the job is checked again, and runs."""
    job, other = old(), old()

    with once_found(lambda: executor.retry(job, by="anna")):
        before = TaskStatus.objects.filter(job=job).count()
        done = prune()

    assert (done.found, done.jobs) == (2, 1)
    assert not Job.objects.filter(pk=other.pk).exists()
    assert job.refresh().status == "READY"
    assert job.task_statuses.count() == before
    assert job.events.get().by == "anna"
    with engine(name="one:1"):
        assert executor.wait(job, 30).status == "SUCCESSFUL"


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_job_that_is_being_retried_is_passed_by() -> None:
    """The retry is not committed yet: pruning does not wait, and changes nothing of that job."""
    job, other = old(), old()

    with transaction.atomic():
        executor.retry(job)
        done = InThread(prune).result()
        held = everything()
    assert everything() == held

    assert (done.found, done.jobs) == (2, 1)
    assert list(Job.objects.all()) == [job]
    assert not Job.objects.filter(pk=other.pk).exists()
    assert prune().found == 0


@pytest.mark.mariadb
@pytest.mark.postgresql
@pytest.mark.parametrize("verb", [executor.retry, executor.cancel])
def test_a_verb_waits_for_a_batch_and_learns_that_the_job_is_gone(verb: Any) -> None:
    """It changes nothing: neither a row of the job nor an event comes back."""
    job = old()

    with transaction.atomic():
        assert prune().jobs == 1
        late = InThread(verb, job)
        wait_until_blocked()
    with pytest.raises(JobNotFound):
        late.result()

    assert everything() == {"Job": [], "TaskStatus": [], "TaskAttempt": [], "JobEvent": []}


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_batch_that_is_undone_leaves_the_job_to_the_retry() -> None:
    """What was deleted and not committed is there for whoever waited."""
    job = old()

    with transaction.atomic():
        assert prune().jobs == 1
        late = InThread(executor.retry, job)
        wait_until_blocked()
        transaction.set_rollback(True)

    assert late.result().status == "READY"
    assert job.task_statuses.count() == 2


# On MariaDB the key is looked for first: the start comes before the deletion, and gets the old job.
@pytest.mark.postgresql
def test_a_start_with_the_key_of_a_job_that_goes_is_a_new_job() -> None:
    """It waits for the batch, and then is not told of a job that is no more."""
    first = old(idempotency_key="k")

    with transaction.atomic():
        assert prune().jobs == 1
        late = InThread(executor.start_sequence, "lines", {}, idempotency_key="k")
        wait_until_blocked()

    second = late.result()
    assert second.was_started
    assert second.pk != first.pk
    assert list(Job.objects.all()) == [second]


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_batch_that_is_not_committed_holds_up_no_worker() -> None:
    """Other jobs are started, run and ended while it holds its locks."""
    for _ in range(50):
        old()

    with transaction.atomic():
        assert prune().jobs == 50
        with engine(name="one:1"):
            jobs = InThread(executor.start_many, "lines", [{}] * 20).result()
            wait_until(
                lambda: Job.objects.filter(status="SUCCESSFUL").count() == len(jobs), what="the end"
            )

    assert Job.objects.count() == len(jobs)


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_who_meets_another_at_it_does_not_wait() -> None:
    """All that it found is held: it deletes nothing, and says that it was not alone."""
    for _ in range(10):
        old()

    with transaction.atomic():
        assert prune().jobs == 10
        second = Pruner(STORE, MONTH)
        assert InThread(second.batch).result() is False

    assert (second.jobs, second.passed, second.is_contended) == (0, 10, True)
    assert not Job.objects.exists()


def test_two_at_once_delete_each_job_once() -> None:
    """Together they count as many as there were, and both end."""
    for _ in range(300):
        old()

    def walk() -> Pruner:
        pruner = Pruner(STORE, MONTH)
        while pruner.batch():
            pass
        return pruner

    pruners = on_threads(2, walk)
    rest = walk()

    assert sum(one.jobs for one in [*pruners, rest]) == 300
    assert sum(one.tasks for one in [*pruners, rest]) == 600
    assert everything() == {"Job": [], "TaskStatus": [], "TaskAttempt": [], "JobEvent": []}


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_row_that_somebody_holds_is_passed_by() -> None:
    """Whoever locks a job in a transaction of their own keeps it for that long; the others go."""
    held, *_ = [old() for _ in range(9)]

    with transaction.atomic():
        Job.objects.select_for_update().get(pk=held.pk)
        assert InThread(prune).result().jobs == 8
    assert list(Job.objects.all()) == [held]

    assert prune().jobs == 1


@pytest.mark.mariadb
@pytest.mark.postgresql
@pytest.mark.parametrize("seconds", [LIMIT, None])
def test_rows_that_somebody_holds_without_their_job_are_not_waited_for(
    seconds: float | None,
) -> None:
    """The whole batch is undone within its time, one job alone as well."""
    job = old()
    before = everything()

    with transaction.atomic():
        list(TaskStatus.objects.select_for_update().filter(job=job))
        done = InThread(prune, 1, seconds).result()

    assert done.is_slow
    assert done.jobs == 0
    assert everything() == before


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_walk_goes_on_behind_a_job_whose_rows_are_held() -> None:
    """It is passed by, and deleted by the next walk."""
    held, *_ = [old() for _ in range(5)]

    def walk() -> Pruner:
        pruner = Pruner(STORE, MONTH)
        while pruner.batch():
            pass
        return pruner

    with transaction.atomic():
        list(TaskStatus.objects.select_for_update().filter(job=held))
        first = InThread(walk).result()

    assert (first.jobs, first.passed) == (4, 1)
    assert walk().jobs == 1


def test_what_is_claimed_for_its_handler_stays() -> None:
    """A final job whose handler is due, or runs, is not settled, however old it is."""
    job = old()
    Job.objects.filter(pk=job.pk).update(
        handler_due="error", run_after=timezone.now() - timedelta(days=40)
    )
    assert prune().found == 0
    (mine,) = STORE.claim_handlers((), 1, 60.0, None)

    assert prune().found == 0
    assert mine.job_id == job.pk
    assert claim(1) == []
