"""Retry and skip: what runs again, what is kept, and what goes to the attempts' history."""

from typing import Any

import pytest

from django_tasks_seq import (
    InvalidPayload,
    JobNotRetryable,
    TaskNotSkippable,
    UnknownTask,
    executor,
)
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.test_handlers import Recorder
from tests.database.working import Failing, Inbox, Seen, same, statuses

pytestmark = pytest.mark.django_db


def attempts(job: Job) -> list[tuple[str, int, str, Any]]:
    rows = job.attempts.order_by("id")
    return [(row.task_id, row.attempt, row.outcome, row.result) for row in rows]


def test_retry_goes_on_from_the_failed_task(declare: Declare) -> None:
    """Earlier results are kept and their tasks do not run again."""
    first, failing, last = Seen("one"), Failing(times=1), Seen("three")
    declare(first, failing, last)
    job = executor.start_sequence("probe", "p")
    drain()

    executor.retry(job)
    drain()

    assert (len(first.payloads), failing.attempts, len(last.payloads)) == (1, [1, 2], 1)
    assert [payload for payload, _ in failing.calls] == ["one", "one"]
    job.refresh()
    assert (job.status, job.result, job.error) == ("SUCCESSFUL", "three", "")
    assert attempts(job) == [("t2", 1, "FAILED", None)]


def test_retry_clears_what_the_failure_left(declare: Declare) -> None:
    """The error, its handler's answer and error are gone, and both handlers may be called again."""
    errors, successes = Recorder("alerted", ConnectionError()), Recorder()
    declare(Failing(times=1), error_handler=errors, success_handler=successes)
    job = executor.start_sequence("probe")
    drain()
    assert job.refresh().error_result == "alerted"

    executor.retry(job)
    job.refresh()
    assert (job.error, job.error_result, job.handler_error) == ("", None, "")
    assert (job.finished_at, job.result) == (None, None)
    drain()

    assert len(successes.calls) == 1
    assert job.refresh().is_settled


def test_retry_from_an_earlier_task(declare: Declare) -> None:
    """Tasks from there on run again; what they had returned is in the attempts' history."""
    tasks = [Seen({"n": 1}), Seen({"n": 2}), Seen({"n": 3})]
    declare(*tasks)
    job = executor.start_sequence("probe", {"n": 0})
    drain()

    executor.retry(job, from_task="t2")
    assert job.refresh().status == "READY"
    assert statuses(job) == {"t1": "SUCCESSFUL", "t2": "READY", "t3": "READY"}
    assert not job.task_statuses.filter(task_id="t3", result__isnull=False).exists()
    drain()

    assert [len(task.payloads) for task in tasks] == [1, 2, 2]
    assert tasks[1].payloads == [{"n": 1}] * 2
    assert [context.attempt for context in tasks[2].contexts] == [1, 2]
    assert job.refresh().result == {"n": 3}
    assert attempts(job) == [
        ("t2", 1, "SUPERSEDED", {"n": 2}),
        ("t3", 1, "SUPERSEDED", {"n": 3}),
    ]
    assert job.events.get().data == {"task_id": "t2"}


def test_retry_from_the_first_task(declare: Declare) -> None:
    """The whole job runs again on its payload."""
    task = Seen()
    declare(task)
    job = executor.start_sequence("probe", "p")
    drain()
    executor.retry(job, from_task="t1")
    drain()

    assert task.payloads == ["p", "p"]


def test_retry_from_a_task_that_was_not_reached_is_refused(
    declare: Declare, unchanged: Any
) -> None:
    """What lies behind the failed task has no payload; the message says where to go on."""
    declare(Failing(), same)
    job = executor.start_sequence("probe")
    drain()

    with unchanged(job), pytest.raises(JobNotRetryable, match="'t1' before it has not succeeded"):
        executor.retry(job, from_task="t2")


@pytest.mark.parametrize(
    "call",
    [lambda job: executor.retry(job, from_task="t11"), lambda job: executor.skip(job, "t11")],
)
def test_an_unknown_task_is_refused_with_a_suggestion(
    declare: Declare, unchanged: Any, call: Any
) -> None:
    """A task id that the job does not have is named together with those it has."""
    declare(Failing(), same)
    job = executor.start_sequence("probe")
    drain()

    with unchanged(job), pytest.raises(UnknownTask, match=r"no task 't11'. Did you mean 't1'\?"):
        call(job)


