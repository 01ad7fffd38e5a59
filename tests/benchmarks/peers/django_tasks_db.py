"""django-tasks-db: each task enqueues the next; its worker runs one task at a time."""

# mypy: disable-error-code="import-not-found, no-redef"

from __future__ import annotations

import uuid
from typing import Any, Final
from urllib.parse import urlsplit

import django
from django.conf import settings
from django.core.management import call_command

from tests.benchmarks.peers import driving

url = urlsplit(driving.database_url())
settings.configure(
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": url.path.removeprefix("/"),
            "USER": url.username,
            "PASSWORD": url.password or "",
            "HOST": url.hostname,
            "PORT": url.port,
            # The worker closes old connections around each task: with 0 it would connect anew.
            "CONN_MAX_AGE": None,
        }
    },
    INSTALLED_APPS=["django_tasks_db"],
    TASKS={"default": {"BACKEND": "django_tasks_db.DatabaseBackend"}},
    USE_TZ=True,
)
django.setup()

from django_tasks_db.models import DBTaskResult  # noqa: E402 (needs the settings)

try:
    from django.tasks import task
except ImportError:  # Django 5.2
    from django_tasks import task

SUCCESSFUL: Final = "SUCCESSFUL"


@task()
def step(job: str, payload: driving.Payload) -> driving.Payload:
    """One task; the job's id is for whoever waits for the last."""
    result = driving.noop(payload)
    if result["count"] < driving.TASKS:
        step.enqueue(job, result)
    return result


def prepare() -> None:
    """The tables."""
    call_command("migrate", verbosity=0)


def queue(jobs: int) -> None:
    """Start that many jobs."""
    for _ in range(jobs):
        _start()


def work(jobs: int) -> dict[str, float]:
    """One worker until nothing is left."""
    used = driving.ProcessorTime()
    _work(batch=True)
    return used.spent()


def serve() -> None:
    """One worker until SIGTERM."""
    _work(batch=False)


def start(starts: int) -> dict[str, float]:
    """Start jobs one by one."""
    return driving.starts_a_second(_start, starts)


def latency(jobs: int, warm_up: int) -> dict[str, list[float]]:
    """One job at a time."""

    def ended_at(job: str) -> float | None:
        ends = DBTaskResult.objects.filter(
            status=SUCCESSFUL,
            args_kwargs__args__0=job,
            return_value__count=driving.TASKS,
        ).values_list("finished_at", flat=True)
        return ends[0].timestamp() if ends else None

    return driving.latencies(_start, ended_at, jobs, warm_up)


def outcome() -> dict[str, Any]:
    """The return values are the results."""
    rows = list(DBTaskResult.objects.filter(status=SUCCESSFUL).order_by("started_at"))
    results = [row.return_value for row in rows]
    jobs = {
        row.args_kwargs["args"][0] for row in rows if row.return_value["count"] == driving.TASKS
    }
    began = rows[0].started_at.timestamp()
    return driving.outcome(
        len(jobs), results, began, max(row.finished_at for row in rows).timestamp()
    )


def _start() -> str:
    job = str(uuid.uuid4())
    step.enqueue(job, driving.first())
    return job


def _work(*, batch: bool) -> None:
    call_command(
        "db_worker",
        verbosity=0,
        interval=driving.POLL,
        batch=batch,
        reload=False,
        startup_delay=False,
    )
