"""What people may do to a job in each status: what it writes, and what is refused and why."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User

from django_tasks_seq import (
    JobNotCancellable,
    JobNotFound,
    JobNotPausable,
    JobNotResumable,
    JobNotRetryable,
    Retry,
    TaskNotSkippable,
    TaskSpec,
    executor,
)
from django_tasks_seq.cache.changes import WorkerInfo
from django_tasks_seq.ids import uuid7
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, same, statuses
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db
Unchanged = Callable[[Job], Any]
STATUSES = ["READY", "WAITING", "RUNNING", "PAUSED", "SUCCESSFUL", "FAILED", "CANCELLED"]


@pytest.fixture
def in_status(declare: Declare) -> Callable[[str], Job]:
    """A job in this status, of two tasks, that stands (where it stands) before its second."""

    def make(status: str) -> Job:
        fails = Failing(times=0 if status == "SUCCESSFUL" else 1)
        retry = Retry(2, delay=1000, jitter=False) if status == "WAITING" else None
        declare(same, TaskSpec("t2", fails, retry=retry))
        order = Order.objects.create(number="1052")
        job: Job = executor.start_sequence("probe", "p", subject=order)
        drain()
        if status in ("READY", "RUNNING", "PAUSED", "CANCELLED"):
            executor.retry(job)
        if status == "RUNNING":
            executor.store().claim([], 1, 60, None)
        if status in ("PAUSED", "CANCELLED"):
            {"PAUSED": executor.pause, "CANCELLED": executor.cancel}[status](job)
        job.events.all().delete()
        assert job.refresh().status == status
        return job

    return make


CALLS: dict[str, Callable[[Job], Any]] = {
    "cancel": lambda job: executor.cancel(job, by="anna", reason="why"),
    "pause": lambda job: executor.pause(job, by="anna", reason="why"),
    "resume": lambda job: executor.resume(job, by="anna", reason="why"),
    "retry": lambda job: executor.retry(job, by="anna", reason="why"),
    "retry from": lambda job: executor.retry(job, from_task="t1", by="anna", reason="why"),
    "skip": lambda job: executor.skip(job, "t2", "given", by="anna", reason="why"),
}
# Verb, status before: status after, kind of the event.
ALLOWED = {
    ("cancel", "READY"): ("CANCELLED", "cancel"),
    ("cancel", "WAITING"): ("CANCELLED", "cancel"),
    ("cancel", "PAUSED"): ("CANCELLED", "cancel"),
    ("cancel", "RUNNING"): ("RUNNING", "cancel_requested"),
    ("pause", "READY"): ("PAUSED", "pause"),
    ("pause", "WAITING"): ("PAUSED", "pause"),
    ("pause", "RUNNING"): ("RUNNING", "pause_requested"),
    ("resume", "PAUSED"): ("READY", "resume"),
    ("retry", "FAILED"): ("READY", "retry"),
    ("retry", "CANCELLED"): ("READY", "retry"),
    ("retry from", "FAILED"): ("READY", "retry"),
    ("retry from", "CANCELLED"): ("READY", "retry"),
    ("retry from", "SUCCESSFUL"): ("READY", "retry"),
    ("skip", "READY"): ("SUCCESSFUL", "skip"),
    ("skip", "WAITING"): ("SUCCESSFUL", "skip"),
    ("skip", "PAUSED"): ("SUCCESSFUL", "skip"),
    ("skip", "FAILED"): ("SUCCESSFUL", "skip"),
}
REFUSED = [(verb, status) for verb in CALLS for status in STATUSES if (verb, status) not in ALLOWED]
ERRORS = {
    "cancel": JobNotCancellable,
    "pause": JobNotPausable,
    "resume": JobNotResumable,
    "retry": JobNotRetryable,
    "retry from": JobNotRetryable,
    "skip": TaskNotSkippable,
}


@pytest.mark.parametrize(("verb", "before"), ALLOWED)
def test_what_is_allowed_is_done_and_written_down(
    in_status: Callable[[str], Job], verb: str, before: str
) -> None:
    """The verb returns the job as it is then, and leaves one event with who, why, from and to."""
    after, kind = ALLOWED[verb, before]
    job = in_status(before)

    returned = CALLS[verb](job)

    assert returned == job
    assert returned.status == job.refresh().status == after
    event = job.events.get()
    assert (event.kind, event.by, event.reason) == (kind, "anna", "why")
    assert (event.status_before, event.status_after) == (before, after)
    assert (job.finished_at is not None) is job.is_final


@pytest.mark.parametrize(("verb", "status"), REFUSED)
def test_what_is_not_allowed_changes_nothing(
    in_status: Callable[[str], Job], unchanged: Unchanged, verb: str, status: str
) -> None:
    """The error says what the job is, of which subject, and that nothing was changed."""
    job = in_status(status)

    with unchanged(job), pytest.raises(ERRORS[verb]) as refused:
        CALLS[verb](job)

    text = str(refused.value)
    assert text.startswith("Order #1052 ")
    assert text.endswith("nothing was changed.")
    assert (refused.value.job, refused.value.status) == (job.id, status)


def test_the_message_for_a_running_job(in_status: Callable[[str], Job]) -> None:
    """It says who runs it, how long ago that worker was seen, and what to do."""
    job = in_status("READY")
    store = executor.store()
    worker = store.enter(WorkerInfo("vm:4103", "vm", 4103, (), 4))
    store.claim([], 1, 60, worker)
    advance(2)

    with pytest.raises(JobNotRetryable) as refused:
        executor.retry(job)

    assert str(refused.value) == (
        "Order #1052 is running on vm:4103 (heartbeat 2 s ago). Cancel it first or wait;"
        " nothing was changed."
    )


def test_the_message_for_a_successful_job(in_status: Callable[[str], Job]) -> None:
    """Retrying what has succeeded says how to run it again."""
    with pytest.raises(JobNotRetryable, match=r"has succeeded\. Give from_task= to run it again"):
        executor.retry(in_status("SUCCESSFUL"))


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize("unknown", [uuid7(), "nonsense", None])
def test_an_unknown_job_is_refused(verb: str, unknown: Any) -> None:
    """Every verb raises JobNotFound for what is no job."""
    with pytest.raises(JobNotFound, match="There is no job"):
        CALLS[verb](unknown)


def test_a_job_is_an_object_an_id_or_its_text(in_status: Callable[[str], Job]) -> None:
    """Verbs take a Job, a UUID or the text of it."""
    job = in_status("READY")

    for form in (job, job.id, str(job.id), job.id.hex):
        assert executor.pause(form) == job
        assert executor.resume(form) == job


def test_who_did_it_may_be_a_user(in_status: Callable[[str], Job]) -> None:
    """`by` takes a user or a text; long texts are cut to what the row holds."""
    job = in_status("READY")
    executor.pause(job, by=User(username="anna"), reason="r" * 2000)

    event = job.events.get()
    assert event.by == "anna"
    assert event.reason == "r" * 1000


# --- cancel


def test_a_request_can_be_made_by_force(in_status: Callable[[str], Job]) -> None:
    """`cancel(force=True)` ends a running job now, also one that was asked before."""
    job = in_status("RUNNING")
    executor.cancel(job)
    assert job.refresh().requested == "cancel"

    executor.cancel(job, force=True)

    job.refresh()
    assert (job.status, job.requested, job.lease_until) == ("CANCELLED", "", None)
    assert [e.kind for e in job.events.order_by("id")] == ["cancel_requested", "force_cancel"]
    assert statuses(job)["t2"] == "READY"


def test_a_cancel_is_not_turned_into_a_pause(
    in_status: Callable[[str], Job], unchanged: Unchanged
) -> None:
    """A running job that is to be cancelled cannot be paused; a pause can become a cancel."""
    job = in_status("RUNNING")
    executor.pause(job)
    executor.cancel(job)

    with unchanged(job), pytest.raises(JobNotPausable, match="is being cancelled"):
        executor.pause(job)


def test_a_pause_that_was_asked_can_be_taken_back(in_status: Callable[[str], Job]) -> None:
    """`resume` of a running job that is to be paused withdraws that."""
    job = in_status("RUNNING")
    executor.pause(job)
    executor.resume(job)

    assert job.refresh().requested == ""
    assert job.status == "RUNNING"


def test_a_cancelled_job_does_not_run(in_status: Callable[[str], Job]) -> None:
    """Nothing runs a cancelled job, however long one waits."""
    job = in_status("READY")
    executor.cancel(job)
    advance(hours=2)

    assert drain() == 0
    assert job.refresh().status == "CANCELLED"


# --- pause and resume


def test_a_paused_retry_keeps_its_time(in_status: Callable[[str], Job]) -> None:
    """A job that waited waits on after its resume, and is due when it would have been."""
    job = in_status("WAITING")
    due = job.run_after
    executor.pause(job)
    assert drain() == 0
    executor.resume(job)

    assert (job.refresh().status, job.run_after) == ("WAITING", due)
    executor.pause(job)
    advance(1001)
    assert drain() == 0
    executor.resume(job)
    assert job.refresh().status == "READY"
    drain()
    assert job.refresh().status == "SUCCESSFUL"
