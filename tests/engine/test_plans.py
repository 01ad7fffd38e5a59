"""Statements of an idle and of a claiming worker stay cheap however much history there is."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from django_tasks_seq import executor
from django_tasks_seq.clock import Now
from django_tasks_seq.engine import EngineOptions, build_inline_engine
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.models import Job
from tests.engines import STORE, declare

FINISHED = 20_000


def nothing(payload: Any) -> Any:
    return payload


@pytest.fixture
def history() -> None:
    """Many jobs that have ended, a few that have not."""
    declare("lines", ("a", nothing))
    for _ in range(FINISHED // 5000):
        executor.start_many("lines", [None] * 5000)
    Job.objects.update(status="SUCCESSFUL", finished_at=Now())
    for queue in ("default", "mail"):
        executor.start_many("lines", [None] * 20, queue=queue)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


@pytest.fixture
def statements() -> Iterator[list[tuple[str, Any]]]:
    """Every statement on this connection, as it is sent."""
    sent: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        sent.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield sent


def plan(sql: str, params: Any) -> str:
    explain = "EXPLAIN QUERY PLAN " if connection.vendor == "sqlite" else "EXPLAIN "
    with connection.cursor() as cursor:
        cursor.execute(explain + sql, params)
        return "\n".join(str(row) for row in cursor.fetchall())


def scans_all(text: str) -> bool:
    """Whether the plan reads the whole table of jobs."""
    table = Job._meta.db_table
    if connection.vendor == "postgresql":
        return f"Seq Scan on {table}" in text
    return any(f"SCAN {table}" in line and "USING" not in line for line in text.splitlines())


VERBS: dict[str, tuple[Callable[[], Any], str]] = {
    "claim": (lambda: STORE.claim(("default",), 5, 60.0, None), "tseq_job_claim"),
    "claim of all queues": (lambda: STORE.claim((), 5, 60.0, None), "tseq_job_claim"),
    "promote": (STORE.promote, "tseq_job_waiting"),
    "rescue": (lambda: STORE.rescue(lose), "tseq_job_lease"),
    "handlers": (lambda: STORE.claim_handlers((), 8, 60.0, None), "tseq_job_handler"),
    "sweep": (lambda: STORE.sweep(60.0), "tseq_job_resend"),
    "look": (lambda: STORE.look(()), "tseq_job_claim"),
    "look at queues": (lambda: STORE.look(("mail", "default")), "tseq_job_claim"),
}


def test_each_look_goes_through_its_index(history: None, statements: list[tuple[str, Any]]) -> None:
    """With 20,000 jobs that have ended, no statement reads the table of jobs from end to end."""
    used, scanned = {}, {}
    for name, (verb, index) in VERBS.items():
        statements.clear()
        verb()
        about_jobs = [one for one in statements if Job._meta.db_table in one[0]]
        plans = [plan(*one) for one in about_jobs if " id = id " not in one[0]]
        used[name] = index in plans[0]
        scanned[name] = [text for text in plans if scans_all(text)]

    assert used == dict.fromkeys(VERBS, True)
    assert scanned == {name: [] for name in VERBS}


def test_an_idle_poll_is_one_statement(statements: list[tuple[str, Any]]) -> None:
    """A worker with nothing to do asks one question, whatever kinds of work there are."""
    engine = build_inline_engine(STORE, EngineOptions(poll=0.01, name="one:1"))
    for _ in range(3):
        engine.turn()
    engine._tick_at = float("inf")
    for _ in range(3):
        engine.polls.soon()
        statements.clear()
        engine.turn()
        assert len(statements) == 1, statements
    engine.wakeup.close()
