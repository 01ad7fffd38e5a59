"""R26: whatever Django lets a project set, a job is there if and only if its start was committed."""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, TestCase, TransactionTestCase, override_settings
from django.urls import path

from django_tasks_seq import TaskSequence, executor, register_sequence, registry
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.test_transactions import count_jobs, rolled_back
from tests.database.views import DeclinedError
from tests.database.working import Inbox, Seen, same
from tests.engines import engine
from tests.helpers import InThread, own_connection, wait_until
from tests.testapp.models import Account, Order

in_transactions = pytest.mark.django_db(transaction=True)


# --- what views do


def starts(request: HttpRequest) -> HttpResponse:
    """Start jobs as the query says: in nested blocks, durable blocks, on commit."""
    how = request.GET["how"]
    if how == "nested":
        with transaction.atomic():
            executor.start_sequence("probe", "kept")
            with rolled_back():
                executor.start_sequence("probe", "taken back")
    elif how == "in a hook":
        transaction.on_commit(lambda: executor.start_sequence("probe", "kept"))
    elif how == "swallowed":
        executor.start_sequence("probe", "kept")
        with suppress(DeclinedError):
            raise DeclinedError
    elif how == "marked":
        executor.start_sequence("probe", "kept")
        if connection.in_atomic_block:
            transaction.set_rollback(True)
    elif how == "raises":
        executor.start_sequence("probe", "kept")
        raise DeclinedError
    return HttpResponse("done", status=500 if how == "error page" else 200)


async def starts_async(request: HttpRequest) -> HttpResponse:
    """Start jobs in an async view: by itself, and in a transaction of a thread."""
    await executor.astart_sequence("probe", "kept")

    def in_a_transaction() -> None:
        with transaction.atomic():
            executor.start_sequence("probe", "taken back")
            raise DeclinedError

    with suppress(DeclinedError):
        await sync_to_async(in_a_transaction)()
    if "fail" in request.GET:
        raise DeclinedError
    return HttpResponse("done")


async def starts_many_async(request: HttpRequest) -> HttpResponse:
    """Start and look at many at once."""
    jobs = await asyncio.gather(*(executor.astart_sequence("probe", n) for n in range(10)))
    found = await asyncio.gather(*(executor.aget_job(job.id) for job in jobs))
    assert [job.payload for job in found] == list(range(10))
    await executor.acancel(jobs[0], by="view")
    return HttpResponse("done")


urlpatterns = [
    path("starts", starts),
    path("async", starts_async),
    path("many", starts_many_async),
]


@pytest.fixture(params=[False, True], ids=["plain", "ATOMIC_REQUESTS"])
def client(request: pytest.FixtureRequest) -> Iterator[Client]:
    """A client of the views above, with and without a transaction around each request."""
    before = connection.settings_dict["ATOMIC_REQUESTS"]
    connection.settings_dict["ATOMIC_REQUESTS"] = request.param
    with override_settings(ROOT_URLCONF=__name__):
        yield Client(raise_request_exception=False)
    connection.settings_dict["ATOMIC_REQUESTS"] = before


@in_transactions
@pytest.mark.parametrize("how", ["nested", "in a hook", "swallowed", "marked", "raises"])
def test_what_a_view_commits_is_there(
    client: Client, declare: Declare, inbox: Inbox, how: str
) -> None:
    """Rows and messages alike: a view's savepoints, hooks and rollbacks take their jobs with them."""
    declare(same)

    client.get("/starts", {"how": how})

    is_undone = connection.settings_dict["ATOMIC_REQUESTS"] and how in {"marked", "raises"}
    expected = [] if is_undone else ["kept"]
    assert sorted(job.payload for job in Job.objects.all()) == expected
    assert [payload for _, _, payload in inbox.messages] == expected


@in_transactions
@pytest.mark.parametrize("fails", [False, True])
def test_an_async_view_commits_what_it_starts(
    declare: Declare, inbox: Inbox, other_connection: BaseDatabaseWrapper, fails: bool
) -> None:
    """A start is a commit of its own there, whatever becomes of the view; a thread's block rolls back."""
    declare(same)

    async def ask() -> None:
        with suppress(DeclinedError):
            await AsyncClient().get("/async", {"fail": "1"} if fails else {})
        # The thread of sync code has a connection of its own.
        await sync_to_async(connections.close_all)()

    with override_settings(ROOT_URLCONF=__name__):
        asyncio.run(ask())

    assert [job.payload for job in Job.objects.all()] == ["kept"]
    assert [payload for _, _, payload in inbox.messages] == ["kept"]
    assert count_jobs(other_connection) == 1


