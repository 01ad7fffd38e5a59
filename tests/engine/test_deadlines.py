"""Deadlines of our own statements: what is not answered ends, and what users ask takes its time."""

import os
import socket
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import InternalError, OperationalError, connection, connections

from django_tasks_seq import executor
from django_tasks_seq.cache.base import deadline
from django_tasks_seq.cache.model import deadlines
from django_tasks_seq.models import Job
from tests.engines import STORE, Gate, declare, engine
from tests.helpers import InThread, own_connection, wait_until

on_postgresql = pytest.mark.postgresql
SLEEP = "SELECT pg_sleep(30)"


def same(payload: Any) -> Any:
    return payload


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The watchdog looks more often."""
    monkeypatch.setattr(deadlines, "LOOK", 0.05)
    monkeypatch.setattr(deadlines, "GRACE", 0.2)


def ask(statement: str, seconds: float, *, within: Any = deadlines.bookkeeping) -> Any:
    """Ask it in a thread of bookkeeping."""

    def asks() -> Any:
        with within("default", seconds):
            return STORE.db.query(statement, ())

    return InThread(asks).result()


def test_a_deadline_leaves_time_to_renew() -> None:
    """A third of a lease, ten seconds at most, and two at least: no busy machine is a broken one."""
    assert [deadline(lease) for lease in (600, 60, 15, 2)] == [10, 10, 5, 2]


@on_postgresql
def test_what_the_server_does_not_answer_is_cancelled_there(
    quick: None, caplog: pytest.LogCaptureFixture
) -> None:
    """A statement that waits is ended on the server as well: no session is left that still waits."""
    with pytest.raises(OperationalError, match="canceling statement due to user request"):
        ask(SLEEP, 0.2)

    assert "is cancelled" in caplog.text
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE query = %s", [SLEEP])
        assert cursor.fetchone() == (0,)


@on_postgresql
def test_a_connection_that_nobody_answers_is_shut_down(
    quick: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Where the cancel does not help either, the thread that waits gets its error all the same."""
    monkeypatch.setattr(deadlines, "_cancel", lambda raw: None)

    with pytest.raises(OperationalError):
        ask(SLEEP, 0.2)

    assert "is shut down" in caplog.text
    with connection.cursor() as cursor:
        # The server does not know yet: that is why a cancel comes first.
        cursor.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = %s", [SLEEP]
        )
        assert cursor.fetchall() == [(True,)]


@on_postgresql
def test_each_statement_of_a_transaction_has_its_time(quick: None) -> None:
    """The transaction as a whole takes as long as it takes; one statement of it does not."""

    def many() -> None:
        with deadlines.bookkeeping("default", 0.6), STORE.db.atomic():
            for _ in range(6):
                STORE.db.query("SELECT pg_sleep(0.2)", ())

    InThread(many).result()

    def long() -> None:
        with deadlines.bookkeeping("default", 0.2), STORE.db.atomic():
            STORE.db.query(SLEEP, ())

    with pytest.raises(OperationalError):
        InThread(long).result()


@on_postgresql
def test_a_thread_outside_is_left_alone(quick: None) -> None:
    """Views and tasks ask what they like, on the very same connection; only ours have a deadline."""

    def asks() -> None:
        with deadlines.watching("default", 0.1):
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(0.5)")
            with pytest.raises(OperationalError):
                STORE.db.query(SLEEP, ())
        connection.close()
        STORE.db.query("SELECT pg_sleep(0.5)", ())

    InThread(asks).result()


@on_postgresql
def test_a_callers_transaction_is_not_ended_for_him() -> None:
    """In somebody's transaction there is no deadline: its end would be the end of his work."""

    def asks() -> bool:
        from django.db import transaction

        with transaction.atomic(), deadlines.watching("default", 0.1):
            return deadlines.here.watch is None

    assert InThread(asks).result()


