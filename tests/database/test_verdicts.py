"""What an error handler may decide: RetryJob, RetryTask, Complete, each three times a job."""

from typing import Any

import pytest

from django_tasks_seq import Complete, RetryJob, RetryTask, executor
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.test_handlers import Recorder
from tests.database.working import Failing, Inbox, Seen, statuses

pytestmark = pytest.mark.django_db


def test_retry_job_runs_it_again_from_its_first_task(declare: Declare) -> None:
    """The job runs from the start with its own payload; what had succeeded is history."""
    first, failing = Seen({"n": 2}), Failing(times=1)
    recorder = Recorder(RetryJob())
    declare(first, failing, error_handler=recorder)
    job = executor.start_sequence("probe", {"n": 1})
    drain()

    assert job.refresh().status == "SUCCESSFUL"
    assert first.payloads == [{"n": 1}] * 2
    assert [context.attempt for context in first.contexts] == [1, 2]
    assert failing.attempts == [1, 2]
    history = job.attempts.get(outcome="SUPERSEDED")
    assert (history.task_id, history.attempt, history.result) == ("t1", 1, {"n": 2})
    assert job.error == ""


def test_retry_task_goes_on_from_the_failed_task(declare: Declare) -> None:
    """Only the failed task runs again, on the same payload."""
    first, failing = Seen({"n": 2}), Failing(times=1)
    recorder = Recorder(RetryTask())
    declare(first, failing, error_handler=recorder)
    job = executor.start_sequence("probe", {"n": 1})
    drain()

    assert job.refresh().status == "SUCCESSFUL"
    assert len(first.payloads) == 1
    assert [payload for payload, _ in failing.calls] == [{"n": 2}] * 2
    assert failing.attempts == [1, 2]


@pytest.mark.parametrize("payload", [{"courier": "fallback"}, None, 0, []])
def test_retry_task_may_give_another_payload(declare: Declare, payload: Any) -> None:
    """The failed task receives what the verdict gave, None too; the next its result."""
    failing, last = Failing(times=1), Seen()
    recorder = Recorder(RetryTask(payload))
    declare(Seen({"n": 2}), failing, last, error_handler=recorder)
    job = executor.start_sequence("probe", {"n": 1})
    drain()

    assert [received for received, _ in failing.calls] == [{"n": 2}, payload]
    assert last.payloads == [payload]
    assert job.refresh().status == "SUCCESSFUL"


def test_complete_makes_it_successful(declare: Declare) -> None:
    """The job is SUCCESSFUL with that result, and its success handler is called with it."""
    success = Recorder()
    declare(
        Failing(), error_handler=Recorder(Complete({"declined": True})), success_handler=success
    )
    job = executor.start_sequence("probe")
    drain()

    job.refresh()
    assert (job.status, job.result, job.error) == ("SUCCESSFUL", {"declined": True}, "")
    assert [result for result, _ in success.calls] == [{"declined": True}]
    assert job.is_settled
    assert statuses(job) == {"t1": "FAILED"}
    assert job.finished_at is not None


def test_complete_without_a_result(declare: Declare) -> None:
    """`Complete()` has the result None, and needs no success handler."""
    declare(Failing(), error_handler=Recorder(Complete()))
    job = executor.start_sequence("probe")
    drain()

    job.refresh()
    assert (job.status, job.result, job.is_settled) == ("SUCCESSFUL", None, True)


@pytest.mark.parametrize("verdict", [RetryJob(), RetryTask(), RetryTask({"n": 9})])
def test_each_verdict_counts_three_times(declare: Declare, verdict: Any) -> None:
    """The fourth verdict of a kind is refused: the job stays FAILED, and says why."""
    failing, recorder = Failing(), Recorder(*[verdict] * 9)
    declare(failing, error_handler=recorder)
    job = executor.start_sequence("probe")
    drain()

    assert failing.attempts == [1, 2, 3, 4]
    assert len(recorder.calls) == 4
    job.refresh()
    assert (job.status, job.is_settled) == ("FAILED", True)
    kind = type(verdict).__name__
    assert job.handler_error == (
        f"error: InvalidTransition: The error handler gave {kind} for the 4. time, 3 are allowed;"
        " the outcome stands."
    )


def test_kinds_are_counted_apart(declare: Declare) -> None:
    """Three of one kind leave three of another."""
    failing = Failing()
    declare(failing, error_handler=Recorder(*[RetryJob()] * 3, *[RetryTask()] * 3, Complete(1)))
    job = executor.start_sequence("probe")
    drain()

    assert len(failing.calls) == 7
    assert job.refresh().result == 1


def test_a_verdict_is_an_event(declare: Declare) -> None:
    """Each change of the outcome is written down with what was before and after."""
    declare(Failing(), error_handler=Recorder(RetryTask(), Complete()))
    job = executor.start_sequence("probe")
    drain()

    events = job.events.order_by("id").values_list("by", "reason", "status_before", "status_after")
    assert list(events) == [
        ("error handler", "RetryTask", "FAILED", "READY"),
        ("error handler", "Complete", "FAILED", "SUCCESSFUL"),
    ]


@pytest.mark.parametrize("verdict", [RetryTask(object()), Complete(float("nan"))])
def test_a_verdict_that_is_no_json_changes_nothing(declare: Declare, verdict: Any) -> None:
    """The outcome stands, and the handler's error says what was wrong."""
    declare(Failing(), error_handler=Recorder(verdict))
    job = executor.start_sequence("probe")
    drain()

    job.refresh()
    assert (job.status, job.is_settled) == ("FAILED", True)
    assert job.handler_error.startswith("error: TaskResultError")


def test_a_success_handler_cannot_change_the_outcome(declare: Declare) -> None:
    """A verdict that a success handler returns is nothing but a value that is not kept."""
    task = Seen()
    declare(task, success_handler=Recorder(RetryJob()))
    job = executor.start_sequence("probe")
    drain()

    assert len(task.payloads) == 1
    assert job.refresh().status == "SUCCESSFUL"


def test_an_async_handler_decides_as_well(declare: Declare) -> None:
    """A verdict of a coroutine function is heeded."""
    failing = Failing(times=1)
    declare(failing, error_handler=Recorder(RetryTask()).acall)
    job = executor.start_sequence("probe")
    drain()

    assert failing.attempts == [1, 2]
    assert job.refresh().status == "SUCCESSFUL"


@pytest.mark.django_db(transaction=True)
def test_a_consumer_hands_on_what_a_verdict_made_due(declare: Declare, inbox: Inbox) -> None:
    """After the verdict of a carried job's handler its task is announced again."""
    failing = Failing(times=1)
    declare(failing, error_handler=Recorder(RetryTask()))
    job = executor.start_sequence("probe")
    runs = inbox.consume()

    assert [run.outcome for run in runs] == ["FAILED", "SUCCESSFUL", "SUCCESSFUL"]
    assert job.refresh().status == "SUCCESSFUL"


def test_a_person_who_was_faster_wins(declare: Declare, inbox: Inbox) -> None:
    """A verdict about a job that a person has retried meanwhile is refused."""

    def late(error: Any, context: Any) -> Complete:
        executor.retry(context.job_id)
        return Complete("late")

    declare(Failing(), error_handler=late)
    job = executor.start_sequence("probe")
    executor.execute_task(job, "t1")

    assert executor.execute_task(job, "@error").outcome == "LOST"
    assert job.refresh().status == "READY"
    advance(hours=1)
