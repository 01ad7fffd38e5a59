"""Statements that run many times a second enter the jobs' table by an index, whatever the history."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.utils import timezone

from django_tasks_seq.cache.changes import Checkpoint
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.models import Job

pytestmark = pytest.mark.django_db

JOB = Job._meta.db_table
PLAN: Any = ["one", "two"]
FINISHED = 8000
WAITING = 600
READY = 200


def job(status: str, **fields: Any) -> Job:
    return Job(sequence="plans", plan=PLAN, status=status, **fields)


@pytest.fixture(params=["analyzed", "never analyzed"])
def history(request: pytest.FixtureRequest) -> None:
    """Many jobs that have ended or are due tomorrow, few that are READY; with and without statistics."""
    now = timezone.now()
    later = now + timedelta(days=1)
    jobs = [job("SUCCESSFUL", finished_at=now, run_after=now) for _ in range(FINISHED)]
    jobs += [job("WAITING", run_after=later) for _ in range(WAITING)]
    jobs += [job("READY", run_after=now) for _ in range(READY)]
    Job.objects.bulk_create(jobs, batch_size=1000)
    with connection.cursor() as cursor:
        # What other tests have rolled back is still in the indexes, and makes them look dear.
        cursor.execute(f"REINDEX TABLE {JOB}" if connection.vendor == "postgresql" else "REINDEX")
    if request.param == "analyzed":
        with connection.cursor() as cursor:
            cursor.execute("ANALYZE")


@contextmanager
def scans() -> Iterator[list[str]]:
    """Collect the lines of plans that read the jobs' table from end to end."""
    found: list[str] = []
    explain = "EXPLAIN " if connection.vendor == "postgresql" else "EXPLAIN QUERY PLAN "

    def look(execute: Callable, sql: str, params: Any, many: bool, context: Any) -> Any:
        verb = sql.split(maxsplit=1)[0]
        is_looked_at = JOB in sql and verb in ("SELECT", "WITH", "UPDATE")
        if is_looked_at and not many and not takes_the_write_lock(sql):
            rows = execute(explain + sql, params, many, context).fetchall()
            found.extend(line for line in (str(row[-1]) for row in rows) if is_scan(line))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        yield found


def is_scan(line: str) -> bool:
    if connection.vendor == "postgresql":
        return f"Seq Scan on {JOB}" in line
    return f"SCAN {JOB}" in line and "USING" not in line


def takes_the_write_lock(sql: str) -> bool:
    """Whether it touches no row: on SQLite it only begins the transaction as a write."""
    return sql.endswith("WHERE 0")


def checkpoint(claim: Any) -> Checkpoint:
    position = claim.position
    return Checkpoint(
        claim.job_id,
        claim.token,
        claim.task_id,
        position,
        1,
        '{"n": 1}',
        0.1,
        0.0,
        claim.is_last,
        "",
    )


@pytest.mark.usefixtures("history")
@pytest.mark.parametrize("queues", [(), ("default",)], ids=["all queues", "one queue"])
def test_a_claim_reads_the_claim_index(queues: tuple[str, ...]) -> None:
    """Claiming does not read what has ended or is due tomorrow."""
    with scans() as found:
        claims = ModelTaskCacheHandler().claim(queues, 50, 60.0, None)

    assert len(claims) == 50
    assert found == []


@pytest.mark.usefixtures("history")
def test_a_group_commit_looks_jobs_up_by_primary_key() -> None:
    """Checkpoints of hundreds of jobs, in their midst and at their end, read those jobs alone."""
    store = ModelTaskCacheHandler()
    claims = store.claim(["default"], READY, 60.0, None)

    with scans() as found:
        first = store.apply([checkpoint(claim) for claim in claims], "worker")
        for claim in claims:
            claim.advance('{"n": 1}')
        last = store.apply([checkpoint(claim) for claim in claims], "worker")

    assert len(first.done) == len(last.done) == READY
    assert found == []


@pytest.mark.usefixtures("history")
def test_a_poll_looks_into_indexes_alone() -> None:
    """An idle worker's look costs the same after years of jobs."""
    store = ModelTaskCacheHandler()
    with scans() as found:
        outlook = store.look(())
        store.promote()
        store.sweep(60.0)
        store.claim_handlers((), 8, 60.0, None)

    assert outlook.ready
    assert found == []