@on_postgresql
def test_transactions_are_read_committed_and_end_when_they_idle() -> None:
    """Whatever the site asks for; and a process that stands still does not hold its rows for ever."""

    def asks() -> list[Any]:
        with deadlines.bookkeeping("default", 3.0), STORE.db.atomic():
            return [
                STORE.db.query(f"SHOW {name}", ())[0][0]
                for name in ("transaction_isolation", "idle_in_transaction_session_timeout")
            ]

    assert InThread(asks).result() == ["read committed", "3s"]


@on_postgresql
def test_nothing_is_set_for_the_session() -> None:
    """Behind a pooler a session is other people's next: after a transaction of ours it is as before."""

    def asks() -> Any:
        with deadlines.bookkeeping("default", 3.0):
            with STORE.db.atomic():
                pass
            return STORE.db.query("SHOW idle_in_transaction_session_timeout", ())

    assert InThread(asks).result() == [("0",)]


@on_postgresql
def test_connecting_has_a_time_out_too() -> None:
    """A server that accepts and says nothing: connecting ends, with the site's own options kept."""
    with socket.create_server(("127.0.0.1", 0)) as mute:

        def asks() -> None:
            own = connections["default"]
            own.settings_dict = {
                **own.settings_dict,
                "HOST": "127.0.0.1",
                "PORT": mute.getsockname()[1],
            }
            with deadlines.bookkeeping("default", 0.1):
                assert own.settings_dict["OPTIONS"]["connect_timeout"] == 2
                STORE.db.query("SELECT 1", ())

        with pytest.raises(OperationalError, match="timeout"):
            InThread(asks).result()


@on_postgresql
def test_a_worker_that_cannot_commit_goes_on_when_it_can(quick: None) -> None:
    """Somebody has locked the whole table: statements are given up and sent again, and nothing is lost."""
    gate = Gate()

    def waits(payload: Any) -> Any:
        gate()
        return payload

    declare("lines", ("a", waits), ("b", same))
    job = executor.start_sequence("lines", {})
    with engine(name="one:1", lease=1.0) as one, own_connection() as other:
        gate.wait_for()
        with other.cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.execute(f"LOCK TABLE {Job._meta.db_table} IN ACCESS EXCLUSIVE MODE")
            gate.open()
            wait_until(lambda: one.engine._backoff, what="a statement that was given up")
            cursor.execute("ROLLBACK")
        executor.wait(job, 30)
        assert one.thread.is_alive()

    assert gate.entries == 1
    assert job.refresh().claim_token == 1


class Raw:
    """A driver's connection, as the watchdog knows it."""

    def __init__(self) -> None:
        self.ends = socket.socketpair()
        self.cancelled = 0

    def fileno(self) -> int:
        return self.ends[0].fileno()

    def cancel_safe(self, *, timeout: float) -> None:
        self.cancelled += 1

    def is_shut(self) -> bool:
        self.ends[1].setblocking(False)
        try:
            return self.ends[1].recv(1) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def raw() -> Iterator[Raw]:
    """A pair of sockets."""
    found = Raw()
    yield found
    for end in found.ends:
        end.close()


def looked_at(watch: deadlines.Watch, times: int) -> None:
    for _ in range(times):
        watch.look()


def test_what_goes_on_is_never_overdue(raw: Raw) -> None:
    """Statement after statement, or none: however long that is, nothing is ended."""
    watch = deadlines.Watch(1.0)
    for _ in range(20):
        watch.begin(SimpleNamespace(connection=raw))
        watch.look()
        watch.depth -= 1
    looked_at(watch, 20)

    assert (raw.cancelled, raw.is_shut()) == (0, False)


def test_a_statement_is_cancelled_first_and_shut_down_then(raw: Raw) -> None:
    """After its time a cancel, once; after a second more the socket."""
    watch = deadlines.Watch(1.0)
    watch.begin(SimpleNamespace(connection=raw))
    looked_at(watch, 2)
    assert not raw.cancelled
    looked_at(watch, 1)
    wait_until(lambda: raw.cancelled, what="a cancel")
    assert not raw.is_shut()
    looked_at(watch, 3)

    assert (raw.cancelled, raw.is_shut()) == (1, True)