# --- skip


def test_skip_goes_on_behind_the_task(declare: Declare) -> None:
    """The next task receives what was given in place of a result."""
    last = Seen("done")
    declare(same, Failing(), last)
    job = executor.start_sequence("probe", "p")
    drain()

    executor.skip(job, "t2", {"given": 1})
    assert statuses(job) == {"t1": "SUCCESSFUL", "t2": "SKIPPED"}
    drain()

    assert last.payloads == [{"given": 1}]
    assert last.contexts[0].job_payload == "p"
    assert job.refresh().result == "done"
    assert job.task_results() == {"t1": "p", "t2": {"given": 1}, "t3": "done"}


def test_skip_the_first_task_before_it_began(declare: Declare) -> None:
    """A job that has not begun can go on behind its first task."""
    first, second = Seen(), Seen()
    declare(first, second)
    job = executor.start_sequence("probe", "p")
    executor.skip(job, "t1")
    drain()

    assert first.payloads == []
    assert second.payloads == [None]
    assert job.refresh().status == "SUCCESSFUL"


def test_skip_the_last_task_ends_the_job(declare: Declare) -> None:
    """The job is SUCCESSFUL with the given result, and its success handler is due."""
    successes = Recorder()
    declare(same, Failing(), error_handler=Recorder("alerted"), success_handler=successes)
    job = executor.start_sequence("probe")
    drain()

    executor.skip(job, "t2", "given")
    job.refresh()
    assert (job.status, job.result, job.error) == ("SUCCESSFUL", "given", "")
    assert (job.error_result, job.is_settled) == (None, False)
    drain()

    assert [result for result, _ in successes.calls] == ["given"]
    assert job.refresh().is_settled


def test_skip_in_a_paused_job_leaves_it_paused(declare: Declare) -> None:
    """Setting a task aside does not resume."""
    declare(same, same)
    job = executor.start_sequence("probe")
    executor.pause(job)
    executor.skip(job, "t1", 1)

    assert job.refresh().status == "PAUSED"
    assert drain() == 0
    executor.resume(job)
    drain()
    assert job.refresh().result == 1


def test_only_the_next_task_can_be_skipped(declare: Declare, unchanged: Any) -> None:
    """What is done, or lies further ahead, cannot be set aside."""
    declare(same, Failing(), same)
    job = executor.start_sequence("probe")
    drain()

    for task_id in ("t1", "t3"):
        with (
            unchanged(job),
            pytest.raises(TaskNotSkippable, match=f"stands before 't2', so '{task_id}'"),
        ):
            executor.skip(job, task_id)


def test_a_result_that_is_no_json_is_refused(declare: Declare, unchanged: Any) -> None:
    """The result given to a skip obeys the rules of payloads."""
    declare(same)
    job = executor.start_sequence("probe")

    with unchanged(job), pytest.raises(InvalidPayload, match="Nothing was changed"):
        executor.skip(job, "t1", {"x": object()})


def test_skip_waits_for_an_error_handler_that_runs(declare: Declare, inbox: Inbox) -> None:
    """While the error handler runs, the job is not moved to a success under its claim."""
    refused = []

    def handle(error: Any, context: Any) -> None:
        try:
            executor.skip(context.job_id, "t1")
        except TaskNotSkippable as error_:
            refused.append(str(error_))

    declare(Failing(), error_handler=handle, success_handler=Recorder())
    job = executor.start_sequence("probe")
    executor.execute_task(job, "t1")
    executor.execute_task(job, "@error")

    assert len(refused) == 1
    assert "its error handler runs" in refused[0]
    assert job.refresh().status == "FAILED"
    executor.skip(job, "t1")
    assert job.refresh().status == "SUCCESSFUL"
    assert not job.is_settled


def test_a_retry_refuses_the_outcome_of_a_running_handler(declare: Declare, inbox: Inbox) -> None:
    """A handler that runs while a person retries the job ends for nothing, and the job goes on."""
    failing = Failing(times=1)

    def handle(error: Any, context: Any) -> str:
        executor.retry(context.job_id)
        return "too late"

    declare(failing, error_handler=handle)
    job = executor.start_sequence("probe")
    executor.execute_task(job, "t1")

    assert executor.execute_task(job, "@error").outcome == "LOST"
    assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"
    job.refresh()
    assert (job.status, job.error_result) == ("SUCCESSFUL", None)
