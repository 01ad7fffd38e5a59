"""How many statements a start, a claim, a checkpoint and `execute_task` cost: exactly."""

import math
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from django_tasks_seq import executor
from django_tasks_seq.cache.changes import Claim, Held, Report
from django_tasks_seq.engine import options_from_settings
from django_tasks_seq.status import TaskStatusManager
from tests.counting import cost
from tests.database.conftest import Declare
from tests.database.working import Inbox, same

pytestmark = pytest.mark.django_db(transaction=True)
STATUS = TaskStatusManager()
SAVEPOINTS = {"SAVEPOINT", "RELEASE"}
NOTIFY = ["SELECT"] if connection.vendor == "postgresql" else []


def claimed(number: int, lease: float = 60) -> list[Claim]:
    executor.start_many("probe", [None] * number)
    claims: list[Claim] = executor.store().claim(["default"], number, lease, None)
    assert len(claims) == number
    return claims


def checkpoints(claims: list[Claim]) -> list[Any]:
    report = Report(0.1, 0.0)
    return [STATUS.complete_task(c, '"r"', report, handler="", keep=True) for c in claims]


def test_a_start_is_one_statement_and_one_commit(declare: Declare) -> None:
    """Outside of a transaction a start is one INSERT (with its NOTIFY), committed by itself."""
    declare(same)
    with cost() as spent:
        executor.start_sequence("probe", {"n": 1}, idempotency_key="k")

    assert spent == (["INSERT"], 1)


def test_a_start_in_a_transaction_is_one_statement(declare: Declare) -> None:
    """Inside a transaction each start is one INSERT; behind its commit PostgreSQL notifies, once."""
    declare(same)
    with cost() as spent, transaction.atomic():
        for number in range(3):
            executor.start_sequence("probe", number)
        executor.start_many("probe", range(3))
        inside = list(spent.words)

    assert [word for word in inside if word not in SAVEPOINTS] == ["INSERT"] * 4
    assert (spent.words[len(inside) :], spent.commits) == (NOTIFY, 1)


def test_a_second_start_with_a_key_reads_the_first_job(declare: Declare) -> None:
    """A refused INSERT is followed by a look for the job that has the key."""
    declare(same)
    executor.start_sequence("probe", 1, idempotency_key="k")
    with cost() as spent:
        executor.start_sequence("probe", 1, idempotency_key="k")

    assert spent.words[1:] == ["SELECT", "SELECT"]


def test_many_starts_are_one_statement_and_one_commit(declare: Declare) -> None:
    """A hundred jobs are one INSERT in one transaction; behind it PostgreSQL notifies."""
    declare(same)
    with cost() as spent:
        executor.start_many("probe", range(100))

    assert spent == (["INSERT", *NOTIFY], 1)


def test_a_claim_is_one_statement(declare: Declare) -> None:
    """A batch of fresh jobs of one queue is claimed by one UPDATE."""
    declare(same)
    executor.start_many("probe", range(50))
    with cost() as spent:
        claims = executor.store().claim(["default"], 50, 60, None)

    assert len(claims) == 50
    assert spent == (["UPDATE"], 1)


def test_a_worker_that_is_behind_does_not_ask_again_which_queues_there_are(
    declare: Declare,
) -> None:
    """On all queues a claim asks for their names first; after a full one the next does not."""
    declare(same)
    executor.start_many("probe", range(30))
    store: Any = executor.store()
    worker = store.enter(options_from_settings().introduction())
    spent = []
    for _ in range(3):
        with cost() as turn:
            assert len(store.claim([], 10, 60, worker)) == 10
        spent.append(turn)
        store._frontiers[worker].until = math.inf

    assert spent == [(["SELECT", "UPDATE"], 1), (["UPDATE"], 1), (["UPDATE"], 1)]


def test_a_queue_that_is_new_is_found_when_the_others_do_not_fill_a_claim(
    declare: Declare,
) -> None:
    """Names that are remembered are asked first, not only: what they leave is filled from others."""
    declare(same)
    executor.start_many("probe", range(15))
    store: Any = executor.store()
    worker = store.enter(options_from_settings().introduction())
    assert len(store.claim([], 10, 60, worker)) == 10
    store._frontiers[worker].until = math.inf
    executor.start_many("probe", range(5), queue="new")

    claims = store.claim([], 10, 60, worker)

    assert sorted(claim.queue for claim in claims) == ["default"] * 5 + ["new"] * 5
    assert store.claim([], 10, 60, worker) == []


