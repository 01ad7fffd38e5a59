"""The mixins under another admin site, another `ModelAdmin`, another database."""

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.urls import reverse

from django_tasks_seq.admin import JobAdmin
from django_tasks_seq.models import Job, JobEvent
from tests.admin.conftest import list_url, page_url
from tests.factories import JobFactory, WorkerFactory

pytestmark = pytest.mark.django_db


@pytest.fixture
def ops(settings):
    settings.ROOT_URLCONF = "tests.admin.ops_urls"


def ops_url(view, *args):
    return reverse(f"ops:django_tasks_seq_job_{view}", args=args)


def test_the_mixins_work_with_the_model_admin_of_a_theme(ops, admin_client):
    """Combined with another `ModelAdmin`, both style sheets and both contexts are there."""
    job = JobFactory.create(failed=True, history=2)
    response = admin_client.get(ops_url("change", job.pk))

    html = response.content.decode()
    assert "/static/theme/theme.css" in html
    assert "/static/django_tasks_seq/admin.css" in html
    assert response.context["theme"] == "dark"
    assert "failed after 3 of 3 attempts" in html


def test_all_addresses_stay_inside_their_site(ops, admin_client):
    """Buttons, links of lists and the way back belong to the site that the page is part of."""
    job = JobFactory.create(failed=True, history=2)
    listed = admin_client.get(ops_url("changelist")).content.decode()
    page = admin_client.get(ops_url("change", job.pk)).content.decode()

    assert f'href="/ops/django_tasks_seq/job/{job.pk}/change/' in listed
    assert f'formaction="/ops/django_tasks_seq/job/{job.pk}/retry/"' in page
    assert "/admin/django_tasks_seq" not in listed + page
    assert admin_client.post(ops_url("retry", job.pk)).url == ops_url("change", job.pk)


def test_jobs_that_a_site_hides_cannot_be_changed_by_address(ops, admin_client):
    """A subclass that narrows the queryset narrows page, verbs and actions alike."""
    job = JobFactory.create(failed=True, history=2, queue="secret")

    assert admin_client.get(ops_url("changelist")).context["cl"].result_count == 0
    assert admin_client.get(ops_url("change", job.pk)).status_code == 302
    assert admin_client.post(ops_url("retry", job.pk)).status_code == 404
    data = {"action": "retry_selected", "_selected_action": [job.pk], "index": 0}
    admin_client.post(ops_url("changelist"), data)
    assert not JobEvent.objects.exists()


def test_a_subject_whose_admin_has_no_pages_is_plain_text(ops, admin_client):
    """An admin that took its pages away is no error on ours."""
    job = JobFactory.create(subject_type="auth.user", subject_id="7", subject_label="O7")

    assert "O7</dd>" in admin_client.get(ops_url("change", job.pk)).content.decode()


def test_workers_do_without_jobs(ops, admin_client):
    """On a site without jobs the number of jobs in hand is no link."""
    JobFactory.create(running=True, worker=WorkerFactory.create())
    html = admin_client.get("/workers/django_tasks_seq/worker/").content.decode()

    assert "1 job" in html
    assert "?worker=" not in html


@pytest.mark.django_db(databases=["default", "jobs"])
def test_jobs_in_a_database_of_their_own(admin_client, settings):
    """With `DATABASE` naming a second alias, pages and verbs work there; the log stays with users."""
    settings.TASKS_SEQ = {"DATABASE": "jobs"}
    job = JobFactory.create(failed=True, history=2)
    WorkerFactory.create()

    assert Job.objects.using("jobs").filter(pk=job.pk).exists()
    assert not Job.objects.using("default").filter(pk=job.pk).exists()
    assert admin_client.get(list_url()).context["cl"].result_count == 1
    assert admin_client.get("/admin/django_tasks_seq/worker/").status_code == 200
    assert "failed after 3 of 3 attempts" in admin_client.get(page_url(job)).content.decode()

    admin_client.post(page_url(job, "retry"), {"reason": "again"})
    job.refresh_from_db(using="jobs")
    assert job.status == "READY"
    assert LogEntry.objects.using("default").count() == 1


def test_a_column_can_be_shown_elsewhere():
    """A job whose standing was not loaded with a list loads it by itself."""
    job = Job.objects.get(pk=JobFactory.create(failed=True, history=2).pk)

    assert "reserve_stock" in JobAdmin(Job, admin.site).why_column(job)
