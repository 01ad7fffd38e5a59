"""S24: whatever a project's routers say, jobs are read and written on the alias of `DATABASE` alone."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.checks import run_checks
from django.db import DEFAULT_DB_ALIAS, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_tasks_seq import Retry, TaskSpec, executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus, Worker
from django_tasks_seq.testing import advance, drain
from tests.admin.conftest import list_url, page_url
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, same
from tests.factories import JobFactory

pytestmark = pytest.mark.django_db(databases=["default", "jobs"])
Configure = Callable[..., None]
TABLES = [model._meta.db_table for model in (Job, TaskStatus, TaskAttempt, JobEvent, Worker)]


class Replica:
    """A router of a site with a replica: it reads everything there, and writes nowhere else."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "jobs"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


class Tenants:
    """A router that sends everything to another tenant's database."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "jobs"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "jobs"

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "jobs"


def ours(queries: CaptureQueriesContext) -> list[str]:
    """Statements about our tables."""
    return [one["sql"] for one in queries if any(table in one["sql"] for table in TABLES)]


@pytest.mark.parametrize("router", [Replica, Tenants])
@pytest.mark.parametrize("jobs", [DEFAULT_DB_ALIAS])
def test_a_jobs_life_is_on_one_alias(
    declare: Declare, inbox: Inbox, settings: Any, router: type, jobs: str
) -> None:
    """Starts, claims, outcomes, people's verbs and results ask no other database for a job."""
    settings.DATABASE_ROUTERS = [router()]
    declare(
        TaskSpec("t1", Failing(1), retry=Retry(2, delay=1)),
        lambda payload, context: dict(context.results),
        start_task_handler="django_tasks_seq.handlers.WorkerStartTaskHandler",
        name="worked",
    )
    ran: list[Any] = []
    declare(ran.append, ran.append, name="carried", success_handler=lambda result: None)
    with CaptureQueriesContext(connections["jobs"]) as elsewhere:
        worked = executor.start_sequence("worked", 7, idempotency_key="k")
        executor.start_sequence("worked", 7, idempotency_key="k")
        executor.start_many("carried", [1, 2])
        for _ in range(6):
            drain()
            inbox.consume()
            advance(5)
        executor.cancel(executor.pause(executor.retry(worked, from_task="t1"), by="anna"))
        found = executor.get_job(worked.pk)
        assert found.refresh().task_results() == {}
        assert [event.kind for event in found.events.all()] == ["retry", "pause", "cancel"]
        assert found.attempts.count() > 0
        assert Job.objects.failed().count() == 0

    assert ours(elsewhere) == []
    assert len(ran) == 4
    assert Job.objects.using("default").filter(status="SUCCESSFUL").count() == 2


@pytest.mark.parametrize("router", [Replica, Tenants])
def test_pages_are_read_from_one_alias(admin_client: Client, settings: Any, router: type) -> None:
    """What people see of a job, and act on, is never a copy that lags behind."""
    job = JobFactory.create(failed=True, history=2)
    warm = [list_url(), page_url(job), "/admin/django_tasks_seq/worker/"]
    for url in warm:
        admin_client.get(url)
    Spares.router = router()
    settings.DATABASE_ROUTERS = [Spares()]
    with CaptureQueriesContext(connections["jobs"]) as elsewhere:
        for url in warm:
            assert admin_client.get(url).status_code == 200
        assert admin_client.post(page_url(job, "retry")).status_code == 302

    assert ours(elsewhere) == []
    assert Job.objects.using("default").get().status == "READY"


class Spares:
    """Leaves users, sessions and the admin's log where they are: our tables are what is asked about."""

    router: Any = None

    def db_for_read(self, model: Any, **hints: Any) -> str | None:
        return self.router.db_for_read(model) if model._meta.db_table in TABLES else None

    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return self.router.db_for_write(model) if model._meta.db_table in TABLES else None


@pytest.mark.parametrize(
    ("router", "words"),
    [(Replica, "reads it from 'jobs'"), (Tenants, "writes it to 'jobs'")],
)
def test_a_router_that_sends_jobs_elsewhere_is_a_check_error(
    settings: Any, router: type, words: str
) -> None:
    """E006 names the model, and what to put first."""
    settings.DATABASE_ROUTERS = [router()]
    found = [error for error in run_checks() if error.id == "django_tasks_seq.E006"]

    assert len(found) == len(TABLES)
    assert all(words in error.msg for error in found)
    assert all("JobRouter" in str(error.hint) for error in found)


def test_our_router_in_front_is_enough(settings: Any) -> None:
    """With `JobRouter` first, no later router is asked."""
    settings.DATABASE_ROUTERS = ["django_tasks_seq.routers.JobRouter", Tenants()]
    settings.TASKS_SEQ = {"DATABASE": "default"}

    assert [error for error in run_checks() if error.id == "django_tasks_seq.E006"] == []


@pytest.mark.parametrize("alias", ["default", "jobs"])
def test_the_alias_is_never_taken_from_a_row_or_a_hint(
    declare: Declare, configure: Configure, alias: str
) -> None:
    """A subject that lives elsewhere takes no job with it."""
    configure(DATABASE=alias)
    declare(same)
    other = "jobs" if alias == "default" else "default"
    subject = JobFactory.build()
    subject._state.db = other
    job = executor.start_sequence("probe", subject=subject)
    drain()

    assert Job.objects.using(alias).get().pk == job.pk
    assert not Job.objects.using(other).exists()
