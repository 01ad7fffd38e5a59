"""One lock order, pair by pair: while one holds a job's rows, the other waits for the job, or passes by.

The job's row comes first, then rows about it; several jobs in the order of their ids. The engine never
waits for a row.
"""

from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction
from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks_seq import BaseErrorHandler, BaseStartTaskHandler, executor
from django_tasks_seq.attempt import MANAGER
from django_tasks_seq.cache.changes import Claim, Failure, Held, Report
from django_tasks_seq.cache.retention import Prunable
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.errors_text import describe_exception
from django_tasks_seq.exceptions import TasksSeqError
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from django_tasks_seq.testing import advance
from tests.engines import STORE, claim_one, declare
from tests.helpers import InThread, wait_until_blocked

pytestmark = pytest.mark.postgresql

LEASE = 60.0
NO = describe_exception(ValueError("no"))
Act = Callable[[UUID, Claim | None], Any]


class Silent(BaseStartTaskHandler):
    def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
        pass


class OnError(BaseErrorHandler):
    def handle_error(self, error: Any, context: Any) -> None:
        pass


def same(payload: Any) -> Any:
    return payload


def delete_rows(job_id: UUID, claim: Any) -> None:
    Job.objects.filter(pk=job_id).delete()


def delete_row(job_id: UUID, claim: Any) -> None:
    Job(pk=job_id).delete()


def delete_key(job_id: UUID, claim: Any) -> None:
    STORE.delete(f"job:{job_id}")


def delete_task_key(job_id: UUID, claim: Any) -> None:
    STORE.delete(f"job:{job_id}:a")


def set_document(job_id: UUID, claim: Any) -> None:
    STORE.set(f"job:{job_id}", {"error": "odd"})


def set_task(job_id: UUID, claim: Any) -> None:
    STORE.set(f"job:{job_id}:a", {"status": "READY", "error": "odd", "position": 0})


def cancel(job_id: UUID, claim: Any) -> None:
    executor.cancel(job_id, force=True)


def retry(job_id: UUID, claim: Any) -> None:
    executor.retry(job_id, from_task="a")


def claim_ready(job_id: UUID, claim: Any) -> None:
    STORE.claim((), 10, LEASE, None)


def claim_this(job_id: UUID, claim: Any) -> None:
    STORE.claim_job(job_id, "a", LEASE, "consumer")


def claim_handlers(job_id: UUID, claim: Any) -> None:
    STORE.claim_handlers((), 10, LEASE, None)


def _completion(claim: Claim) -> Any:
    return MANAGER.complete_task(claim, "1", Report(), handler="", keep=True)


def checkpoint(job_id: UUID, claim: Any) -> None:
    STORE.apply([_completion(claim)], "w")


def change(job_id: UUID, claim: Any) -> None:
    failure = Failure(NO, "FAILED", 5.0)
    STORE.apply([MANAGER.fail_attempt(claim, failure, Report(), handler="", keep=True)], "w")


def commit_inside(job_id: UUID, claim: Any) -> None:
    with transaction.atomic():
        STORE.apply_inside(_completion(claim), "w")


def change_inside(job_id: UUID, claim: Any) -> None:
    with transaction.atomic():
        STORE.apply_inside(MANAGER.release(claim), "w")


def end_handler(job_id: UUID, claim: Any) -> None:
    STORE.apply([MANAGER.finish_handler(claim)], "w")


def tick(job_id: UUID, claim: Any) -> None:
    STORE.tick([Held(claim.job_id, claim.token)], LEASE)


def rescue(job_id: UUID, claim: Any) -> None:
    STORE.rescue(lose)


def promote(job_id: UUID, claim: Any) -> None:
    STORE.promote()


def sweep(job_id: UUID, claim: Any) -> None:
    STORE.sweep(60.0)


def prune(job_id: UUID, claim: Any) -> None:
    STORE.prune(Prunable(0.0), 10, seconds=None)


# People, and whoever commits in a transaction of their own, wait; the engine and pruning pass by.
WAITING = {delete_rows, delete_row, delete_key, delete_task_key, set_document, set_task}
WAITING |= {cancel, retry, commit_inside, change_inside}
DELETIONS = (delete_rows, delete_row, delete_key, delete_task_key)
TAKERS: dict[str, tuple[Act, ...]] = {
    "ready": (claim_ready, claim_this, cancel, set_document, set_task, *DELETIONS),
    "waiting": (promote, claim_this, cancel, *DELETIONS),
    "running": (
        *(checkpoint, change, commit_inside, change_inside, tick, rescue, cancel),
        *(set_document, *DELETIONS),
    ),
    "handled": (claim_handlers, end_handler, tick, retry, *DELETIONS),
    "settled": (prune, retry, *DELETIONS),
    "announced": (sweep, claim_this, cancel, *DELETIONS),
}


@pytest.fixture(autouse=True)
def _declared(_sequences_of_the_test: None) -> None:
    tasks = (("a", same), ("b", same))
    declare("lines", *tasks, error_handler=OnError)
    declare("carried", *tasks, start_task_handler=Silent)


