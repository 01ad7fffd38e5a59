"""Promise G10: running jobs meet a sequence that has changed, or is not known here, by a written rule."""

from collections.abc import Callable
from typing import Any

import pytest

from django_tasks_seq import TaskSpec, executor, registry
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.test_handlers import Recorder
from tests.database.working import Inbox, Seen, same, statuses

pytestmark = pytest.mark.django_db


def changed(declare: Declare, *tasks: Any, **options: Any) -> None:
    """The next release's declaration of the sequence."""
    forget()
    declare(*tasks, **options)


def forget() -> None:
    registry._sequences.pop("probe", None)


def test_an_unknown_sequence_is_given_back(declare: Declare) -> None:
    """A worker that does not know the sequence defers the job at no cost, with one event."""
    declare(same, version=2)
    job = executor.start_sequence("probe")
    forget()
    for _ in range(3):
        drain()
        assert job.refresh().status == "WAITING"
        advance(31)

    event = job.events.get()
    assert (event.kind, event.data) == ("unknown_task", {"sequence": "probe", "task_id": "t1"})
    assert not job.attempts.exists()
    assert statuses(job) == {}

    declare(same)
    drain()
    assert job.refresh().status == "SUCCESSFUL"
    assert job.task_statuses.get().attempts == 1
    assert job.unknown_since is None


def test_deferred_jobs_come_back_at_different_times(declare: Declare) -> None:
    """Jobs that were given back together are due again within 30 s, with jitter."""
    declare(same)
    jobs = executor.start_many("probe", range(20))
    forget()
    drain()

    dues = {(job.refresh().run_after - job.created_at).total_seconds() for job in jobs}
    assert len(dues) > 10
    assert max(dues) <= 31


def test_an_unknown_task_fails_after_the_grace(declare: Declare) -> None:
    """Only after UNKNOWN_TASK_GRACE does the job fail, with the way out in the message."""
    declare(("validate", same), ("book_courier", same), name="probe", version=2)
    job = executor.start_sequence("probe")
    errors = Recorder("alerted")
    changed(declare, ("validate", same), ("book_shipping", same), version=3, error_handler=errors)
    drain()
    assert job.refresh().status == "WAITING"
    assert statuses(job) == {"validate": "SUCCESSFUL"}
    advance(hours=1, seconds=1)
    drain()

    job.refresh()
    short = str(job.id)[-8:]
    assert job.status == "FAILED"
    assert job.error == (
        f"book_courier: SequenceChanged: job {short} was started with probe v2, whose task"
        " 'book_courier' no longer exists. Keep it as an alias"
        f' (TaskSpec(aliases=["book_courier"])), or run: tasks_seq cancel {short}'
    )
    ((error, _),) = errors.calls
    assert error.exception_class == "django_tasks_seq.exceptions.SequenceChanged"
    assert job.events.count() == 1


def test_the_grace_is_a_setting(declare: Declare, configure: Callable[..., None]) -> None:
    """`UNKNOWN_TASK_GRACE` says how long; the settings' error handler is told of a lost sequence."""
    errors = Recorder()
    configure(UNKNOWN_TASK_GRACE=100, ERROR_HANDLER=errors)
    declare(same)
    job = executor.start_sequence("probe")
    forget()
    for seconds in (50, 40, 50):
        drain()
        assert job.refresh().status == "WAITING"
        advance(seconds)
    drain()

    assert job.refresh().status == "FAILED"
    assert "a sequence that no longer exists" in job.error
    assert len(errors.calls) == 1
    assert job.is_settled


def test_a_failed_job_can_be_retried_by_the_release_that_knows(declare: Declare) -> None:
    """After the failure the job runs where its task is known again; the grace begins anew."""
    declare(same, ("old", same))
    job = executor.start_sequence("probe")
    changed(declare, same)
    drain()
    advance(hours=2)
    drain()
    assert job.refresh().status == "FAILED"

    executor.retry(job)
    drain()
    assert job.refresh().status == "WAITING"
    changed(declare, same, ("old", same))
    advance(31)
    drain()
    assert job.refresh().status == "SUCCESSFUL"


def test_a_consumer_defers_as_a_worker_does(declare: Declare, inbox: Inbox) -> None:
    """`execute_task` of an unknown task says so, gives it back, and fails it after the grace."""
    declare(same)
    job = executor.start_sequence("probe")
    forget()

    assert executor.execute_task(job, "t1").reason == "unknown_task"
    assert job.refresh().status == "WAITING"
    assert executor.execute_task(job, "t1").reason == "not_due"
    advance(hours=2)
    run = executor.execute_task(job, "t1")
    assert (run.ran, run.reason) == (False, "unknown_task")
    assert job.refresh().status == "FAILED"
    assert job.events.filter(kind="unknown_task").count() == 1