@in_transactions
def test_many_starts_of_one_async_view(declare: Declare) -> None:
    """Each is committed before it is awaited, and the verbs have async twins that see it."""
    declare(same)

    with override_settings(ROOT_URLCONF=__name__):
        assert Client().get("/many").status_code == 200

    assert Job.objects.filter(status="CANCELLED").count() == 1
    assert Job.objects.filter(status="READY").count() == 9


# --- blocks


@in_transactions
def test_savepoints_in_savepoints(
    declare: Declare, inbox: Inbox, other_connection: BaseDatabaseWrapper
) -> None:
    """Five levels deep, each second rolled back: what its outer blocks kept is there, with the last commit."""
    declare(same)

    def level(depth: int) -> None:
        if depth == 5:
            return
        with rolled_back() if depth % 2 else transaction.atomic():
            executor.start_sequence("probe", depth)
            level(depth + 1)
            assert count_jobs(other_connection) == 0

    with transaction.atomic(durable=True):
        level(0)
        executor.start_sequence("probe", "last")

    assert sorted(str(job.payload) for job in Job.objects.all()) == ["0", "last"]
    assert [payload for _, _, payload in inbox.messages] == [0, "last"]


@in_transactions
def test_a_block_without_savepoint(declare: Declare, inbox: Inbox) -> None:
    """`savepoint=False` takes the whole transaction with it when it fails."""
    declare(same)
    with rolled_back():
        executor.start_sequence("probe", "outer")
        with suppress(DeclinedError), transaction.atomic(savepoint=False):
            executor.start_sequence("probe", "inner")
            raise DeclinedError

    assert not Job.objects.exists()
    assert not inbox.messages


@in_transactions
def test_transactions_by_hand(declare: Declare, other_connection: BaseDatabaseWrapper) -> None:
    """With autocommit off a job comes with `commit()`, and not with `rollback()`."""
    declare(same)
    transaction.set_autocommit(False)
    try:
        executor.start_sequence("probe", "rolled back")
        transaction.rollback()
        executor.start_sequence("probe", "committed")
        assert count_jobs(other_connection) == 0
        transaction.commit()
        assert count_jobs(other_connection) == 1
    finally:
        transaction.rollback()
        transaction.set_autocommit(True)

    assert [job.payload for job in Job.objects.all()] == ["committed"]


@in_transactions
def test_a_hook_that_fails_takes_no_job_with_it(declare: Declare, inbox: Inbox) -> None:
    """A hook of the site before ours that raises, robust or not, leaves the job: a sweep announces it."""

    def broken() -> None:
        raise RuntimeError("a hook of the site")

    declare(same)
    with transaction.atomic():
        transaction.on_commit(broken, robust=True)
        executor.start_sequence("probe", "behind a robust one")
    block = transaction.atomic()
    block.__enter__()
    transaction.on_commit(broken)
    executor.start_sequence("probe", "behind another")
    with pytest.raises(RuntimeError):
        block.__exit__(None, None, None)

    assert [payload for _, _, payload in inbox.messages] == ["behind a robust one"]
    assert Job.objects.filter(carried=True, resend_at__isnull=False).count() == 2


# --- tests of a site


class SiteCase(TestCase):
    """A site's `TestCase`: nothing is committed, hooks are captured."""

    def setUp(self) -> None:
        context = registry.isolated()
        context.__enter__()
        self.addCleanup(context.__exit__, None, None, None)
        self.task = Seen()
        register_sequence(TaskSequence("probe", [("only", self.task)]))

    def test_a_rolled_back_start_is_neither_captured_nor_run(self) -> None:
        """Of two starts the one whose savepoint was rolled back leaves no row and no callback."""
        with self.captureOnCommitCallbacks() as callbacks:
            with rolled_back():
                executor.start_sequence("probe", "taken back")
            executor.start_sequence("probe", "kept")
        drain()

        assert self.task.payloads == ["kept"]
        assert len(callbacks) <= 1

    def test_the_id_is_known_before_any_commit(self) -> None:
        """A start returns the job with its id, also where the commit never comes."""
        with self.captureOnCommitCallbacks(execute=True):
            job = executor.start_sequence("probe")
            assert Job.objects.get().pk == job.pk


