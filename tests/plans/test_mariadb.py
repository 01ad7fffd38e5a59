"""On MariaDB each verb of a worker reads what it is about, beside a history and late jobs."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from django_tasks_seq import TaskSequence, clock, register_sequence, registry
from django_tasks_seq.cache.changes import Held, Report
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.cache.retention import Prunable
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.status import TaskStatusManager
from tests.database.working import same
from tests.plans.history import ATTEMPT, EVENT, JOB, TASK

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db]

STORE, MANAGER = ModelTaskCacheHandler(), TaskStatusManager()
QUEUES = ("default", "mail", "reports")
READY, EACH = 2000, 60
# For each job: its row to be found, locked, written and returned, its tasks, and what the statements
# between keep for a moment.
TIMES = 24
LEAST = 200


def at(seconds: str) -> str:
    return clock.sql("mysql", f"({seconds})")


ENDED = {
    "status": "'SUCCESSFUL'",
    "finished_at": at("CAST(seq AS SIGNED) - 5000000"),
    "run_after": at("-6000000"),
}
HELD = {"status": "'RUNNING'", "claim_token": "1"}
KINDS: list[tuple[int, dict[str, str]]] = [
    (20_000, ENDED),
    (10_000, {"status": "'WAITING'", "run_after": at("seq + 86400")}),
    (READY * len(QUEUES), {"priority": "seq % 5"}),
    (EACH, {**HELD, "lease_until": at("3600")}),
    (EACH, {**HELD, "lease_until": at("CAST(seq AS SIGNED) / -1000")}),
    (EACH, {**ENDED, "handler_due": "'success'"}),
    (EACH, {**ENDED, "handler_due": "'error'"}),
    (EACH, {"status": "'WAITING'", "run_after": at("CAST(seq AS SIGNED) / -1000")}),
    (EACH, {"carried": "1", "resend_at": at("CAST(seq AS SIGNED) / -1000")}),
]


@pytest.fixture
def history() -> Iterator[None]:
    """Jobs of all kinds; those that have begun have a row of their first task."""
    queue = f"ELT(seq % 3 + 1, {', '.join(map(repr, QUEUES))})"
    common = {
        "id": "CONCAT(LPAD(HEX(seq), 8, '0'), '-0000-7000-8000-000000000000')",
        "sequence": "'plans'",
        "version": "1",
        "plan": """'["one", "two"]'""",
        "queue": queue,
        "status": "'READY'",
        "priority": "0",
        "carried": "0",
        "subject_type": "''",
        "subject_id": "''",
        "subject_label": "''",
        "created_by": "''",
        "run_after": at("-1000"),
        "created_at": at("-1000"),
    }
    first = 1
    with connection.cursor() as cursor:
        for number, kind in KINDS:
            columns = {**common, **kind}
            cursor.execute(
                f"INSERT INTO {JOB} ({', '.join(columns)}) SELECT {', '.join(columns.values())}"
                f" FROM seq_{first}_to_{first + number - 1}"
            )
            first += number
        cursor.execute(
            f"INSERT INTO {TASK} (job_id, task_id, position, status, attempts, result)"
            f" SELECT id, 'one', 0, 'SUCCESSFUL', 1, '1' FROM {JOB} WHERE status <> 'WAITING'"
        )
    with registry.isolated():
        register_sequence(TaskSequence("plans", [("one", same), ("two", same)]))
        yield


def counters(pattern: str) -> int:
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW SESSION STATUS LIKE '{pattern}'")
        return sum(int(value) for _, value in cursor.fetchall())


def spent(call: Callable[[], Any]) -> tuple[int, Any]:
    """How many rows *call* has read, and what it returned."""
    before = counters("Handler_read%")
    answer = call()
    return counters("Handler_read%") - before, answer


VERBS: dict[str, tuple[Callable[[], Any], int]] = {
    "claim of a queue": (lambda: STORE.claim(("mail",), 50, 60, 1), 50),
    "claim of one job": (lambda: STORE.claim(("mail",), 1, 60, 1), 1),
    "claim of all queues": (lambda: STORE.claim((), 50, 60, 1), 50),
    "claim of nothing": (lambda: STORE.claim(("none",), 50, 60, 1), 0),
    "claim of handlers": (lambda: STORE.claim_handlers((), 8, 60, 1), 8),
    "promotion": (lambda: STORE.promote(EACH), EACH),
    "rescue": (lambda: STORE.rescue(lose, EACH), EACH),
    "sweep": (lambda: STORE.sweep(60.0, EACH), EACH),
    "pruning": (lambda: STORE.prune(Prunable(86_400.0), 50, seconds=30.0), 50),
}


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_reads_its_batch(history: None, name: str) -> None:
    """However many jobs have ended, wait or are ready besides."""
    call, batch = VERBS[name]

    rows, answer = spent(call)

    assert rows < LEAST + TIMES * batch
    if isinstance(answer, list) and name != "promotion":
        assert len(answer) == batch


@pytest.mark.parametrize("queues", [(), ("mail", "none"), ("none",)])
def test_a_look_reads_few_rows(history: None, queues: tuple[str, ...]) -> None:
    """All five questions together; handlers of other queues are passed by."""
    rows, _ = spent(lambda: STORE.look(queues))

    assert rows < LEAST + 4 * EACH


def test_what_is_in_hand_is_read_by_its_keys(history: None) -> None:
    """A tick with renewals, and a group commit."""
    claims = STORE.claim(("mail",), 50, 60, 1)
    held = [Held(claim.job_id, claim.token) for claim in claims]
    for one in claims[::2]:
        one.plan = one.plan[:2]
    writes = [
        MANAGER.complete_task(one, '"r"', Report(0.1, 0.0), handler="", keep=True) for one in claims
    ]

    ticked, _ = spent(lambda: STORE.tick(held, 3600))
    committed, applied = spent(lambda: STORE.apply(writes, "worker"))

    assert len(applied.done) == 50
    assert ticked < LEAST + TIMES * 50
    assert committed < LEAST + TIMES * 50


@pytest.mark.parametrize("name", [name for name in VERBS if name.startswith("claim")])
def test_a_claim_names_the_index_that_is_in_its_order(history: None, name: str) -> None:
    """EXPLAIN says so of each statement that locks: an index of ours, and no filesort."""
    locking: list[tuple[str, Any]] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if "SKIP LOCKED" in sql:
            locking.append((sql, params))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        VERBS[name][0]()

    assert locking
    with connection.cursor() as cursor:
        for sql, params in locking:
            cursor.execute(f"EXPLAIN {sql}", params)
            steps = [row for row in cursor.fetchall() if row[2] == JOB]
            assert {row[5] for row in steps} <= {"tseq_job_claim", "tseq_job_handler"}
            assert not any("filesort" in (row[9] or "") for row in steps)


def test_every_index_has_the_columns_that_are_asked_for() -> None:
    """Migration 0003 has put the columns of the conditions in front."""
    with connection.cursor() as cursor:
        found = connection.introspection.get_constraints(cursor, JOB)
        for table, index in ((ATTEMPT, "tseq_attempt_job"), (EVENT, "tseq_event_job")):
            assert index in connection.introspection.get_constraints(cursor, table)

    columns = {name: found[name]["columns"] for name in found if re.match("tseq_job_", name)}
    claim = ["status", "carried", "queue", "rank", "run_after", "id"]
    assert columns["tseq_job_claim"] == claim
    assert columns["tseq_job_waiting"] == ["status", "run_after"]
    assert columns["tseq_job_handler"] == ["handler_due", "run_after"]
