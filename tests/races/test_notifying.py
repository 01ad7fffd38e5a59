"""Starts at the same moment leave NOTIFY to one of them, and a worker that only listens misses none."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks_seq import executor
from django_tasks_seq.cache.changes import Claim
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.cache.model.notifying import CHANNEL, LOCK
from django_tasks_seq.models import Job
from tests.engines import EngineThread, declare, engine
from tests.helpers import DEADLINE, InThread, wait_until, wait_until_blocked

pytestmark = pytest.mark.postgresql

ROUNDS = 40
STARTERS = 6
GATE = 7
# Waits at the commit, when all statements of the transaction are through.
SLOW_COMMIT = f"""
    CREATE FUNCTION wait_at_commit() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN PERFORM pg_advisory_xact_lock({GATE}); RETURN NULL; END $$;
    CREATE CONSTRAINT TRIGGER wait_at_commit AFTER INSERT ON {Job._meta.db_table}
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait_at_commit()
"""


def nothing(payload: Any) -> Any:
    return payload


@pytest.fixture
def slow_commit(transactional_db: None) -> Iterator[None]:
    """Starts cannot commit while somebody holds the advisory lock GATE."""
    with connection.cursor() as cursor:
        cursor.execute(SLOW_COMMIT)
    yield
    with connection.cursor() as cursor:
        cursor.execute("DROP FUNCTION wait_at_commit CASCADE")


class Counting(ModelTaskCacheHandler):
    """The store, which counts claims that are over."""

    claims = 0

    def claim(self, *args: Any) -> list[Claim]:
        found = super().claim(*args)
        self.claims += 1
        return found


def wait_until_it_listens(one: EngineThread) -> None:
    """And has looked for what was started before."""
    wait_until(lambda: one.engine.listener and one.engine.listener._raw, what="LISTEN")
    wait_until(lambda: not (one.engine.listener.has_heard or one.engine.claiming.is_due))


def test_a_start_that_commits_behind_the_notification_it_relied_on_is_heard(
    slow_commit: None, other_connection: BaseDatabaseWrapper
) -> None:
    """It met another start, whose notification came and woke the worker before its own commit."""
    declare("lines", ("only", nothing))
    with (
        engine(name="one:1", poll=600.0) as one,
        other_connection.cursor() as another,
        connection.cursor() as gate,
    ):
        wait_until_it_listens(one)
        gate.execute("SELECT pg_advisory_lock(%s)", [GATE])
        another.execute("BEGIN")
        another.execute("SELECT pg_advisory_xact_lock(%s)", [LOCK])
        start = InThread(executor.start_sequence, "lines")
        wait_until_blocked()
        one.engine.claiming.store = store = Counting()
        another.execute(f"NOTIFY {CHANNEL}")
        another.execute("COMMIT")
        wait_until(lambda: store.claims, what="the worker is woken, and finds nothing")
        gate.execute("SELECT pg_advisory_unlock(%s)", [GATE])
        job = start.result()
        wait_until(lambda: job.refresh().is_final, what=f"{job.id} is done")


def test_no_start_is_missed_by_a_worker_that_listens() -> None:
    """After each burst of starts all are done, though the worker polls once in ten minutes."""
    declare("lines", ("only", nothing))
    barrier = threading.Barrier(STARTERS + 1, timeout=DEADLINE)

    def start(number: int) -> None:
        for _ in range(ROUNDS):
            barrier.wait()
            if number % 3:
                executor.start_sequence("lines", number)
            else:
                with transaction.atomic():
                    executor.start_sequence("lines", number)
            barrier.wait()

    with engine(name="one:1", poll=600.0) as one:
        wait_until_it_listens(one)
        threads = [InThread(start, number) for number in range(STARTERS)]
        for _ in range(ROUNDS):
            barrier.wait()
            barrier.wait()
            wait_until(lambda: not Job.objects.exclude(status="SUCCESSFUL").exists())
        for thread in threads:
            thread.result()

    assert Job.objects.count() == ROUNDS * STARTERS
