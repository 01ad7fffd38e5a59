"""Start handlers: the worker's, signal, inline, and a site's own queue with its consumer."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_tasks_seq import (
    Retry,
    TaskSpec,
    WorkerStartTaskHandler,
    executor,
)
from django_tasks_seq.ids import uuid7
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, Seen, count, same, statuses

pytestmark = pytest.mark.django_db(transaction=True)
Configure = Callable[..., None]


# --- the worker's


def test_the_workers_jobs_wait_for_a_worker(declare: Declare) -> None:
    """The default handler does nothing; the row alone is what the worker finds."""
    task = Seen()
    declare(task, start_task_handler=WorkerStartTaskHandler)
    job = executor.start_sequence("probe")

    assert not job.carried
    assert task.payloads == []
    drain()
    assert len(task.payloads) == 1


def test_a_worker_never_claims_carried_jobs(declare: Declare, inbox: Inbox) -> None:
    """Jobs of any other handler are left to their consumer."""
    task = Seen()
    declare(task)
    job = executor.start_sequence("probe")

    assert job.carried
    assert drain() == 0
    assert task.payloads == []


# --- a queue of the site's own


def test_a_consumer_runs_task_after_task(declare: Declare, inbox: Inbox) -> None:
    """Each message is one task; the handler is called for the next when it is due."""
    declare(count, count, count)
    job = executor.start_sequence("probe", {"n": 0})
    assert list(inbox.messages) == [(str(job.id), "t1", {"n": 0})]

    first = executor.execute_task(*inbox.messages.popleft())
    assert (first.ran, first.reason, first.outcome) == (True, "", "SUCCESSFUL")
    assert job.refresh().status == "READY"
    assert list(inbox.messages) == [(str(job.id), "t2", {"n": 1})]

    assert [run.outcome for run in inbox.consume()] == ["SUCCESSFUL"] * 2
    assert job.refresh().result == {"n": 3}
    assert statuses(job) == dict.fromkeys(["t1", "t2", "t3"], "SUCCESSFUL")


def test_the_stored_payload_is_used(declare: Declare, inbox: Inbox) -> None:
    """What a message carries as payload is ignored: the row is the truth."""
    task = Seen()
    declare(task)
    job = executor.start_sequence("probe", "stored")

    executor.execute_task(job.id, "t1", "forged")

    assert task.payloads == ["stored"]


def test_a_doubled_message_runs_nothing(declare: Declare, inbox: Inbox) -> None:
    """A message that comes again, or after its job went on, is told why nothing ran."""
    task = Seen()
    declare(task, same)
    job = executor.start_sequence("probe")
    executor.execute_task(job, "t1")

    doubled = executor.execute_task(job, "t1")
    executor.execute_task(job, "t2")
    late = executor.execute_task(job, "t1")

    assert (doubled.ran, doubled.reason) == (False, "done")
    assert (late.ran, late.reason) == (False, "final")
    assert len(task.payloads) == 1


def test_a_message_too_early_runs_nothing(declare: Declare, inbox: Inbox) -> None:
    """A message for a task that is not next, or not due, changes nothing."""
    declare(same, same, success_handler=lambda result: None)
    job = executor.start_sequence("probe")
    late = executor.start_sequence("probe", run_after=timedelta(hours=1))

    assert executor.execute_task(job, "t2").reason == "not_next"
    assert executor.execute_task(job, "nonsense").reason == "not_next"
    assert executor.execute_task(job, "@success").reason == "not_next"
    assert executor.execute_task(late, "t1").reason == "not_due"
    assert statuses(job) == {}
    assert job.refresh().status == "READY"
    assert late.refresh().status == "WAITING"


@pytest.mark.parametrize("unknown", ["nonsense", "", None, 7, uuid7(), str(uuid7())])
def test_a_message_for_no_job_runs_nothing(declare: Declare, unknown: Any) -> None:
    """An id that is none, or nobody's, is an answer and no exception."""
    run = executor.execute_task(unknown, "t1")

    assert (run.ran, run.reason) == (False, "unknown_job")


@pytest.mark.parametrize(("verb", "reason"), [("pause", "paused"), ("cancel", "final")])
def test_a_message_for_a_stopped_job_runs_nothing(
    declare: Declare, inbox: Inbox, verb: str, reason: str
) -> None:
    """A paused or cancelled job is left alone."""
    declare(same)
    job = executor.start_sequence("probe")
    getattr(executor, verb)(job)

    assert [run.reason for run in inbox.consume()] == [reason]


def test_a_message_for_a_running_job_runs_nothing(declare: Declare, inbox: Inbox) -> None:
    """While one consumer runs the task, another is told so."""
    runs = []

    def again(payload: Any, context: Any) -> None:
        runs.append(executor.execute_task(context.job_id, context.task_id))

    declare(again)
    executor.execute_task(executor.start_sequence("probe"), "t1")

    assert [run.reason for run in runs] == ["running"]


def test_a_handler_message_doubled(declare: Declare, inbox: Inbox) -> None:
    """The handler of a carried job runs once, however often its message comes."""
    calls: list[Any] = []
    declare(same, success_handler=calls.append)
    job = executor.start_sequence("probe", 7)
    runs = inbox.consume()
    doubled = executor.execute_task(job, "@success")
    wrong = executor.execute_task(job, "@error")

    assert [run.outcome for run in runs] == ["SUCCESSFUL", "SUCCESSFUL"]
    assert (doubled.reason, wrong.reason) == ("done", "done")
    assert calls == [7]


def test_a_failing_task_does_not_raise(declare: Declare, inbox: Inbox) -> None:
    """A task's exception is recorded, and `execute_task` says what became of it."""
    declare(TaskSpec("t1", Failing(), retry=Retry(2, delay=30)))
    job = executor.start_sequence("probe")

    assert executor.execute_task(job, "t1").outcome == "WAITING"
    advance(31)
    assert executor.execute_task(job, "t1").outcome == "FAILED"
    assert job.refresh().status == "FAILED"


def test_every_verb_announces_what_is_due(declare: Declare, inbox: Inbox) -> None:
    """Resume, retry and skip call the start handler for the task that is due then."""
    declare(Failing(), same)
    job = executor.start_sequence("probe", "p")
    inbox.consume()

    executor.retry(job)
    assert inbox.tasks == ["t1"]
    executor.pause(job)
    executor.resume(job)
    assert inbox.tasks == ["t1", "t1"]
    executor.skip(job, "t1", "given")
    assert inbox.messages[-1] == (str(job.id), "t2", "given")
    executor.retry(executor.cancel(job))
    assert inbox.tasks == ["t1", "t1", "t2", "t2"]
