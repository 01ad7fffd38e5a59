"""The fixtures that process and race tests stand on."""

import signal
from collections.abc import Callable

import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.helpers import InThread, WorkerProcess, blocked_backends, wait_until, wait_until_blocked
from tests.testapp.models import Account

COUNT = "from tests.testapp.models import Account; print('accounts:', Account.objects.count())"
FOR_EVER = "import threading; print('begun', flush=True); threading.Event().wait()"


def test_a_process_works_on_the_database_of_the_test(
    worker_process: Callable[..., WorkerProcess],
) -> None:
    """What the test committed is what the process reads."""
    Account.objects.create(name="first")
    Account.objects.create(name="second")

    process = worker_process("-c", COUNT, command="shell")

    assert process.wait() == 0, process.output()
    assert "accounts: 2" in process.output()


def test_a_process_can_be_waited_for_and_killed(
    worker_process: Callable[..., WorkerProcess],
) -> None:
    """A test sees how far a process has come, and what ended it."""
    process = worker_process("-c", FOR_EVER, command="shell")

    process.wait_for_output("begun")
    assert process.running
    process.kill()

    assert process.wait() == -signal.SIGKILL


def test_waiting_for_output_ends_with_the_process(
    worker_process: Callable[..., WorkerProcess],
) -> None:
    """A process that ends without the awaited words fails the test at once, with its output."""
    process = worker_process("-c", "print('something else')", command="shell")

    with pytest.raises(AssertionError, match="something else"):
        process.wait_for_output("never said")


def test_a_condition_that_does_not_come_fails_by_its_name() -> None:
    """`wait_until` gives up at its deadline and says for what it waited."""
    with pytest.raises(AssertionError, match="the moon"):
        wait_until(lambda: 0, timeout=0.02, what="the moon")


def test_another_connection_sees_only_what_is_committed(
    other_connection: BaseDatabaseWrapper,
) -> None:
    """Two connections of one test are two sessions of the database."""

    def seen() -> int:
        with other_connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {Account._meta.db_table}")
            return int(cursor.fetchone()[0])

    with transaction.atomic():
        Account.objects.create(name="first")
        before = seen()

    assert (before, seen()) == (0, 1)


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_session_that_waits_for_a_lock_is_found() -> None:
    """A race test knows when the other party is blocked, and blocked only."""
    Account.objects.create(name="only")
    lock = f"SELECT 1 FROM {Account._meta.db_table} FOR UPDATE"

    def wait_for_the_row() -> None:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(lock)

    assert blocked_backends() == []
    with transaction.atomic():
        Account.objects.select_for_update().get()
        waiting = InThread(wait_for_the_row)
        wait_until_blocked()
    waiting.result()
    assert blocked_backends() == []
