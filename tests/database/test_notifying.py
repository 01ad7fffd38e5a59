"""NOTIFY: who is told that a job was started, when, and that somebody always is."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks_seq import executor
from django_tasks_seq.cache.model.notifying import CHANNEL, LOCK
from django_tasks_seq.models import Job
from tests.database.conftest import Declare
from tests.database.working import Inbox, same
from tests.helpers import DEADLINE, own_connection

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

FENCE = "fence"


class Ear:
    """A session that listens, as an idle worker does."""

    def __init__(self, wrapper: BaseDatabaseWrapper) -> None:
        wrapper.ensure_connection()
        self._raw: Any = wrapper.connection
        for channel in (CHANNEL, FENCE):
            self._raw.execute(f"LISTEN {channel}")

    def count(self) -> int:
        """How many notifications were sent since the last call, by what is committed now."""
        with own_connection() as other, other.cursor() as cursor:
            # Notifications arrive in the order of commits.
            cursor.execute(f"NOTIFY {FENCE}")
        for before, notification in enumerate(self._raw.notifies(timeout=DEADLINE)):
            if notification.channel == FENCE:
                return before
        raise AssertionError(f"nothing was heard within {DEADLINE} s")


@pytest.fixture
def ear(transactional_db: None) -> Iterator[Ear]:
    """Hears what is sent in the course of the test."""
    with own_connection() as wrapper:
        yield Ear(wrapper)


@contextmanager
def lock_held(other: BaseDatabaseWrapper) -> Iterator[Callable[[], None]]:
    """Another start is about to commit its notification; call what is yielded to end it before."""
    with other.cursor() as cursor:

        def end() -> None:
            cursor.execute("ROLLBACK")

        cursor.execute("BEGIN")
        cursor.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        yield end
        end()


@contextmanager
def behind_the_insert(call: Callable[[], Any]) -> Iterator[None]:
    """Call something between the INSERT and what is sent behind it."""

    def between(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith("SELECT"):
            call()
        return execute(sql, params, many, context)

    with connection.execute_wrapper(between):
        yield


def test_a_start_is_heard(declare: Declare, ear: Ear) -> None:
    """A start outside of a transaction is heard, as are many at once and one that was due before."""
    declare(same)

    executor.start_sequence("probe")
    assert ear.count() == 1
    executor.start_sequence("probe", run_after=datetime(2020, 1, 1, tzinfo=UTC))
    assert ear.count() == 1
    executor.start_sequence("probe", run_after=timedelta(seconds=-5))
    assert ear.count() == 1
    executor.start_many("probe", range(3))
    assert ear.count() == 1


def test_a_transaction_is_heard_when_it_commits(declare: Declare, ear: Ear) -> None:
    """Whatever a transaction has started is heard behind its commit, by one notification."""
    declare(same)

    for _ in range(2):
        with transaction.atomic():
            executor.start_sequence("probe")
            executor.start_many("probe", range(3))
            with transaction.atomic():
                executor.start_sequence("probe")
            assert ear.count() == 0
        assert ear.count() == 1


def test_what_is_rolled_back_is_not_heard(declare: Declare, ear: Ear) -> None:
    """A start that is undone tells nobody, and what is started besides it and later is heard."""
    declare(same)

    with transaction.atomic():
        executor.start_sequence("probe")
        transaction.set_rollback(True)
    assert ear.count() == 0
    with transaction.atomic(), transaction.atomic():
        executor.start_sequence("probe")
        transaction.set_rollback(True)
    assert ear.count() == 0
    with transaction.atomic():
        with transaction.atomic():
            executor.start_sequence("probe")
            transaction.set_rollback(True)
        executor.start_sequence("probe")
    assert ear.count() == 1


def test_a_transaction_by_hand_is_heard(declare: Declare, ear: Ear) -> None:
    """With autocommit off the notification is part of the transaction."""
    declare(same)

    transaction.set_autocommit(False)
    try:
        executor.start_sequence("probe")
        assert ear.count() == 0
        transaction.commit()
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)

    assert ear.count() == 1


def test_what_no_worker_could_claim_is_not_heard(
    declare: Declare, ear: Ear, configure: Callable[..., None], inbox: Inbox
) -> None:
    """Nobody is woken for a carried job, for one that waits, by a key that was used, or by setting."""
    declare(same)

    executor.start_sequence("probe", idempotency_key="k")
    executor.start_many("probe", range(2))
    configure(START_TASK_HANDLER="django_tasks_seq.handlers.WorkerStartTaskHandler")
    executor.start_sequence("probe", run_after=timedelta(hours=1))
    executor.start_sequence("probe", run_after=datetime(2100, 1, 1, tzinfo=UTC))
    executor.start_many("probe", range(2), run_after=timedelta(hours=1))
    executor.start_sequence("probe", idempotency_key="k")
    configure(NOTIFY=False)
    executor.start_sequence("probe")

    assert Job.objects.filter(carried=False).count() == 5
    assert ear.count() == 0


def test_a_verb_that_makes_a_job_ready_is_heard(declare: Declare, ear: Ear) -> None:
    """A job that a person lets go on is heard behind the commit, one that is paused is not."""
    declare(same)
    job = executor.start_sequence("probe")
    assert ear.count() == 1

    executor.pause(job)
    assert ear.count() == 0
    executor.resume(job)
    assert ear.count() == 1


# --- two at the same moment


@pytest.mark.parametrize("number", [1, 3])
def test_who_meets_another_leaves_it_to_that_one(
    declare: Declare, ear: Ear, other_connection: BaseDatabaseWrapper, number: int
) -> None:
    """While another start commits its notification, which comes later, none is sent."""
    declare(same)

    with lock_held(other_connection):
        executor.start_many("probe", range(number))
        executor.start_sequence("probe")
        with transaction.atomic():
            executor.start_sequence("probe")

    assert Job.objects.count() == number + 2
    assert ear.count() == 0


def test_who_met_another_that_is_gone_sends_behind_its_own_commit(
    declare: Declare, ear: Ear, other_connection: BaseDatabaseWrapper
) -> None:
    """The other may have committed before: then this start sends one, as a second statement."""
    declare(same)

    with lock_held(other_connection) as end, behind_the_insert(end):
        executor.start_sequence("probe")

    assert ear.count() == 1


def test_a_start_stands_when_nobody_can_be_told(
    declare: Declare, other_connection: BaseDatabaseWrapper, caplog: pytest.LogCaptureFixture
) -> None:
    """The session ends behind the commit: the start has succeeded, and polls find the job."""
    declare(same)

    def end_session() -> None:
        raw: Any = connection.connection
        with own_connection() as other, other.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(%s, 10000)", [raw.info.backend_pid])

    with lock_held(other_connection), behind_the_insert(end_session):
        job = executor.start_sequence("probe")
    connection.close()

    assert job.refresh().status == "READY"
    assert "workers were not notified" in caplog.text
