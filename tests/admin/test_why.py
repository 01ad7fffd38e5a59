import re
from datetime import timedelta

import pytest
from django.utils import timezone

from django_tasks_seq.admin.standing import standing_of
from django_tasks_seq.admin.why import progress_text, why
from django_tasks_seq.choices import HandlerDue, Requested, TaskState
from django_tasks_seq.models import Job
from tests.factories import ERROR, JobFactory, TaskStatusFactory, WorkerFactory

pytestmark = pytest.mark.django_db


def told(job: Job) -> tuple[str, str, str, str]:
    found = why(standing_of(Job.objects.select_related("worker").get(pk=job.pk)))
    return found.task_id, found.text, found.tone, found.note


def ago(seconds: float):
    return timezone.now() - timedelta(seconds=seconds)


def test_a_running_task_tells_its_progress_and_how_long_it_runs():
    """A running job names its task, what it reported, and since when it runs."""
    job = JobFactory.create(running=True)
    progress = {"done": 4, "total": 6, "message": "resizing"}
    TaskStatusFactory.create(job=job, running=True, started_at=ago(12.5), progress=progress)

    task_id, text, tone, note = told(job)
    assert (task_id, tone, note) == ("validate_order", "", "")
    assert text.startswith("4/6 resizing for 12.")


def test_a_short_task_runs_without_a_row():
    """A task too short for a row is still named as the one that runs."""
    job = JobFactory.create(running=True)

    assert told(job) == ("validate_order", "", "", "")
    current = standing_of(job).current
    assert current is not None
    assert current.status == TaskState.RUNNING


@pytest.mark.parametrize(
    ("requested", "words"),
    [(Requested.CANCEL, "asked to cancel"), (Requested.PAUSE, "asked to pause")],
)
def test_what_was_requested_of_a_running_job_is_told(requested, words):
    """A running job that was asked to stop says what it was asked."""
    job = JobFactory.create(running=True, requested=requested, history=1)

    assert words in told(job)[3]


def test_a_job_of_a_dead_worker_names_it():
    """A job whose lease has ended is told with its worker, as something to look at."""
    worker = WorkerFactory.create(name="web-2:3990", dead=True)
    job = JobFactory.create(running=True, worker=worker, lease_until=ago(12), history=1)

    task_id, text, tone, _ = told(job)
    assert (task_id, tone) == ("charge_card", "warning")
    assert text.startswith("lease of worker web-2:3990 ended 12.")


def test_a_lease_without_a_worker_is_told_too():
    """A consumer has no worker row; its ended lease is told all the same."""
    job = JobFactory.create(running=True, worker=None, lease_until=ago(12))

    assert told(job)[1].startswith("its lease ended 12.")


def test_a_retry_tells_its_number_and_when_it_is_due():
    """A job that waits for its next attempt says which of how many, and when."""
    job = JobFactory.create(waiting=True, history=2)

    task_id, text, *_ = told(job)
    assert task_id == "reserve_stock"
    assert re.fullmatch(r"retry 2 of 3 in 4[45]\.\d s", text)


def test_a_retry_of_an_unknown_sequence_leaves_the_limit_out():
    """When the sequence is not registered here, nobody knows how many attempts it allows."""
    job = JobFactory.create(waiting=True, history=2, sequence="gone")

    assert re.fullmatch(r"retry 2 in 4[45]\.\d s", told(job)[1])


def test_a_retry_that_is_due_says_that_no_worker_took_it():
    """A retry whose time has come waits for a worker."""
    job = JobFactory.create(waiting=True, history=2, run_after=ago(3))

    assert told(job)[1] == "retry 2 is due, no worker has taken it yet"


def test_a_late_start_tells_when():
    """A job that was started for later says when it begins."""
    job = JobFactory.create(waiting=True)

    assert re.fullmatch(r"starts in 4[45]\.\d s", told(job)[1])
    assert told(JobFactory.create(waiting=True, run_after=ago(3)))[1].startswith("is due")


def test_a_persons_retry_begins_a_new_count():
    """Attempts before a person's retry do not count against the new budget."""
    job = JobFactory.create(waiting=True)
    TaskStatusFactory.create(job=job, waiting=True, attempts=4, budget_start=3)

    assert told(job)[1].startswith("retry 2 of 3 in")


@pytest.mark.parametrize("queues", ["mail", "default_2, mail"])
def test_a_queue_that_nobody_serves_is_named(queues):
    """A ready job on a queue without a living worker says so, loudly."""
    WorkerFactory.create(queues=queues)
    WorkerFactory.create(queues="default", dead=True)
    WorkerFactory.create(queues="", stopped=True)
    WorkerFactory.create(queues="", draining_now=True)

    task_id, text, tone, _ = told(JobFactory.create())
    assert (task_id, tone) == ("validate_order", "warning")
    assert text == "waiting for a worker: none is running on queue default"


@pytest.mark.parametrize("queues", ["", "mail, default"])
def test_a_served_queue_waits_for_a_free_worker(queues):
    """With a living worker on its queue, or on all, a ready job waits for it to be free."""
    WorkerFactory.create(queues=queues)

    assert told(JobFactory.create())[1:3] == ("waiting for a free worker", "")


def test_a_carried_job_waits_for_its_consumer():
    """A job that a carrier brings elsewhere needs no worker of ours."""
    assert told(JobFactory.create(carried=True))[1].startswith("handed to its carrier")


def test_a_failed_job_tells_task_and_error():
    """A failed job names the task and the error, without naming the task twice."""
    job = JobFactory.create(failed=True, history=2, error=f"reserve_stock: {ERROR}")

    assert told(job) == ("reserve_stock", ERROR, "error", "")


def test_a_job_that_failed_before_any_task_tells_its_error():
    """A job can fail without a failed task, as one whose sequence has changed."""
    job = JobFactory.create(failed=True, error="SequenceChanged: gone")

    assert told(job) == ("", "SequenceChanged: gone", "error", "")


def test_paused_and_cancelled_jobs_tell_where_they_stand():
    """A stopped job names the task it stands before."""
    assert told(JobFactory.create(paused=True))[:2] == ("validate_order", "paused before this task")
    cancelled = told(JobFactory.create(cancelled=True, history=3))
    assert cancelled[:2] == ("make_invoice_pdf", "cancelled before this task")


def test_a_successful_job_has_nothing_to_say():
    """A job that succeeded and is settled says nothing."""
    assert told(JobFactory.create(successful=True, history=7)) == ("", "", "", "")


def test_a_handler_that_is_due_or_gave_up_is_told():
    """A final job tells what is still due, and what its handler could not do."""
    due = JobFactory.create(successful=True, history=7, handler_due=HandlerDue.SUCCESS)
    gave_up = JobFactory.create(failed=True, history=2, handler_error="error: OSError: no mail")

    assert told(due)[3] == "Success handler is due"
    assert told(gave_up)[3] == "a handler gave up: error: OSError: no mail"


@pytest.mark.parametrize(
    ("progress", "text"),
    [
        (None, ""),
        ({}, ""),
        ([1, 2], ""),
        ({"done": 4, "total": 6}, "4/6"),
        ({"done": 4, "total": None, "message": ""}, "4"),
        ({"done": 1, "total": 2, "message": "a\nb"}, "1/2 a b"),
    ],
)
def test_progress_is_one_line(progress, text):
    """What a task reported is one line, and what is no report is nothing."""
    assert progress_text(progress) == text
