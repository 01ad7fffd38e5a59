"""The fault proxy: each way of failing is what it says it is."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import psycopg
import pytest
from django.db import connections

from tests.chaos.proxy import Proxy
from tests.helpers import InThread, wait_until
from tests.testapp.models import Effect

pytestmark = [pytest.mark.postgresql, pytest.mark.django_db(transaction=True)]

TABLE = Effect._meta.db_table
INSERT = (
    f"INSERT INTO {TABLE} (job_id, task_id, attempt, value, token)"
    " VALUES (gen_random_uuid(), 'x', 1, '', '')"
)


def server() -> dict[str, Any]:
    """Where the suite's server is, for psycopg."""
    known = connections["default"].get_connection_params()
    return {name: known[name] for name in ("host", "port", "user", "dbname") if name in known}


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy before the suite's server."""
    with Proxy(server()["host"], int(server()["port"])) as found:
        yield found


@pytest.fixture
def connect(proxy: Proxy) -> Iterator[Callable[..., psycopg.Connection[Any]]]:
    """Sessions through the proxy, closed at the end."""
    opened: list[psycopg.Connection[Any]] = []

    def through(**options: Any) -> psycopg.Connection[Any]:
        where = {**server(), "host": "127.0.0.1", "port": proxy.port}
        opened.append(psycopg.connect(**where, autocommit=True, connect_timeout=5, **options))
        return opened[-1]

    yield through
    for one in opened:
        one.close()


def backends(pid: int) -> int:
    """How many sessions of the server have this number."""
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE pid = %s", [pid])
        return int(cursor.fetchone()[0])


def test_without_a_fault_all_passes(connect: Any, proxy: Proxy) -> None:
    """Answers of any size, transactions, errors and notifications come through as they are."""
    session = connect()
    ((text,),) = session.execute("SELECT repeat('x', 3000000)").fetchall()
    assert len(text) == 3_000_000
    assert session.execute("SELECT n FROM generate_series(1, 5000) AS n").fetchall()[-1] == (5000,)
    with pytest.raises(psycopg.errors.DivisionByZero):
        session.execute("SELECT 1 / 0")
    with session.transaction():
        session.execute(INSERT)
    assert Effect.objects.count() == 1
    session.execute("LISTEN chaos_proxy")
    connections["default"].cursor().execute("NOTIFY chaos_proxy")
    assert next(session.notifies(timeout=5)).channel == "chaos_proxy"
    assert not proxy.faults


def test_a_half_open_link_hangs_until_somebody_shuts_it_down(connect: Any, proxy: Proxy) -> None:
    """What is sent is taken and never answered; the server does not see it, other links work."""
    session = connect()
    assert proxy.swallow() == 1
    hanging: InThread[Any] = InThread(session.execute, INSERT)
    wait_until(lambda: proxy.faults["swallowed"], what="the statement to arrive")
    hanging.join(0.2)
    assert hanging.is_alive()
    assert connect().execute("SELECT 1").fetchone() == (1,)

    for link in list(proxy.links):
        link.end()
    with pytest.raises(psycopg.OperationalError):
        hanging.result()
    assert not Effect.objects.exists()


def test_a_black_hole_answers_no_new_client_either(connect: Any, proxy: Proxy) -> None:
    """A connection is accepted and no word is said on it; healed, the next is as ever."""
    proxy.swallow(new=True)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(**{**server(), "port": proxy.port, "connect_timeout": 2})
    proxy.heal()
    assert connect().execute("SELECT 1").fetchone() == (1,)


def test_a_reset_ends_both_sides(connect: Any, proxy: Proxy) -> None:
    """The client gets an error at once, and the server's session ends."""
    session = connect()
    pid = session.info.backend_pid
    assert proxy.reset() == 1
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    wait_until(lambda: not backends(pid), what="the end of the server's session")


@pytest.mark.parametrize("how", ["autocommit", "transaction"])
def test_a_lost_answer_is_a_commit_that_nobody_hears_of(
    connect: Any, proxy: Proxy, how: str
) -> None:
    """The client has an error, and the row is there."""
    session = connect()
    session.execute("SELECT 1")
    proxy.lose_answers(1)
    within = nullcontext if how == "autocommit" else session.transaction
    with pytest.raises(psycopg.OperationalError), within():
        session.execute(INSERT)

    assert proxy.faults["lost answer"] == 1
    assert not proxy.answers_to_lose
    wait_until(lambda: Effect.objects.count() == 1, what="the row")
    again = connect()
    again.execute(INSERT)
    assert Effect.objects.count() == 2


def test_only_what_is_committed_is_lost(connect: Any, proxy: Proxy) -> None:
    """Reads, refused writes and writes that are rolled back are answered as ever."""
    session = connect()
    proxy.lose_answers(1)
    session.execute("SELECT 1")
    with pytest.raises(psycopg.errors.UniqueViolation):
        session.execute(
            f"INSERT INTO {TABLE} (id, job_id, task_id, attempt, value, token)"
            " SELECT 7, gen_random_uuid(), 'x', 1, '', ''"
            " FROM generate_series(1, 2)"
        )
    with suppress(psycopg.Rollback), session.transaction():
        session.execute(INSERT)
        raise psycopg.Rollback
    assert proxy.answers_to_lose == 1
    assert not Effect.objects.exists()


def test_a_slow_link_takes_its_time(connect: Any, proxy: Proxy) -> None:
    """Each message waits, there and back."""
    session = connect()
    proxy.latency = 0.05
    begun = time.monotonic()
    session.execute("SELECT 1")
    assert time.monotonic() - begun >= 0.1


def test_a_deaf_link_drops_notifications_alone(connect: Any, proxy: Proxy) -> None:
    """As behind a pooler: statements are answered, and nothing is heard."""
    session = connect()
    session.execute("LISTEN chaos_proxy")
    proxy.is_deaf = True
    connections["default"].cursor().execute("NOTIFY chaos_proxy")
    wait_until(lambda: proxy.faults["notifications dropped"], what="a notification")
    assert list(session.notifies(timeout=0)) == []
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_nothing_is_left_behind() -> None:
    """A closed proxy has ended its links and its threads."""
    with Proxy(server()["host"], int(server()["port"])) as found:
        session = psycopg.connect(**{**server(), "host": "127.0.0.1", "port": found.port})
        assert session.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")
    session.close()
    names = {"fault-proxy", "fault-link"}
    wait_until(
        lambda: not [one for one in threading.enumerate() if one.name in names],
        what="the end of its threads",
    )
