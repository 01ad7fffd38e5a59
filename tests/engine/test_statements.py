"""How many statements and commits each kind of turn costs a worker: exactly."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection

from django_tasks_seq import BaseErrorHandler, BaseSuccessHandler, Retry, TaskSpec, executor
from django_tasks_seq.clock import Now
from django_tasks_seq.engine import Engine, EngineOptions, build_inline_engine
from django_tasks_seq.models import Job
from tests.counting import Cost, cost
from tests.engines import STORE, declare

MANY = 50
NEVER = 1e6

# What a transaction of ours begins with: on SQLite it takes the write lock, on PostgreSQL it says how
# long it may idle.
BEGIN = ["UPDATE"] if connection.vendor == "sqlite" else ["SET"]
# The outcomes of any number of tasks, in the midst of their jobs or at their ends.
COMMIT = ["UPDATE", "SELECT", "INSERT"] if connection.vendor == "sqlite" else ["WITH"]
END = [*COMMIT, "UPDATE"] if connection.vendor == "sqlite" else COMMIT
every_number = pytest.mark.parametrize("number", [1, MANY])


class Worker:
    """An engine that is turned by hand, and does in each turn only what the test says is due."""

    def __init__(self, queues: tuple[str, ...] = ("default",), **options: Any) -> None:
        # It asks for more than there is: an engine whose tasks run in its own thread has room for one
        # more at any time, and would ask for that one in vain.
        chosen = {"concurrency": 4 * MANY, "queues": queues, "name": "turned:1", **options}
        told = EngineOptions(**chosen)
        self.engine: Engine = build_inline_engine(STORE, told)
        self.engine.claiming.worker_id = STORE.enter(told.introduction())
        # On PostgreSQL the first turn begins to listen.
        self.turn()

    def turn(self, *due: str) -> Cost:
        """Once round; `tick`, `beat`, `poll` and `claim` can be due, and what has ended is committed."""
        engine, later = self.engine, time.monotonic() + NEVER
        engine._tick_at = 0.0 if "tick" in due else later
        engine._beat_at = 0.0 if "beat" in due else later
        engine.polls.at = 0.0 if "poll" in due else later
        engine.claiming.is_due = "claim" in due
        engine.wakeup.set()
        with cost() as spent:
            engine.turn()
        return spent


@pytest.fixture
def work() -> Iterator[Callable[..., Worker]]:
    """`work()` is a worker of the queue `default`, `work(queues=())` one of all queues."""
    workers: list[Worker] = []

    def make(**options: Any) -> Worker:
        workers.append(Worker(**options))
        return workers[-1]

    yield make
    for worker in workers:
        if worker.engine.listener is not None:
            worker.engine.listener.close()
        worker.engine.wakeup.close()


def same(payload: Any) -> Any:
    return payload


def failing(payload: Any) -> Any:
    raise ValueError("no stock")


class OnSuccess(BaseSuccessHandler):
    def handle_success(self, result: Any, context: Any) -> None:
        pass


class OnError(BaseErrorHandler):
    def handle_error(self, error: Any, context: Any) -> None:
        pass


def statuses() -> dict[str, int]:
    found = list(Job.objects.values_list("status", flat=True))
    return {status: found.count(status) for status in found}


def start(number: int, *tasks: Any, **handlers: Any) -> None:
    specs = [t if isinstance(t, TaskSpec) else (f"t{i}", t) for i, t in enumerate(tasks)]
    declare("lines", *specs, **handlers)
    executor.start_many("lines", [None] * number)


def test_an_idle_turn_is_one_look(work: Callable[..., Worker]) -> None:
    """A worker with nothing to do asks one question, whatever kinds of work there are."""
    worker = work(queues=())

    assert [worker.turn("poll") for _ in range(3)] == [(["SELECT"], 0)] * 3


def test_a_turn_in_which_nothing_is_due_asks_nothing(work: Callable[..., Worker]) -> None:
    """Outcomes that are awaited, a notification without a job: the database is left alone."""
    assert work().turn() == ([], 0)


def test_a_tick_with_empty_hands_asks_nothing(work: Callable[..., Worker]) -> None:
    """Each second only a clock is looked at; each fifth the worker writes that it lives."""
    worker = work()

    assert worker.turn("tick") == ([], 0)
    assert worker.turn("tick", "beat") == (["UPDATE"], 1)


@every_number
def test_a_claim_of_a_batch_is_one_statement(work: Callable[..., Worker], number: int) -> None:
    """Fresh jobs of a queue are taken by one UPDATE, which is one commit."""
    start(number, same, same)

    assert work().turn("claim") == (["UPDATE"], 1)
    assert statuses() == {"RUNNING": number}


def test_a_claim_of_all_queues_asks_for_their_names_first(work: Callable[..., Worker]) -> None:
    """One statement more, for any number of queues without jobs."""
    start(MANY, same, same)

    assert work(queues=()).turn("claim") == (["SELECT", "UPDATE"], 1)


def test_a_claim_of_several_queues_asks_each_in_turn(work: Callable[..., Worker]) -> None:
    """One statement for each queue, until the batch is full."""
    start(MANY, same, same)
    worker = work(queues=("mail", "default", "late"), max_jobs=MANY)

    assert worker.turn("claim") == (["UPDATE", "UPDATE"], 2)


@every_number
def test_a_group_commit_costs_the_same_for_one_and_many(
    work: Callable[..., Worker], number: int
) -> None:
    """Outcomes of all jobs at hand: on PostgreSQL one statement, on SQLite one transaction."""
    start(number, same, same, same)
    worker = work()
    worker.turn("claim")

    assert worker.turn() == (COMMIT, 1)
    assert worker.turn() == (COMMIT, 1)
    assert worker.turn() == (END, 1)
    assert statuses() == {"SUCCESSFUL": number}


def test_ends_and_the_next_claim_are_one_turn(work: Callable[..., Worker]) -> None:
    """A busy worker commits and claims in one round of two commits, for any number of tasks."""
    start(MANY, same)
    worker = work()
    worker.turn("claim")
    executor.start_many("lines", [None] * MANY)

    assert worker.turn("claim") == ([*END, "UPDATE"], 2)
    assert worker.turn() == (END, 1)
    assert statuses() == {"SUCCESSFUL": 2 * MANY}


@every_number
def test_a_job_of_five_tasks_costs_six_commits(work: Callable[..., Worker], number: int) -> None:
    """From its claim to its end: a claim, five outcomes, and no look between them."""
    start(number, *[same] * 5)
    worker = work()
    spent = [worker.turn("claim"), *(worker.turn() for _ in range(5))]

    assert statuses() == {"SUCCESSFUL": number}
    assert [turn.words for turn in spent] == [["UPDATE"], *[COMMIT] * 4, END]
    assert sum(turn.commits for turn in spent) == 6


@every_number
def test_a_tick_reads_all_jobs_in_hand_at_once(work: Callable[..., Worker], number: int) -> None:
    """Requests and leases of all jobs in hand are one SELECT; leases are renewed by one UPDATE."""
    start(number, same, same)
    worker = work()
    worker.turn("claim")
    worker.engine.committer.commit = lambda: None  # type: ignore[method-assign]

    assert worker.turn("tick") == (["SELECT"], 0)
    Job.objects.update(lease_until=Now())
    assert worker.turn("tick") == (["SELECT", "UPDATE"], 1)
    assert not Job.objects.filter(lease_until__lte=Now(1)).exists()


@every_number
def test_retries_are_one_transaction(work: Callable[..., Worker], number: int) -> None:
    """The fence, what the tasks' rows say, then jobs, task rows and attempts: for all that failed."""
    start(number, TaskSpec("t", failing, retry=Retry(max_attempts=2, delay=60)))
    worker = work()
    worker.turn("claim")

    changes = ["UPDATE", "INSERT", "INSERT"]
    assert worker.turn() == ([*BEGIN, "SELECT", "SELECT", *changes], 1)
    assert statuses() == {"WAITING": number}


