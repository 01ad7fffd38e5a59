"""S21: what happened stays told: only settled jobs of the age that was asked for are ever deleted."""

from typing import Any

import pytest
from django.contrib import admin
from django.core.management import CommandError, call_command
from django.test import Client
from django.utils import timezone

from django_tasks_seq.choices import FINAL, HandlerDue, JobStatus
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus, Worker
from tests.factories import JobEventFactory, JobFactory, TaskAttemptFactory, WorkerFactory, seconds

pytestmark = pytest.mark.django_db(databases="__all__")

OLD = 400 * 86_400.0


def jobs_of_every_kind(age: float) -> dict[str, Job]:
    """One job for each status, each with an event and an attempt."""
    jobs = {}
    for status in JobStatus.values:
        trait = {status.lower(): True} if status != "READY" else {}
        jobs[status] = JobFactory.create(age=age, took=1.0, **trait)
    for due in HandlerDue.values:
        jobs[due] = JobFactory.create(failed=True, age=age, took=1.0, handler_due=due)
    for job in jobs.values():
        JobEventFactory.create(job=job)
        TaskAttemptFactory.create(job=job)
    return jobs


def test_pruning_deletes_settled_jobs_alone() -> None:
    """However old: a job that waits, runs, stands still or owes a handler keeps all its rows."""
    old, young = jobs_of_every_kind(OLD), jobs_of_every_kind(60.0)
    call_command("tasks_seq", "prune", "--older-than=30d", verbosity=0)

    left = set(Job.objects.values_list("pk", flat=True))
    assert {name for name, job in old.items() if job.pk not in left} == set(FINAL)
    assert {job.pk for job in young.values()} <= left
    for model in (JobEvent, TaskAttempt):
        assert set(model.objects.values_list("job_id", flat=True)) == left


@pytest.mark.parametrize("status", ["RUNNING", "READY", "WAITING", "PAUSED", "all", ""])
def test_pruning_cannot_be_asked_for_what_is_alive(status: str) -> None:
    """A status that is not final is refused, and nothing is deleted."""
    jobs_of_every_kind(OLD)
    before = Job.objects.count()
    with pytest.raises((CommandError, SystemExit)):
        call_command("tasks_seq", "prune", f"--status={status}", "--older-than=1s", verbosity=0)

    assert Job.objects.filter(status__in=set(JobStatus.values) - set(FINAL)).count() == 4
    assert Job.objects.count() == before


def test_nothing_of_ours_is_deleted_through_the_admin(admin_client: Client) -> None:
    """Neither directly nor by cascade: deleting a worker is not offered, and a user's jobs stay."""
    jobs = jobs_of_every_kind(OLD)
    WorkerFactory.create()
    counts = [model.objects.count() for model in (Job, TaskStatus, TaskAttempt, JobEvent, Worker)]
    request: Any = admin_client.get("/admin/").wsgi_request
    for model in (Job, Worker):
        page = admin.site._registry[model]
        assert "delete_selected" not in page.get_actions(request)
        assert not page.has_delete_permission(request)
    user = request.user
    admin_client.post(f"/admin/auth/user/{user.pk}/delete/", {"post": "yes"})

    assert counts == [
        model.objects.count() for model in (Job, TaskStatus, TaskAttempt, JobEvent, Worker)
    ]
    assert all(job.refresh() for job in jobs.values())


def test_an_old_date_does_not_make_a_running_job_old() -> None:
    """A row whose times were forged is judged by its status: what runs is never pruned."""
    job = JobFactory.create(running=True)
    Job.objects.update(
        created_at=timezone.now() - seconds(OLD), started_at=timezone.now() - seconds(OLD)
    )
    call_command("tasks_seq", "prune", "--older-than=1s", verbosity=0)

    assert Job.objects.get().pk == job.pk
