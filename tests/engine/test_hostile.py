"""What tasks may do to their thread and its connections, and the next task does not notice."""

import asyncio
import os
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, connections, transaction

from django_tasks_seq import TaskSpec, executor
from django_tasks_seq.hygiene import EXIT_FORKED
from django_tasks_seq.models import Job, TaskAttempt
from tests.engines import declare, engine
from tests.helpers import wait_until
from tests.testapp.models import Account, Effect


def open_transaction(payload: Any) -> Any:
    """An atomic block that is entered and never left."""
    transaction.atomic().__enter__()
    Account.objects.create(name="left open")
    return payload


def raw_begin(payload: Any) -> Any:
    """A transaction that Django knows nothing of."""
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    Account.objects.create(name="left open")
    return payload


def no_autocommit(payload: Any) -> Any:
    transaction.set_autocommit(False)
    Account.objects.create(name="left open")
    return payload


def failed_statement(payload: Any) -> Any:
    """A broken transaction, whose every further statement would fail."""
    transaction.atomic().__enter__()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table")
    except Exception:
        connection.needs_rollback = True
    return payload


def closed_under_it(payload: Any) -> Any:
    """The driver's connection is closed behind Django's back."""
    connection.ensure_connection()
    assert connection.connection is not None
    connection.connection.close()
    return payload


def writes(payload: Any, context: Any) -> Any:
    Effect.objects.create(job_id=context.job_id, value=threading.current_thread().name)
    return payload


@pytest.mark.parametrize(
    "hostile", [open_transaction, raw_begin, no_autocommit, failed_statement, closed_under_it]
)
def test_what_a_task_leaves_open_is_rolled_back(hostile: Callable[[Any], Any]) -> None:
    """The next task on that thread commits what it writes; nothing of the first is left."""
    declare("hostile", ("a", hostile))
    declare("canary", ("a", writes), TaskSpec("b", writes, atomic=True))
    with engine(name="one:1", concurrency=1):
        first = executor.wait(executor.start_sequence("hostile", {}), 30)
        canary = executor.wait(executor.start_sequence("canary", {}), 30)

    assert (first.status, canary.status) == ("SUCCESSFUL", "SUCCESSFUL")
    assert Effect.objects.filter(job_id=canary.pk).count() == 2
    assert not Account.objects.filter(name="left open").exists()


class Strange(BaseException):
    """Not an Exception at all."""

    def __str__(self) -> str:
        raise RuntimeError("even its text is broken")


def exits(payload: Any) -> None:
    sys.exit(3)


def interrupts(payload: Any) -> None:
    raise KeyboardInterrupt


def generator_exit(payload: Any) -> None:
    raise GeneratorExit


def strange(payload: Any) -> None:
    raise Strange


def recurses(payload: Any) -> None:
    recurses(payload)


async def exits_in_the_loop(payload: Any) -> None:
    sys.exit(3)


async def cancels_itself(payload: Any) -> None:
    raise asyncio.CancelledError


async def raises_interrupt(payload: Any) -> None:
    raise KeyboardInterrupt


ALL_ENDS = [
    exits, interrupts, generator_exit, strange, recurses, exits_in_the_loop, cancels_itself,
    raises_interrupt,
]  # fmt: skip


@pytest.mark.parametrize("ends", ALL_ENDS)
def test_whatever_a_task_raises_fails_its_job_only(ends: Callable[[Any], Any]) -> None:
    """It is recorded by its class, and the worker, its thread and its loop go on."""
    declare("hostile", ("a", ends))
    declare("canary", ("a", writes), ("b", async_canary))
    with engine(name="one:1", concurrency=1) as one:
        failed = executor.wait(executor.start_sequence("hostile", {}), 30)
        canary = executor.wait(executor.start_sequence("canary", {}), 30)
        assert one.thread.is_alive()

    assert (failed.status, canary.status) == ("FAILED", "SUCCESSFUL")
    assert TaskAttempt.objects.get().exception_class != ""


async def async_canary(payload: Any) -> Any:
    await asyncio.sleep(0)
    return payload


async def lets_a_child_exit(payload: Any) -> Any:
    async def child() -> None:
        sys.exit(7)

    asyncio.get_running_loop().create_task(child())
    await asyncio.sleep(0)
    return payload


async def stops_the_loop(payload: Any) -> Any:
    asyncio.get_running_loop().stop()
    return payload


@pytest.mark.parametrize("hostile", [lets_a_child_exit, stops_the_loop])
def test_the_loop_goes_on_whatever_is_done_to_it(hostile: Callable[[Any], Any]) -> None:
    """A task that makes the loop return, or raise, leaves it to the tasks behind it."""
    declare("hostile", ("a", hostile))
    declare("canary", ("a", async_canary), ("b", async_canary))
    with engine(name="one:1", concurrency=1):
        first = executor.wait(executor.start_sequence("hostile", {}), 30)
        canary = executor.wait(executor.start_sequence("canary", {}), 30)

    assert (first.status, canary.status) == ("SUCCESSFUL", "SUCCESSFUL")