def test_a_worker_that_is_behind_goes_on_where_its_last_claim_began(declare: Declare) -> None:
    """Behind a full claim nothing is passed over: what is more urgent comes when its time is over."""
    declare(same)
    jobs = executor.start_many("probe", range(40))
    store: Any = executor.store()
    worker = store.enter(options_from_settings().introduction())

    def claim(number: int) -> list[Any]:
        return [one.job_id for one in store.claim(["default"], number, 60, worker)]

    assert claim(10) == [job.pk for job in jobs[:10]]
    frontier = store._frontiers[worker]
    frontier.until = math.inf
    urgent = executor.start_sequence("probe", priority=50)
    with CaptureQueriesContext(connection) as sent:
        assert claim(10) == [job.pk for job in jobs[10:20]]
    assert "(rank, run_after, id) > (" in sent.captured_queries[0]["sql"]
    frontier.until = 0.0
    assert claim(10) == [urgent.pk, *(job.pk for job in jobs[20:29])]
    frontier.until = math.inf
    later = executor.start_sequence("probe", priority=60)
    with cost() as spent:
        assert claim(20) == [*(job.pk for job in jobs[29:]), later.pk]
    assert spent == (["UPDATE", "UPDATE"], 2)


def test_a_claim_of_begun_jobs_reads_where_they_stand(declare: Declare) -> None:
    """For jobs that have task rows two more statements tell position and payload of them all."""
    declare(same, same)
    claims = claimed(20)
    executor.store().apply(checkpoints(claims))
    for claim in claims:
        claim.advance('"r"')
    executor.store().apply([STATUS.release(claim) for claim in claims])
    with cost() as spent:
        again = executor.store().claim(["default"], 50, 60, None)

    assert [(claim.position, claim.payload) for claim in again] == [(1, '"r"')] * 20
    assert spent.words == ["UPDATE", "SELECT", "SELECT"]


@pytest.mark.postgresql
@pytest.mark.parametrize("number", [1, 50])
@pytest.mark.parametrize("last", [False, True], ids=["middle", "last task"])
def test_a_checkpoint_of_many_jobs_is_one_statement(
    declare: Declare, number: int, last: bool
) -> None:
    """Fence, ends of jobs and task rows of all jobs at hand are one statement and one commit."""
    declare(*[same] * (1 if last else 2))
    writes = checkpoints(claimed(number))
    with cost() as spent:
        applied = executor.store().apply(writes)

    assert len(applied.done) == number
    assert spent == (["WITH"], 1)


@pytest.mark.sqlite
@pytest.mark.parametrize("number", [1, 50])
@pytest.mark.parametrize("last", [False, True], ids=["middle", "last task"])
def test_on_sqlite_a_checkpoint_is_one_transaction(
    declare: Declare, number: int, last: bool
) -> None:
    """One transaction of so many statements for any number of jobs: lock, read, insert, update."""
    declare(*[same] * (1 if last else 2))
    writes = checkpoints(claimed(number))
    with cost() as spent:
        applied = executor.store().apply(writes)

    assert len(applied.done) == number
    ends = ["UPDATE"] if last else []
    assert spent == (["UPDATE", "SELECT", "INSERT", *ends], 1)


@pytest.mark.parametrize("last", [False, True], ids=["middle", "last task"])
def test_an_atomic_task_adds_two_statements_to_its_own(declare: Declare, last: bool) -> None:
    """The fence and the task's row; one more ends the job. All in the task's transaction."""
    declare(*[same] * (1 if last else 2))
    (write,) = checkpoints(claimed(1))
    with cost() as spent, transaction.atomic():
        applied = executor.store().apply_inside(write, "worker")

    assert write.job_id in applied.done
    lock = ["UPDATE"] if connection.vendor == "sqlite" else []
    ends = ["UPDATE"] if last else []
    assert spent == ([*lock, "SELECT", "INSERT", *ends], 1)


def test_a_quiet_tick_writes_nothing(declare: Declare) -> None:
    """A tick whose leases are fresh is one SELECT."""
    declare(same)
    claims = claimed(20)
    held = [Held(claim.job_id, claim.token) for claim in claims]
    with cost() as spent:
        executor.store().tick(held, 60)

    assert spent == (["SELECT"], 0)


def test_a_look_is_one_statement(declare: Declare) -> None:
    """What there is to do, of all kinds, is one SELECT."""
    with cost() as spent:
        executor.store().look([])

    assert spent == (["SELECT"], 0)


def test_execute_task_is_a_claim_a_checkpoint_and_a_look(declare: Declare, inbox: Inbox) -> None:
    """One task of a carried job: two commits, its claim and its outcome, and reads around them."""
    declare(same, same)
    job = executor.start_sequence("probe", 1)
    with cost() as spent:
        executor.execute_task(job, "t1")

    begin = ["UPDATE"] if connection.vendor == "sqlite" else ["SET"]
    claim = [*begin, "SELECT", "SELECT", "SELECT", "UPDATE"]
    outcome = [*begin, "SELECT", "SELECT", "UPDATE", "INSERT"]
    due = ["SELECT"] * 3
    assert spent == ([*claim, *outcome, *due], 2)


def test_a_verb_is_one_transaction(declare: Declare) -> None:
    """Cancelling reads under the lock, writes job and event, and reads the job again."""
    declare(same)
    job = executor.start_sequence("probe")
    with cost() as spent:
        executor.cancel(job)

    begin = ["UPDATE"] if connection.vendor == "sqlite" else ["SET"]
    assert spent == ([*begin, "SELECT", "SELECT", "SELECT", "UPDATE", "INSERT", "SELECT"], 1)
