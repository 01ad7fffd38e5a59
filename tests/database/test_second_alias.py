"""`DATABASE="jobs"`: all tables, and promise G1, are on the second alias."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any

import pytest
from django.db import connections, transaction
from django.test import TestCase

from django_tasks_seq import TaskSpec, executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, same
from tests.testapp.models import Order

BOTH = ["default", "jobs"]
pytestmark = pytest.mark.django_db(databases=BOTH)


@pytest.fixture(autouse=True)
def _jobs_alias(configure: Callable[..., None]) -> None:
    configure(DATABASE="jobs")


class RollBackError(Exception):
    pass


@contextmanager
def rolled_back(alias: str) -> Iterator[None]:
    with suppress(RollBackError), transaction.atomic(using=alias):
        yield
        raise RollBackError


def on(alias: str) -> list[int]:
    """Numbers of rows of each table on this alias."""
    models = (Job, TaskStatus, TaskAttempt, JobEvent)
    return [model.objects.using(alias).count() for model in models]


def test_all_rows_are_on_the_second_alias(declare: Declare) -> None:
    """A job that fails once, is paused and runs writes nothing on the default alias."""
    declare(Failing(), same)
    job = executor.start_sequence("probe")
    drain()
    executor.skip(job, "t1", by="anna")
    drain()

    assert on("jobs") == [1, 2, 1, 1]
    assert on("default") == [0, 0, 0, 0]
    assert job._state.db == "jobs"
    assert Job.objects.get() == job


def test_a_start_asks_the_second_alias_alone(
    declare: Declare, django_assert_num_queries: Any
) -> None:
    """No statement of a start goes to the default alias."""
    declare(same)

    with django_assert_num_queries(0, using="default"), django_assert_num_queries(1, using="jobs"):
        executor.start_sequence("probe")


def test_a_rollback_of_the_default_alias_does_not_matter(declare: Declare, inbox: Inbox) -> None:
    """The job stays when only the default alias rolls back."""
    declare(same)

    with rolled_back("default"):
        Order.objects.create(number="1051")
        executor.start_sequence("probe")

    assert Job.objects.count() == 1
    assert not Order.objects.exists()


def test_a_rollback_of_the_second_alias_takes_the_job(declare: Declare, inbox: Inbox) -> None:
    """The job is gone, and not announced, when the jobs' alias rolls back."""
    declare(same)
    order = Order.objects.create(number="1051")

    with (
        TestCase.captureOnCommitCallbacks(using="jobs", execute=True),
        rolled_back("jobs"),
    ):
        executor.start_sequence("probe", subject=order)

    assert not Job.objects.exists()
    assert not inbox.messages
    assert Order.objects.get() == order


def test_a_subject_of_the_other_alias_is_found(declare: Declare) -> None:
    """Subjects live where they live; jobs are found by them on the jobs' alias."""
    declare(same)
    order = Order.objects.create(number="1051")

    job = executor.start_sequence("probe", subject=order)

    assert list(Job.objects.for_subject(order)) == [job]


def test_atomic_tasks_commit_on_the_jobs_alias(declare: Declare) -> None:
    """What an atomic task wrote on the jobs' alias is rolled back with it, the rest is not."""
    inside = []

    def write(payload: Any, context: Any) -> None:
        inside.append(connections["jobs"].in_atomic_block)
        Order.objects.using("jobs").create(number=f"jobs {context.attempt}")
        Order.objects.using("default").create(number=f"default {context.attempt}")
        raise ValueError

    declare(TaskSpec("t1", write, atomic=True))
    executor.start_sequence("probe")
    drain()

    assert inside == [True]
    assert not Order.objects.using("jobs").exists()
    assert Order.objects.using("default").count() == 1


def test_late_starts_and_handlers_work_there(declare: Declare, inbox: Inbox) -> None:
    """Promotion, start handlers and verbs all use the jobs' alias."""
    declare(same)
    with TestCase.captureOnCommitCallbacks(using="jobs", execute=True):
        job = executor.start_sequence("probe", run_after=timedelta(hours=1))
    assert not inbox.messages

    advance(hours=1, seconds=1)
    drain()

    assert inbox.tasks == ["t1"]
    assert inbox.consume()[0].outcome == "SUCCESSFUL"
    assert job.refresh().status == "SUCCESSFUL"
