"""Users with exactly the permissions a test names, and the sequence that the rows speak of."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client
from django.urls import reverse

from django_tasks_seq import Retry, TaskSequence, TaskSpec, register_sequence, registry
from django_tasks_seq.models import Job
from tests.factories import PLAN


def give_back(payload):
    return payload


@pytest.fixture(autouse=True)
def shop() -> Iterator[TaskSequence]:
    """`fulfil_order`, each task with three attempts, and nothing else."""
    with registry.isolated(empty=True):
        specs = [TaskSpec(task_id, give_back, retry=Retry(3)) for task_id in PLAN]
        yield register_sequence(TaskSequence("fulfil_order", specs, version=3))


ClientFor = Callable[..., Client]


@pytest.fixture
def client_for(db: None) -> ClientFor:
    """`client_for("view_job", "retry_job")`: a browser of a staff member with these permissions."""

    def make(*codenames: str, name: str = "anna", **options: Any) -> Client:
        user = User.objects.create_user(name, is_staff=options.pop("is_staff", True), **options)
        for codename in codenames:
            app = "auth" if codename.endswith("_user") else "django_tasks_seq"
            user.user_permissions.add(
                Permission.objects.get(content_type__app_label=app, codename=codename)
            )
        client = Client(enforce_csrf_checks=False)
        client.force_login(user)
        return client

    return make


@pytest.fixture
def admin_client(client_for: ClientFor) -> Client:
    """A browser of a superuser named anna."""
    return client_for(is_superuser=True)


def list_url(query: str = "") -> str:
    return f"{reverse('admin:django_tasks_seq_job_changelist')}?{query}"


def page_url(job: Job, view: str = "change") -> str:
    return reverse(f"admin:django_tasks_seq_job_{view}", args=[job.pk])