def job_in(state: str) -> tuple[UUID, Claim | None]:
    """A job that all who take part in *state* would write to, each with a row of its first task."""
    Job.objects.all().delete()
    job_id = executor.start_sequence("carried" if state == "announced" else "lines", {}).pk
    TaskStatus.objects.create(job_id=job_id, task_id="a", position=0, status="READY")
    held: Claim | None = None
    if state in {"running", "handled", "settled", "waiting"}:
        held = claim_one()
        failure = Failure(NO, "FAILED", 5.0 if state == "waiting" else None)
        if state != "running":
            STORE.apply(
                [MANAGER.fail_attempt(held, failure, Report(), handler="error", keep=True)], "w"
            )
            held.handler, held.handler_attempts = "error", 1
        if state == "settled":
            STORE.apply([MANAGER.finish_handler(held)], "w")
    advance(2 * LEASE)
    return job_id, held


def act_on(act: Act, job_id: UUID, claim: Claim | None) -> None:
    """Refused by what is there by then, it has waited all the same."""
    with suppress(TasksSeqError):
        act(job_id, claim)


every_state = pytest.mark.parametrize("state", TAKERS)


@every_state
def test_who_waits_for_a_job_holds_no_row_about_it(
    state: str, other_connection: BaseDatabaseWrapper
) -> None:
    """The job's row is the first that is locked: while it is waited for, the rows about it are free."""
    for act in TAKERS[state]:
        if act not in WAITING:
            continue
        job_id, claim = job_in(state)
        with transaction.atomic():
            Job.objects.select_for_update().get(pk=job_id)
            late = InThread(act_on, act, job_id, claim)
            wait_until_blocked()
            assert_free(other_connection, (TaskStatus, TaskAttempt, JobEvent), "job_id", job_id)
        late.result()


def assert_free(other: BaseDatabaseWrapper, models: Any, key: str, job_id: UUID) -> None:
    """Nobody holds these rows."""
    with other.cursor() as cursor:
        for model in models:
            table = model._meta.db_table
            cursor.execute(f"SELECT 1 FROM {table} WHERE {key} = %s FOR UPDATE NOWAIT", [job_id])


@every_state
def test_who_meets_a_held_job_waits_for_its_row_or_passes_by(state: str) -> None:
    """Each with each: nobody holds a row about the job without the job, so no two can cross."""
    # One way to delete stands for all: they begin alike, as the test above shows.
    takers = [act for act in TAKERS[state] if act not in DELETIONS[1:]]
    for holder, other in product(takers, takers):
        job_id, claim = job_in(state)
        with transaction.atomic():
            act_on(holder, job_id, claim)
            late = InThread(act_on, other, job_id, claim)
            if other in WAITING:
                wait_until_blocked()
            else:
                late.result()
        late.result()
        if not Job.objects.filter(pk=job_id).exists():
            rows = (TaskStatus, TaskAttempt, JobEvent)
            left = [model._default_manager.count() for model in rows]
            assert (holder.__name__, other.__name__, left) == (
                *(holder.__name__, other.__name__, [0, 0, 0]),
            )


def test_jobs_are_deleted_in_the_order_of_their_ids(other_connection: BaseDatabaseWrapper) -> None:
    """Of several jobs the later ones are free while an earlier one is waited for, whatever was asked for."""
    jobs = executor.start_many("lines", [{}] * 3)
    first, *rest = sorted(job.pk for job in jobs)

    with transaction.atomic():
        Job.objects.select_for_update().get(pk=first)
        late = InThread(Job.objects.order_by("-pk").delete)
        wait_until_blocked()
        for job_id in rest:
            assert_free(other_connection, [Job], "id", job_id)
    late.result()

    assert not Job.objects.exists()


def test_two_starts_with_the_same_keys_in_another_order_do_not_cross() -> None:
    """Keys are taken in one order, whatever the order they were given in: the second start waits once."""
    keys = [f"key-{number}" for number in range(5)]

    with transaction.atomic():
        executor.start_many("lines", [{}] * 2, idempotency_keys=[keys[3], keys[2]])
        late = InThread(executor.start_many, "lines", [{}] * 5, idempotency_keys=keys[::-1])
        wait_until_blocked()
        # It waits at the third key, and so has not come to the last one.
        executor.start_sequence("lines", {}, idempotency_key=keys[4])
    found = late.result()

    assert [job.idempotency_key for job in found] == keys[::-1]
    assert [job.was_started for job in found] == [False, False, False, True, True]


def test_keys_are_let_go_before_one_that_has_become_free_is_taken() -> None:
    """The job that had the first key is deleted when it is looked for: nothing is held behind that key."""
    first = executor.start_sequence("lines", {}, idempotency_key="key-1")
    steps: list[Any] = []

    def meddle(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if not steps and "idempotency_key IN" in sql:
            steps.append(InThread(Job.objects.filter(pk=first.pk).delete).result())
        elif len(steps) == 1 and "INSERT" in sql:
            start = InThread(executor.start_sequence, "lines", {}, idempotency_key="key-9")
            steps.append(start.result())
        return execute(sql, params, many, context)

    with connection.execute_wrapper(meddle):
        jobs = executor.start_many("lines", [{}] * 2, idempotency_keys=["key-1", "key-9"])

    assert [job.was_started for job in jobs] == [True, False]
    assert jobs[1].pk == steps[1].pk
