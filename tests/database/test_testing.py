"""The helpers for a site's own tests: the clock that `advance()` moves, and what `drain()` is."""

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from django_tasks_seq import executor
from django_tasks_seq.clock import Now, offset
from django_tasks_seq.engine import options_from_settings
from django_tasks_seq.models import Job, Worker
from django_tasks_seq.testing import (
    advance,
    drain,
    reset_clock,
    restored_clock,
)
from tests.database.conftest import Declare
from tests.database.working import Seen, same
from tests.factories import JobFactory

pytestmark = pytest.mark.django_db


def now() -> Any:
    """Now, by the jobs' clock."""
    return Job.objects.annotate(now=Now()).values_list("now", flat=True).get()


def test_advance_moves_the_jobs_clock() -> None:
    """Seconds, minutes and hours add up; the database's now is that much ahead."""
    JobFactory.create()
    before = now()

    assert advance(10) == 10
    assert advance(5, minutes=2, hours=1) == 3735
    assert now() - before == pytest.approx(timedelta(seconds=3735), abs=timedelta(seconds=5))
    reset_clock()
    assert now() - before < timedelta(seconds=5)


def test_restored_clock_goes_back() -> None:
    """What is advanced inside is undone at the end, also when the block raises."""
    advance(7)
    with restored_clock():
        advance(100)
        assert offset() == 107

    assert offset() == 7


def test_the_suite_sets_the_clock_back() -> None:
    """Each test begins with the database's own clock."""
    assert offset() == 0


def test_options_are_those_of_the_settings(configure: Any) -> None:
    """The engine in tests obeys `TASKS_SEQ`."""
    configure(LEASE_SECONDS=7, MAX_CRASHES=9, UNKNOWN_TASK_GRACE=1, RESEND_SECONDS=2)

    options = options_from_settings()

    assert (options.lease, options.max_crashes, options.unknown_grace, options.resend) == (
        7,
        9,
        1,
        2,
    )


def test_drain_with_nothing_to_do() -> None:
    """No jobs, no claims, and no worker is registered."""
    assert drain() == 0
    assert not Worker.objects.exists()


def test_a_task_that_fails_does_not_fail_the_test(declare: Declare) -> None:
    """`drain()` records what tasks raise and goes on with the others."""

    def fail(payload: Any) -> None:
        raise AssertionError("in a task")

    declare(fail, name="bad")
    declare(same, name="good")
    bad, good = executor.start_sequence("bad", priority=1), executor.start_sequence("good")

    assert drain() == 2
    assert bad.refresh().error == "t1: AssertionError: in a task"
    assert good.refresh().status == "SUCCESSFUL"


def test_a_hook_of_the_test_that_raises_is_shown(declare: Declare) -> None:
    """An `on_commit` hook that raises, and is not robust, fails the test that drains."""

    def broken() -> None:
        raise RuntimeError("hook")

    transaction.on_commit(broken)
    with pytest.raises(RuntimeError, match="hook"):
        drain()


def test_a_robust_hook_that_raises_is_not(declare: Declare) -> None:
    """A robust hook fails for itself, as after a commit."""

    def broken() -> None:
        raise RuntimeError("hook")

    transaction.on_commit(broken, robust=True)

    assert drain() == 0


def test_a_database_error_ends_drain(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside a test's transaction no new connection can help: the error is raised, not waited out."""
    declare(same)
    executor.start_sequence("probe")
    store = type(executor.store())

    def broken(*args: Any) -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(store, "claim", broken)
    with pytest.raises(OperationalError, match="gone"):
        drain()

    assert connection.is_usable()


@pytest.mark.django_db(transaction=True)
def test_drain_outside_of_a_transaction(declare: Declare) -> None:
    """In a TransactionTestCase the same code commits for real."""
    task = Seen()
    declare(task, task)
    job = executor.start_sequence("probe", 7)

    assert drain() == 1
    assert task.payloads == [7, 7]
    assert job.refresh().status == "SUCCESSFUL"