def fork_and_return(payload: Any, context: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        pid = os.fork()
    if pid == 0:
        return "the child's result"
    _, status = os.waitpid(pid, 0)
    return os.waitstatus_to_exitcode(status)


@pytest.mark.parametrize("atomic", [False, True])
def test_a_child_that_comes_back_from_its_task_ends(atomic: bool) -> None:
    """It writes nothing, and its parent's connection and transaction are as they were."""
    declare(
        "forks", TaskSpec("a", fork_and_return, atomic=atomic), TaskSpec("b", writes, atomic=True)
    )
    with engine(name="one:1", concurrency=1):
        job = executor.wait(executor.start_sequence("forks", {}), 30)

    assert (job.status, job.task_results()["a"]) == ("SUCCESSFUL", EXIT_FORKED)
    assert Effect.objects.count() == 1


def test_an_attempt_that_breaks_outside_user_code_ends_its_job(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Should the machinery around a task raise, the job fails: it is not held for ever."""
    from django_tasks_seq.task_call import TaskCall

    def breaks(self: Any, result: Any) -> Any:
        raise RuntimeError("a bug of ours")

    declare("lines", ("a", writes), ("b", async_canary))
    with engine(name="one:1", concurrency=1):
        with monkeypatch.context() as patch:
            patch.setattr(TaskCall, "returned", breaks)
            broken = executor.wait(executor.start_sequence("lines", {}), 30)
        canary = executor.wait(executor.start_sequence("lines", {}), 30)

    assert (broken.status, canary.status) == ("FAILED", "SUCCESSFUL")
    assert "a bug of ours" in broken.error


def backends() -> list[int]:
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
            " AND backend_type = 'client backend'"
        )
        return [pid for (pid,) in cursor.fetchall()]


def sessions() -> int:
    return len(backends())


@pytest.mark.postgresql
def test_async_tasks_leave_no_connections_behind() -> None:
    """Each used the ORM in a thread of its own; sessions of the database do not pile up."""

    async def counts(payload: Any) -> int:
        return await Account.objects.acount()

    declare("async", ("a", counts))
    before = sessions()
    with engine(name="one:1"):
        jobs = executor.start_many("async", [{"n": n} for n in range(40)])
        for job in jobs:
            executor.wait(job, 30)
        wait_until(lambda: sessions() <= before + 1 + 4, what="few sessions while it runs")

    wait_until(lambda: sessions() <= before, what="no sessions afterwards")


@pytest.mark.postgresql
def test_threads_of_tasks_close_their_connections_at_the_end() -> None:
    """A worker that has ended, or called from other code, holds no session."""
    declare("lines", ("a", writes))
    before = sessions()
    with engine(name="one:1", concurrency=8):
        for job in executor.start_many("lines", [{"n": n} for n in range(50)]):
            executor.wait(job, 30)

    wait_until(lambda: sessions() <= before, what="no sessions afterwards")


def test_a_thread_that_a_task_left_alive_harms_nothing() -> None:
    """It may go on, and may even write; the job and the worker are through."""
    release = threading.Event()
    ended = threading.Event()

    def later() -> None:
        release.wait(30)
        Account.objects.create(name="late")
        connections.close_all()
        ended.set()

    def leaves_a_thread(payload: Any) -> Any:
        threading.Thread(target=later, daemon=True).start()
        return payload

    declare("threads", ("a", leaves_a_thread))
    with engine(name="one:1"):
        job = executor.wait(executor.start_sequence("threads", {}), 30)
    release.set()
    assert ended.wait(30)

    assert job.status == "SUCCESSFUL"
    assert Job.objects.get().claim_token == 1


def backend(payload: Any) -> Any:
    """The server's process behind this thread's session."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return [*payload, cursor.fetchone()[0]]


@pytest.mark.postgresql
def test_a_session_is_kept_from_task_to_task_and_closed_at_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With `CONN_MAX_AGE = 0` a busy thread opens one session, and has none when it is idle."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", 0)
    declare("lines", *[(f"task_{n}", backend) for n in range(5)])
    with engine(name="one:1", concurrency=1):
        job = executor.start_sequence("lines", [])
        result = executor.wait(job, 30).result
        assert result[0] in backends()
        wait_until(lambda: result[0] not in backends(), what="the thread's session to be closed")

    assert len(result) == 5
    assert len(set(result)) == 1


@pytest.mark.sqlite
def test_a_transaction_left_open_by_what_failed_is_ended_though_its_cursor_lives() -> None:
    """The error's traceback holds the cursor, and the outcome holds the error, until it is written."""

    def fails(payload: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("BEGIN IMMEDIATE")
        cursor.execute("SELECT 1 UNION SELECT 2")
        raise ValueError("in the midst of it")

    declare("lines", ("a", fails))
    with engine(name="one:1", concurrency=1):
        job = executor.wait(executor.start_sequence("lines", {}), 30)

    assert job.error == "a: ValueError: in the midst of it"