def test_what_is_due_again_is_promoted_and_claimed_in_one_turn(work: Callable[..., Worker]) -> None:
    """A look, the promotion, the claim, and where the jobs stand: rows of tasks that have begun."""
    start(MANY, TaskSpec("t", failing, retry=Retry(max_attempts=2, delay=0)))
    worker = work()
    worker.turn("claim")
    worker.turn()

    assert worker.turn("poll") == (["SELECT", "UPDATE", "UPDATE", "SELECT"], 2)
    assert statuses() == {"RUNNING": MANY}


@every_number
def test_a_failure_is_one_transaction(work: Callable[..., Worker], number: int) -> None:
    """As a retry; the job ends by it."""
    start(number, failing)
    worker = work()
    worker.turn("claim")

    changes = ["UPDATE", "INSERT", "INSERT"]
    assert worker.turn() == ([*BEGIN, "SELECT", "SELECT", *changes], 1)
    assert statuses() == {"FAILED": number}


@every_number
@pytest.mark.parametrize(
    ("task", "handlers"),
    [(same, {"success_handler": OnSuccess}), (failing, {"error_handler": OnError})],
    ids=["success", "error"],
)
def test_a_handler_goes_on_under_the_claim_of_its_job(
    work: Callable[..., Worker], task: Any, handlers: dict[str, Any], number: int
) -> None:
    """Its outcome is a transaction of its own: nothing is claimed for it."""
    start(number, task, **handlers)
    worker = work()
    worker.turn("claim")
    worker.turn()
    spent = worker.turn()

    assert Job.objects.exclude(handler_due="").count() == 0
    assert spent == ([*BEGIN, "SELECT", "UPDATE"], 1)


def test_handlers_that_are_left_are_claimed_by_one_statement(work: Callable[..., Worker]) -> None:
    """A look, one UPDATE for all whose last holder is gone; and one that looks for jobs."""
    start(MANY, same, success_handler=OnSuccess)
    first = work()
    first.turn("claim")
    first.engine.dispatch.hand_out = lambda hands: None  # type: ignore[method-assign]
    first.turn()
    Job.objects.update(lease_until=None)

    assert work().turn("poll") == (["SELECT", "UPDATE", "UPDATE"], 2)
