"""Promise G1: a job exists if and only if the caller commits; nothing is announced before."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.test import Client, TestCase, override_settings

from django_tasks_seq import (
    InlineStartTaskHandler,
    TaskSequence,
    executor,
    register_sequence,
    registry,
)
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.views import DeclinedError
from tests.database.working import Inbox, Seen, same
from tests.testapp.models import Order

JOBS = Job._meta.db_table
in_transactions = pytest.mark.django_db(transaction=True)


@contextmanager
def rolled_back() -> Iterator[None]:
    """A transaction, or a savepoint, that ends with an exception of the caller."""
    with suppress(DeclinedError), transaction.atomic():
        yield
        raise DeclinedError


def count_jobs(other: BaseDatabaseWrapper) -> int:
    """Jobs that another connection can see."""
    with other.cursor() as cursor:
        cursor.execute(f"SELECT COUNT(*) FROM {JOBS}")
        return int(cursor.fetchone()[0])


@in_transactions
def test_outside_a_transaction_a_job_is_there_at_once(
    declare: Declare, other_connection: BaseDatabaseWrapper
) -> None:
    """Without a transaction the start is a commit of its own."""
    declare(same)

    executor.start_sequence("probe")

    assert count_jobs(other_connection) == 1


@in_transactions
def test_inside_a_transaction_a_job_is_there_with_the_commit(
    declare: Declare, other_connection: BaseDatabaseWrapper
) -> None:
    """Nobody sees the job before the caller's commit, everybody after it."""
    declare(same)

    with transaction.atomic():
        job = executor.start_sequence("probe")
        assert isinstance(job.id, UUID)
        assert count_jobs(other_connection) == 0

    assert count_jobs(other_connection) == 1


@in_transactions
def test_a_rollback_leaves_nothing(declare: Declare, inbox: Inbox) -> None:
    """A caller that rolls back has started nothing, and no start handler is called."""
    declare(same)

    with rolled_back():
        Order.objects.create(number="1051")
        executor.start_sequence("probe")

    assert not Job.objects.exists()
    assert not Order.objects.exists()
    assert not inbox.messages


@in_transactions
def test_a_savepoint_takes_its_jobs_with_it(declare: Declare, inbox: Inbox) -> None:
    """A nested atomic block that rolls back takes back its job alone."""
    declare(same)

    with transaction.atomic():
        kept = executor.start_sequence("probe", "kept")
        with rolled_back():
            executor.start_sequence("probe", "taken back")
        assert not inbox.messages

    assert list(Job.objects.all()) == [kept]
    assert [payload for _, _, payload in inbox.messages] == ["kept"]


@in_transactions
def test_start_handlers_are_called_after_the_commit(declare: Declare, inbox: Inbox) -> None:
    """`handle_start` finds the committed row, and is called outside of any transaction."""
    seen = []

    class Looking(inbox.handler):  # type: ignore[name-defined, misc]
        def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
            seen.append((Job.objects.get(pk=job_id).status, connection.in_atomic_block))

    declare(same, start_task_handler=Looking)
    with transaction.atomic():
        executor.start_sequence("probe")
        assert seen == []

    assert seen == [("READY", False)]


@in_transactions
def test_a_start_handler_that_raises_undoes_nothing(declare: Declare, inbox: Inbox) -> None:
    """What a start handler raises is logged; the caller's commit and its other hooks stand."""

    class Broken(inbox.handler):  # type: ignore[name-defined, misc]
        def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
            raise ConnectionError("no broker")

    declare(same, start_task_handler=Broken)
    called = []
    with transaction.atomic():
        job = executor.start_sequence("probe")
        transaction.on_commit(lambda: called.append(True))

    assert called == [True]
    assert job.refresh().status == "READY"


@in_transactions
def test_inline_jobs_run_after_the_commit(declare: Declare) -> None:
    """An inline job sees what the caller has committed, and its tasks run outside of that."""
    inside = []

    def look(payload: Any) -> bool:
        inside.append(connection.in_atomic_block)
        return Order.objects.filter(pk=payload).exists()

    declare(look, start_task_handler=InlineStartTaskHandler)
    with transaction.atomic():
        order = Order.objects.create(number="1051")
        job = executor.start_sequence("probe", order.pk)
        assert inside == []

    assert inside == [False]
    assert job.refresh().result is True


