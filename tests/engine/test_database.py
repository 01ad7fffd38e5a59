"""The jobs' database goes away and comes back: nothing is lost. PostgreSQL, where it can."""

import time
from collections import Counter
from typing import Any

import pytest
from django.db import connection, connections

from django_tasks_seq import executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from tests.engines import Gate, declare, engine
from tests.helpers import wait_until
from tests.testapp.models import Effect

pytestmark = pytest.mark.postgresql


def nothing(payload: Any) -> Any:
    return payload


def end_other_sessions() -> int:
    """As an administrator, or a failover, ends them; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return int(cursor.fetchone()[0])


def listening() -> bool:
    """Whether some other session waits for our notifications."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND query LIKE 'LISTEN%%'"
        )
        return bool(cursor.fetchone()[0])


def test_a_start_wakes_an_idle_worker() -> None:
    """With a poll interval of ten minutes a job is done as soon as its start commits."""
    declare("lines", ("a", nothing))
    with engine(name="one:1", poll=600.0) as one:
        wait_until(lambda: one.engine.listener and one.engine.listener._raw, what="LISTEN")
        for _ in range(3):
            executor.wait(executor.start_sequence("lines", {}), 30)
            executor.wait(executor.start_many("lines", [1, 2])[1], 30)


def test_a_worker_whose_session_was_ended_listens_again() -> None:
    """After its session is gone the next start wakes it as before."""
    declare("lines", ("a", nothing))
    with engine(name="one:1", poll=600.0) as one:
        listener: Any = one.engine.listener
        for _ in range(3):
            wait_until(lambda: listener._raw is not None and not listener._raw.closed)
            before = listener._raw
            assert end_other_sessions()
            wait_until(lambda: listener._raw is not before, what="a new session")  # noqa: B023
            executor.wait(executor.start_sequence("lines", {}), 30)
        assert one.thread.is_alive()


def test_outcomes_are_kept_in_hand_while_the_session_is_gone() -> None:
    """Tasks end while the engine has no database: each outcome is recorded, under the same claim."""
    gate = Gate()

    def waits(payload: Any) -> Any:
        gate()
        return payload

    declare("lines", ("a", waits), ("b", nothing))
    jobs = executor.start_many("lines", [{"n": n} for n in range(4)])
    with engine(name="one:1", concurrency=4):
        gate.wait_for(4)
        assert end_other_sessions()
        gate.open()
        for job in jobs:
            executor.wait(job, 30)

    assert gate.entries == 4
    assert {job.refresh().claim_token for job in jobs} == {1}
    assert not JobEvent.objects.exists()
    assert not TaskAttempt.objects.exists()


def test_a_task_gets_a_session_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kept session of an idle thread was ended by the server: the next task does not notice."""
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)

    def writes(payload: Any, context: Any) -> Any:
        Effect.objects.create(job_id=context.job_id)
        return payload

    declare("lines", ("a", writes))
    with engine(name="one:1", concurrency=1):
        executor.wait(executor.start_sequence("lines", {}), 30)
        assert end_other_sessions()
        second = executor.wait(executor.start_sequence("lines", {}), 30)

    assert second.status == "SUCCESSFUL"
    assert Effect.objects.count() == 2


def test_jobs_survive_a_storm_of_ended_sessions() -> None:
    """Sessions end again and again while jobs run: all end well, with one outcome for each task."""
    calls: Counter[tuple[Any, str]] = Counter()

    def counts(payload: Any, context: Any) -> Any:
        calls[context.job_id, context.task_id] += 1
        time.sleep(0.005)
        return payload

    declare("lines", ("a", counts), ("b", counts), ("c", counts))
    executor.start_many("lines", [{"n": n} for n in range(150)])
    left = Job.objects.exclude(status="SUCCESSFUL")
    with engine(name="one:1", lease=2.0), engine(name="two:2", lease=2.0):
        for goal in (130, 100, 60):
            wait_until(lambda: left.count() <= goal, what="progress")  # noqa: B023
            # An engine whose session has just been ended may not have its next one yet.
            wait_until(end_other_sessions, what="a session to end")
        wait_until(lambda: not left.exists(), 60, "the end of all")

    assert TaskStatus.objects.filter(status="SUCCESSFUL").count() == 450
    assert not TaskAttempt.objects.exclude(outcome="LOST").exists()
    again = {str(job_id) for (job_id, _), count in calls.items() if count > 1}
    lost = {str(pk) for pk in JobEvent.objects.filter(kind="lost").values_list("job_id", flat=True)}
    assert again <= lost


def test_an_own_job_is_renewed_before_anything_is_rescued() -> None:
    """The database was away for longer than a lease: the worker that comes back keeps its jobs."""
    gate = Gate()

    def waits(payload: Any) -> Any:
        gate()
        return payload

    declare("lines", ("a", waits))
    job = executor.start_sequence("lines", {})
    with engine(name="one:1", lease=60.0) as one:
        gate.wait_for()
        one.engine._rescue_at = 0.0
        Job.objects.update(lease_until="2000-01-01T00:00:00Z")
        wait_until(lambda: job.refresh().lease_until.year > 2000, what="a renewal")
        gate.open()
        executor.wait(job, 30)

    assert gate.entries == 1
    assert not JobEvent.objects.exists()