class SiteTransactionCase(TransactionTestCase):
    """A site's `TransactionTestCase`: commits are real."""

    databases = {"default", "jobs"}

    def test_a_start_is_committed_and_drained(self) -> None:
        """What another connection sees, `drain()` runs."""
        with registry.isolated():
            register_sequence(TaskSequence("probe", [("only", same)]))
            job = executor.start_sequence("probe", 7)
            with own_connection() as other:
                assert count_jobs(other) == 1
            drain()
            assert job.refresh().result == 7


# --- connections


def sessions() -> int:
    """Sessions of this database; 0 where there are none to count."""
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend'"
        )
        return int(cursor.fetchone()[0])


def check_a_site_works(declare: Declare) -> None:
    """Starts from threads, committed and rolled back; a worker; ORM in tasks, atomic and async."""
    from django_tasks_seq import TaskSpec

    def writes(payload: Any) -> Any:
        Account.objects.create(name=str(payload))
        return payload

    async def counts(payload: Any) -> Any:
        return await Account.objects.acount()

    declare(("writes", writes), TaskSpec("atomic", writes, atomic=True), ("counts", counts))

    def request(number: int) -> None:
        with suppress(DeclinedError), transaction.atomic():
            Order.objects.create(number=str(number))
            executor.start_sequence("probe", number)
            if number % 2:
                raise DeclinedError

    for thread in [InThread(request, number) for number in range(6)]:
        thread.result()
    with engine(concurrency=3):
        wait_until(lambda: not Job.objects.active().exists(), what="the end of all jobs")

    assert sorted(Job.objects.values_list("status", "payload")) == [
        ("SUCCESSFUL", n) for n in (0, 2, 4)
    ]
    assert sorted(Order.objects.values_list("number", flat=True)) == ["0", "2", "4"]
    assert Account.objects.count() == 6


@in_transactions
@pytest.mark.parametrize("age", [0, 60, None], ids=["0", "60", "None"])
@pytest.mark.parametrize("checks", [False, True], ids=["", "CONN_HEALTH_CHECKS"])
def test_connections_of_any_age(
    declare: Declare, monkeypatch: pytest.MonkeyPatch, age: int | None, checks: bool
) -> None:
    """With each `CONN_MAX_AGE` jobs are there iff committed, a worker runs them, and no session is left."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", age)
    monkeypatch.setitem(connections.settings["default"], "CONN_HEALTH_CHECKS", checks)
    before = sessions()

    check_a_site_works(declare)

    wait_until(lambda: sessions() <= before, what="no sessions of the worker's threads")


@in_transactions
@pytest.mark.postgresql
def test_connections_of_a_pool(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    """With psycopg's pool, smaller than the number of threads, the same holds, and all are given back."""
    options = {**connections.settings["default"]["OPTIONS"], "pool": {"min_size": 1, "max_size": 6}}
    connection.close()
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    pool: Any = None
    try:
        check_a_site_works(declare)
        connection.close()
        pool = connection.pool  # type: ignore[attr-defined]
        wait_until(
            lambda: pool.get_stats()["pool_available"] == pool.get_stats()["pool_size"],
            what="all connections to be back in the pool",
        )
        assert pool.get_stats()["pool_size"] <= 6
        assert pool.get_stats().get("requests_errors", 0) == 0
    finally:
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined]


# --- several databases


class Split:
    """A router of a site: orders here, jobs there, users anywhere."""

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return None

    db_for_write = db_for_read


@pytest.mark.django_db(transaction=True, databases=["default", "jobs"])
@pytest.mark.parametrize("rolls_back", ["default", "jobs", "both", "none"])
def test_two_databases_are_two_commits(
    declare: Declare, inbox: Inbox, configure: Any, settings: Any, rolls_back: str
) -> None:
    """With `DATABASE="jobs"` a job goes with the transaction there, whatever becomes of the other one."""
    configure(DATABASE="jobs")
    settings.DATABASE_ROUTERS = ["django_tasks_seq.routers.JobRouter", Split()]
    declare(same)
    with suppress(DeclinedError), transaction.atomic(using="jobs"):
        with suppress(DeclinedError), transaction.atomic(using="default"):
            Order.objects.create(number="7")
            executor.start_sequence("probe", 7)
            assert inbox.messages == type(inbox.messages)()
            if rolls_back in {"default", "both"}:
                raise DeclinedError
        if rolls_back in {"jobs", "both"}:
            raise DeclinedError

    is_kept = rolls_back in {"default", "none"}
    assert Job.objects.using("jobs").exists() is is_kept
    assert Order.objects.exists() is (rolls_back in {"jobs", "none"})
    assert len(inbox.messages) == is_kept