def test_a_handler_of_an_unknown_sequence_waits(declare: Declare, inbox: Inbox) -> None:
    """A process that does not know the sequence leaves its handler to one that does."""
    calls: list[Any] = []
    declare(same, success_handler=calls.append)
    job = executor.start_sequence("probe", 7)
    executor.execute_task(job, "t1")
    forget()

    assert executor.execute_task(job, "@success").reason == "unknown_task"
    assert not job.refresh().is_settled
    assert executor.execute_task(job, "@success").reason == "not_due"

    declare(same, success_handler=calls.append)
    advance(31)
    assert executor.execute_task(job, "@success").outcome == "SUCCESSFUL"
    assert calls == [7]
    assert job.refresh().is_settled


def test_a_worker_leaves_handlers_of_unknown_sequences(declare: Declare) -> None:
    """The same for a worker: the handler is run by the release that declares it."""
    recorder = Recorder(ConnectionError("mail"))
    declare(same, success_handler=recorder)
    job = executor.start_sequence("probe", 7)
    drain()
    forget()
    advance(minutes=2)
    drain()
    assert not job.refresh().is_settled
    assert job.events.get().data == {"sequence": "probe", "task_id": "@success"}

    declare(same, success_handler=recorder)
    advance(31)
    drain()
    assert [context.attempt for _, context in recorder.calls] == [1, 2]
    assert job.refresh().is_settled


# --- aliases and plans


def test_a_renamed_task_is_found_by_its_alias(declare: Declare) -> None:
    """A job started before the renaming runs the new task under its old id."""
    declare(same, ("charge", same), same)
    job = executor.start_sequence("probe", "p")
    charge, last = Seen("charged"), Seen()
    changed(declare, same, TaskSpec("charge_card", charge, aliases=["charge"]), ("t3", last))
    drain()

    assert job.refresh().status == "SUCCESSFUL"
    assert list(statuses(job)) == ["t1", "charge", "t3"]
    context = charge.contexts[0]
    assert (context.task_id, context.idempotency_key) == ("charge", f"{job.id}:charge")
    assert last.payloads == ["charged"]


def test_people_name_a_renamed_task_by_either_id(declare: Declare) -> None:
    """Skip and retry take the id that the task has now as well as the one in the job's plan."""
    declare(same, ("charge", same), same)
    job = executor.start_sequence("probe", "p")
    executor.skip(job, "t1", "first")
    renamed, last = Seen("again"), Seen()
    changed(declare, same, TaskSpec("charge_card", renamed, aliases=["charge"]), ("t3", last))

    executor.skip(job, "charge_card", "given")
    drain()
    assert (list(statuses(job)), last.payloads) == (["t1", "charge", "t3"], ["given"])

    executor.retry(job, from_task="charge_card")
    drain()
    assert (renamed.payloads, last.payloads) == (["first"], ["given", "again"])


def test_results_of_a_renamed_task_are_found_by_both_ids(declare: Declare) -> None:
    """New code asks for the new id, and finds what the old id's row has; and the reverse."""
    seen: list[Any] = []

    def look(payload: Any, context: Any) -> None:
        seen.append((context.results["charge"], context.results["charge_card"]))

    declare(("charge", Seen("charged")), look)
    executor.start_sequence("probe")
    changed(declare, TaskSpec("charge_card", Seen("new"), aliases=["charge"]), look)
    executor.start_sequence("probe")
    drain()

    assert seen == [("new", "new"), ("new", "new")]


def test_new_tasks_do_not_enter_running_jobs(declare: Declare) -> None:
    """A job runs the tasks it was started with, in their order, whatever the sequence has now."""
    declare(("a", same), ("b", same), ("c", same), version=1)
    job = executor.start_sequence("probe")
    order: list[str] = []

    def note(payload: Any, context: Any) -> None:
        order.append(context.task_id)

    changed(declare, ("c", note), ("new", note), ("b", note), ("a", note), version=2)
    drain()
    later = executor.start_sequence("probe")
    drain()

    assert order == ["a", "b", "c", "c", "new", "b", "a"]
    assert (job.version, job.plan) == (1, ["a", "b", "c"])
    assert (later.version, later.plan) == (2, ["c", "new", "b", "a"])
    assert {row.status for row in Job.objects.all()} == {"SUCCESSFUL"}


def test_a_removed_task_that_is_done_is_no_matter(declare: Declare) -> None:
    """What a job has behind it may leave the sequence."""
    declare(("a", Seen("done")), ("b", same))
    job = executor.start_sequence("probe")
    executor.skip(job, "a", "done")
    changed(declare, ("b", same))
    drain()

    assert job.refresh().result == "done"


def test_a_removed_task_can_be_skipped(declare: Declare) -> None:
    """A person can set aside a task that is gone, and the job goes on."""
    declare(("a", same), ("gone", same), ("b", same))
    job = executor.start_sequence("probe")
    changed(declare, ("a", same), ("b", same))
    drain()
    executor.skip(job, "gone", 1)
    drain()

    assert job.refresh().status == "SUCCESSFUL"
    assert job.result == 1