def test_connecting_is_left_to_the_driver() -> None:
    """There is nothing to shut down yet, and that time does not count."""
    watch = deadlines.Watch(1.0)
    watch.begin(SimpleNamespace(connection=None))
    looked_at(watch, 20)

    assert watch._age == 0.0


def test_the_thread_ends_when_nobody_is_watched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No thread stays behind a worker, and the next one gets a new one."""
    monkeypatch.setattr(deadlines, "LOOK", 0.01)
    dog, watch = deadlines.Watchdog(), deadlines.Watch(1.0)
    for _ in range(2):
        dog.add(watch)
        assert dog._thread is not None
        dog.discard(watch)
        wait_until(lambda: dog._thread is None, what="the end of the thread")


def test_a_forked_child_does_not_watch_its_parents_sockets() -> None:
    """What a task forks has a copy of each socket: a shutdown there would end the parent's."""
    watch = deadlines.Watch(1.0)
    deadlines._watchdog.add(watch)
    deadlines.here.watch = watch
    try:
        pid = os.fork()
        if pid == 0:
            os._exit(bool(deadlines._watchdog._watches) or deadlines.here.watch is not None)
        assert os.waitpid(pid, 0)[1] == 0
        assert watch in deadlines._watchdog._watches
    finally:
        deadlines.here.watch = None
        deadlines._watchdog.discard(watch)


@on_postgresql
def test_a_connection_of_bookkeeping_is_not_left_to_others() -> None:
    """What was open before stays as it was; what was opened for us, with our options, is closed."""

    def asks() -> tuple[bool, bool, Any]:
        with deadlines.bookkeeping("default", 3.0):
            STORE.db.query("SELECT 1", ())
        is_closed = connection.connection is None
        STORE.db.query("SELECT 1", ())
        raw = connection.connection
        with deadlines.bookkeeping("default", 3.0):
            STORE.db.query("SELECT 1", ())
        return is_closed, connection.connection is raw, raw.isolation_level

    assert InThread(asks).result() == (True, True, None)


@on_postgresql
def test_a_site_with_a_pool_keeps_it() -> None:
    """A worker's own connection is not taken from it, and what was taken before is given back."""
    pytest.importorskip("psycopg_pool")

    def asks() -> list[bool]:
        own: Any = connections["default"]
        own.settings_dict = {**own.settings_dict, "CONN_MAX_AGE": 0, "OPTIONS": {"pool": True}}
        STORE.db.query("SELECT 1", ())
        pool = own.pool
        found = [own.connection._pool is pool]
        with deadlines.bookkeeping("default", 3.0):
            STORE.db.query("SELECT 1", ())
            found.append(own.pool is None and not hasattr(own.connection, "_pool"))
        STORE.db.query("SELECT 1", ())
        found.append(own.connection._pool is pool)
        own.close()
        own.close_pool()
        return found

    assert InThread(asks).result() == [True, True, True]


@on_postgresql
def test_a_process_that_stands_still_does_not_keep_its_rows() -> None:
    """It stopped between two statements of a transaction: soon others can have the job, and it is told."""
    declare("lines", ("a", same))
    job = executor.start_sequence("lines", {})
    goes_on = threading.Event()

    def holds() -> None:
        with deadlines.bookkeeping("default", 0.5), STORE.db.atomic():
            STORE.db.query(f"SELECT 1 FROM {Job._meta.db_table} FOR UPDATE", ())
            goes_on.wait(30)
            STORE.db.query("SELECT 1", ())

    still = InThread(holds)
    try:
        wait_until(lambda: not is_free(job), what="a row that is held")
        wait_until(lambda: is_free(job), what="a row that is free again")
    finally:
        goes_on.set()
    with pytest.raises(InternalError, match="idle-in-transaction"):
        still.result()


def is_free(job: Job) -> bool:
    """Whether nobody holds its row."""
    lock = f"SELECT 1 FROM {Job._meta.db_table} WHERE id = %s FOR UPDATE SKIP LOCKED"
    return bool(STORE.db.query(lock, [job.id]))
