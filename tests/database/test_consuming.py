"""`execute_task` when the database, a row or a caller's transaction makes trouble: it never raises."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.db import (
    IntegrityError,
    InterfaceError,
    InternalError,
    OperationalError,
    connection,
    transaction,
)

from django_tasks_seq import Retry, TaskSpec, consuming, executor
from django_tasks_seq.cache.changes import Applied
from django_tasks_seq.cache.model import writes
from django_tasks_seq.consuming import RENEWER
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Inbox, Seen, same, statuses

pytestmark = pytest.mark.django_db(transaction=True)
Apply = Callable[..., Applied]


@pytest.fixture
def breaking(monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], None]:
    """`breaking(function)` lets the store's `apply` ask *function* first; what it returns is used."""

    def use(function: Any) -> None:
        store = type(executor.store())
        real = store.apply

        def apply(self: Any, changes: Any, worker_name: str = "") -> Applied:
            instead: Applied | None = function(changes)
            return real(self, changes, worker_name) if instead is None else instead

        monkeypatch.setattr(store, "apply", apply)

    return use


def test_an_outcome_that_the_database_refuses_fails_the_task(
    declare: Declare, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task has run: it is failed for good with the database's words, and not run again."""
    task = Seen()
    declare(TaskSpec("t1", task, retry=Retry(5, delay=0)))
    job = executor.start_sequence("probe")
    real, refused = writes.write_changes, []

    def write(db: Any, changes: Any, *args: Any) -> None:
        if any(change.verb == "complete_job" for change in changes):
            refused.append(True)
            raise IntegrityError("value too odd")
        real(db, changes, *args)

    monkeypatch.setattr(writes, "write_changes", write)
    run = executor.execute_task(job, "t1")

    assert (run.ran, run.outcome) == (True, "FAILED")
    assert refused == [True]
    assert job.refresh().error == "t1: IntegrityError: value too odd"
    assert len(task.payloads) == 1


def test_a_row_that_somebody_holds_is_waited_for(
    declare: Declare, inbox: Inbox, breaking: Callable[[Any], None]
) -> None:
    """An outcome whose row is held is written as soon as it is free."""
    declare(same)
    job = executor.start_sequence("probe")
    busy = [Applied(busy={job.id}), Applied(busy={job.id})]
    breaking(lambda changes: busy.pop() if busy else None)

    assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"
    assert busy == []
    assert job.refresh().status == "SUCCESSFUL"


def test_a_database_that_fails_is_asked_again(
    declare: Declare, inbox: Inbox, breaking: Callable[[Any], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An outcome survives a database that is gone for a while, or read-only."""
    monkeypatch.setattr(consuming, "DOWN_PAUSE", 0.001)
    declare(same)
    job = executor.start_sequence("probe")
    failures = [OperationalError("gone"), InternalError("read-only"), InterfaceError("closed")]

    def fail(changes: Any) -> None:
        if failures:
            raise failures.pop()

    breaking(fail)

    assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"
    assert job.refresh().status == "SUCCESSFUL"


def test_a_database_that_stays_away_loses_the_outcome(
    declare: Declare,
    inbox: Inbox,
    breaking: Callable[[Any], None],
    configure: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a lease nothing is waited for: the job is taken for lost, and runs again later."""
    monkeypatch.setattr(consuming, "DOWN_PAUSE", 0.001)
    configure(LEASE_SECONDS=1)
    task = Seen()
    declare(task)
    job = executor.start_sequence("probe")
    away = [True]

    def fail(changes: Any) -> None:
        if away:
            raise OperationalError("gone")

    breaking(fail)
    assert executor.execute_task(job, "t1").outcome == "LOST"
    away.clear()
    advance(61)
    drain()
    inbox.consume()

    assert job.refresh().status == "SUCCESSFUL"
    assert len(task.payloads) == 2


def test_a_task_that_must_be_shown_is_not_run_without(
    declare: Declare, inbox: Inbox, breaking: Callable[[Any], None]
) -> None:
    """A claim that is lost before its RUNNING row is there runs no code."""
    task = Seen()
    declare(TaskSpec("t1", task, on_lost="fail"))
    job = executor.start_sequence("probe")
    lost = [Applied(lost={job.id})]
    breaking(lambda changes: lost.pop() if lost else None)

    assert executor.execute_task(job, "t1").outcome == "LOST"
    assert task.payloads == []


def test_a_payload_that_is_no_json_any_more_fails_the_job(declare: Declare, inbox: Inbox) -> None:
    """A row that somebody spoilt fails its job with what is wrong, and nobody's consumer."""
    task = Seen()
    declare(task, error_handler=lambda error: error.exception_class)
    job = executor.start_sequence("probe")
    with connection.cursor() as cursor:
        cursor.execute(f"UPDATE {Job._meta.db_table} SET payload = '{{nonsense'")

    run = executor.execute_task(job, "t1")

    assert (run.ran, run.outcome) == (True, "FAILED")
    assert task.payloads == []
    row = Job.objects.values("status", "error").get()
    assert row["status"] == "FAILED"
    assert row["error"].startswith("t1: JSONDecodeError")


def test_inside_a_callers_transaction(declare: Declare, inbox: Inbox) -> None:
    """A consumer that calls from inside a transaction gets its outcome with its commit."""
    declare(same)
    job = executor.start_sequence("probe")
    with transaction.atomic():
        assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"
        transaction.set_rollback(True)

    assert job.refresh().status == "READY"
    assert statuses(job) == {}
    assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"


def test_the_lease_is_renewed_while_the_task_runs(
    declare: Declare, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One daemon thread of the process renews, and ends when nothing is left to renew."""
    monkeypatch.setattr(RENEWER, "INTERVAL", 0.01)
    renewed = threading.Event()
    names: list[str] = []
    real = consuming.renew

    def renew(calls: Any) -> None:
        names.append(threading.current_thread().name)
        real(calls)
        renewed.set()

    monkeypatch.setattr(consuming, "renew", renew)
    declare(lambda payload: renewed.wait(30), lambda payload: renewed.wait(30))
    job = executor.start_sequence("probe")
    executor.execute_task(job, "t1")
    renewed.clear()
    executor.execute_task(job, "t2")

    assert job.refresh().task_results() == {"t1": True, "t2": True}
    assert set(names) == {"tasks-seq-renewer"}
    thread = RENEWER._thread
    if thread is not None:
        thread.join(30)
        assert not thread.is_alive()


def test_a_renewal_that_fails_is_tried_again(
    declare: Declare, inbox: Inbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a renewal raises is logged, and the next one comes."""
    monkeypatch.setattr(RENEWER, "INTERVAL", 0.01)
    renewed = threading.Event()
    failures = [OperationalError("gone")]

    def renew(calls: Any) -> None:
        if failures:
            raise failures.pop()
        renewed.set()

    monkeypatch.setattr(consuming, "renew", renew)
    declare(lambda payload: renewed.wait(30))
    job = executor.start_sequence("probe")

    assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"
    assert job.refresh().result is True