@in_transactions
def test_verbs_join_the_transaction_as_well(declare: Declare, inbox: Inbox) -> None:
    """A pause that is rolled back has not happened; a resume announces after its commit."""
    declare(same)
    job = executor.start_sequence("probe")
    inbox.messages.clear()

    with rolled_back():
        executor.pause(job)
    assert job.refresh().status == "READY"
    assert not job.events.exists()

    executor.pause(job)
    with transaction.atomic():
        executor.resume(job)
        assert not inbox.messages
    assert inbox.tasks == ["t1"]


# --- requests


@pytest.fixture(params=[False, True], ids=["plain", "ATOMIC_REQUESTS"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of the views, with and without a transaction around each request."""
    before = connection.settings_dict["ATOMIC_REQUESTS"]
    connection.settings_dict["ATOMIC_REQUESTS"] = request.param
    with override_settings(ROOT_URLCONF="tests.database.views"):
        yield Client()
    connection.settings_dict["ATOMIC_REQUESTS"] = before


@in_transactions
def test_a_view_starts_a_job(client: Client, declare: Declare) -> None:
    """The job of a view that returned is there, and is run by the next worker."""
    task = Seen()
    declare(task)

    response = client.get("/order", {"number": "1051"})
    drain()

    job = Job.objects.get()
    assert response.content.decode() == str(job.id)
    assert job.status == "SUCCESSFUL"
    assert task.payloads == [{"order_id": Order.objects.get().pk}]


@in_transactions
def test_a_view_that_raises_leaves_what_it_committed(client: Client, declare: Declare) -> None:
    """With ATOMIC_REQUESTS neither order nor job is there; without it both are."""
    declare(same)

    with pytest.raises(DeclinedError):
        client.get("/order", {"number": "1051", "fail": "1"})

    there = not connection.settings_dict["ATOMIC_REQUESTS"]
    assert Order.objects.exists() is there
    assert Job.objects.exists() is there


@in_transactions
def test_an_async_view_starts_a_job(declare: Declare) -> None:
    """`astart_sequence` in an async view returns the job, which is committed."""
    declare(same)

    with override_settings(ROOT_URLCONF="tests.database.views"):
        response = Client().get("/order-async", {"number": "7"})

    job = Job.objects.get()
    assert response.content.decode() == str(job.id)
    assert job.payload == {"number": "7"}


# --- tests of a site


class SiteTest(TestCase):
    """A site's own TestCase, where nothing is ever committed."""

    def setUp(self) -> None:
        context = registry.isolated()
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.task = Seen()
        register_sequence(TaskSequence("probe", [("only", self.task)]))

    def test_drain_runs_what_was_started(self) -> None:
        """`drain()` runs jobs on the test's own connection, without anything that a commit would do."""
        with self.captureOnCommitCallbacks():
            job = executor.start_sequence("probe", 7)
        drain()

        assert self.task.payloads == [7]
        assert job.refresh().status == "SUCCESSFUL"

    @override_settings(TASKS_SEQ={"START_TASK_HANDLER": InlineStartTaskHandler})
    def test_captured_callbacks_run_inline_jobs(self) -> None:
        """`captureOnCommitCallbacks(execute=True)` runs an inline job as a commit would."""
        with self.captureOnCommitCallbacks(execute=True):
            job = executor.start_sequence("probe", 7)
            assert self.task.payloads == []

        assert self.task.payloads == [7]
        assert job.refresh().status == "SUCCESSFUL"

    @override_settings(TASKS_SEQ={"START_TASK_HANDLER": InlineStartTaskHandler})
    def test_drain_calls_commit_hooks(self) -> None:
        """`drain()` calls the hooks that wait for the commit that never comes in a test."""
        called = []
        transaction.on_commit(lambda: called.append(True))
        job = executor.start_sequence("probe", 7)

        drain()

        assert called == [True]
        assert job.refresh().status == "SUCCESSFUL"
