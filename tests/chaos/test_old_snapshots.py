"""R11: somebody holds an old snapshot while jobs come and go: dead rows stay, claims go on.

That the worker itself holds none while a task runs is
tests/process/test_in_process.py::test_no_transaction_is_open_while_a_task_runs.
"""

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection

from django_tasks_seq import executor, registry
from django_tasks_seq.models import Job
from django_tasks_seq.status import TaskStatusManager
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.engines import STORE, declare
from tests.helpers import own_connection
from tests.plans.history import JOB
from tests.plans.reading import explain, sent

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.postgresql,
]

MANAGER = TaskStatusManager()
BACKLOG = 200
BATCH = 100
CLAIM_INDEX = "tseq_job_claim"
CLAIM_P99 = 0.025


@contextmanager
def old_snapshot() -> Iterator[None]:
    """A transaction that has looked once, and must see the same until it ends."""
    with own_connection() as other:
        other.ensure_connection()
        with other.cursor() as cursor:
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            cursor.execute(f"SELECT count(*) FROM {JOB}")
        try:
            yield
        finally:
            with other.cursor() as cursor:
                cursor.execute("ROLLBACK")


def holders() -> int:
    """Sessions that keep dead rows from being removed, but for this one."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND pid <> pg_backend_pid() AND backend_xmin IS NOT NULL"
            " AND backend_type = 'client backend'"
        )
        return int(cursor.fetchone()[0])


def churn(rows: int) -> list[float]:
    """Claim and release until so many versions of rows are dead; seconds that single claims took."""
    took = []
    for _ in range(rows // (2 * BATCH)):
        claims = STORE.claim((), BATCH, 60.0, None)
        assert len(claims) == BATCH
        applied = STORE.apply([MANAGER.release(claim) for claim in claims])
        assert len(applied.done) == BATCH
        begun = time.perf_counter()
        (one,) = STORE.claim((), 1, 60.0, None)
        took.append(time.perf_counter() - begun)
        STORE.apply([MANAGER.release(one)])
    return took


def pages() -> int:
    """Pages that a claim of eight jobs reads."""
    (statement,) = [
        one
        for one in sent(connection, lambda: STORE.claim(("default",), 8, 60.0, None))
        if "UPDATE" in one.sql
    ]
    plan = explain(connection, statement)
    assert CLAIM_INDEX in plan.indexes(JOB), plan.text
    return sum(read.pages for read in plan.reads)


def same(payload: Any) -> Any:
    return payload


def p99(values: list[float]) -> float:
    return statistics.quantiles(values, n=100)[98] if len(values) > 1 else values[0]


@pytest.fixture(autouse=True)
def _sequences_of_the_test() -> Iterator[None]:
    with registry.isolated():
        yield


def test_claims_go_on_beside_an_old_snapshot_and_recover_when_it_is_gone() -> None:
    """Dead rows pile up and are read over; claims mark them when they may, a vacuum removes them."""
    declare("held", ("only", same))
    executor.start_many("held", range(BACKLOG))
    rows = sizes().pick(cut=4_000, full=30_000)
    with recorded("R11") as run:
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM ANALYZE {JOB}")
            # What is measured is what a claim meets, not when a vacuum happens to come.
            cursor.execute(f"ALTER TABLE {JOB} SET (autovacuum_enabled = off)")
        try:
            base, free = pages(), churn(2_000)
            with old_snapshot():
                assert holders() == 1
                held = churn(rows)
                piled = pages()
            forgotten = [pages() for _ in range(3)][-1]
            with connection.cursor() as cursor:
                cursor.execute(f"VACUUM {JOB}")  # as autovacuum does, within a minute
            recovered = pages()
        finally:
            with connection.cursor() as cursor:
                cursor.execute(f"ALTER TABLE {JOB} RESET (autovacuum_enabled)")
        run.faults = {"snapshots": 1, "dead rows": rows}
        run.jobs = BACKLOG
        run.figures = {
            "claim p99 ms": round(p99(free) * 1000, 2),
            "claim p99 ms beside the snapshot": round(p99(held) * 1000, 2),
            "pages": base,
            "pages beside the snapshot": piled,
            "pages after it": forgotten,
            "pages after a vacuum": recovered,
        }
        assert piled > 4 * base, "nothing piled up: the snapshot has shown nothing"
        assert forgotten < piled / 3, "dead entries of the index are still looked up in the table"
        assert recovered <= 2 * base
        assert Job.objects.filter(status="READY").count() == BACKLOG
        if sizes().is_full:
            assert p99(held) <= CLAIM_P99
