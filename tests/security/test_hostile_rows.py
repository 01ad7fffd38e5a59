"""Rows that another writer of the database has spoilt: they harm their own job, and nobody else's."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client

from django_tasks_seq import executor
from django_tasks_seq.models import Job, TaskStatus
from django_tasks_seq.testing import advance, drain
from tests.admin.conftest import list_url, page_url
from tests.database.conftest import Declare
from tests.database.working import Inbox, same
from tests.factories import JobFactory, TaskStatusFactory

pytestmark = pytest.mark.django_db
Configure = Callable[..., None]

# Columns of a job, and what another writer may put there although no code of ours would.
SPOILT: list[tuple[str, Any]] = [
    *(
        ("plan", text)
        for text in ("", "{nonsense", "null", "7", "{}", '{"a": 1}', "[1, 2]", "[[]]", "[]")
    ),
    *(("plan", text) for text in ('["t1", "t1"]', '["@error"]', '["\\u0000"]', '["\\ud800"]')),
    *(("payload", text) for text in ("", "{nonsense", "NaN", '"\\ud800"', "[" * 100_000)),
    *(("verdicts", text) for text in ("{nonsense", "[]", "7", '{"RetryJob": "x"}')),
    *(("requested", text) for text in ("evil", "__class__")),
    *(("sequence", text) for text in ("", "os.system")),
    *(("queue", text) for text in ("", "*", "'; --")),
    ("version", 0),
    ("claim_token", 2**62),
    ("suspect", True),
]
HANDLERS = ["evil", "os.system", "SUCCESS"]


def spoil(job: Job, column: str, value: Any) -> None:
    with connection.cursor() as cursor:
        cursor.execute(
            f"UPDATE {Job._meta.db_table} SET {column} = %s WHERE id = %s",
            [value, job.pk if connection.features.has_native_uuid_field else job.pk.hex],
        )


def status_of(job: Job) -> str:
    return str(Job.objects.values_list("status", flat=True).get(pk=job.pk))


def work(inbox: Inbox | None = None) -> None:
    """A worker's, and a consumer's, life of a few hours."""
    for _ in range(4):
        drain()
        if inbox is not None:
            inbox.consume()
        advance(hours=2)


def start_spoilt(declare: Declare) -> list[tuple[Job, str, Any]]:
    """A job for each way to spoil it."""
    declare(same, error_handler=lambda error: None, success_handler=lambda result: None)
    jobs = executor.start_many("probe", [{"n": n} for n in range(len(SPOILT))], priority=1)
    for job, (column, value) in zip(jobs, SPOILT, strict=True):
        spoil(job, column, value)
    return [(job, *how) for job, how in zip(jobs, SPOILT, strict=True)]


@pytest.mark.parametrize("carried", [False, True], ids=["worker", "carried"])
@pytest.mark.django_db(transaction=True)
def test_a_spoilt_job_harms_no_other(
    declare: Declare, inbox: Inbox, configure: Configure, carried: bool
) -> None:
    """Whoever claims, rescues or sweeps it goes on, and runs the job behind it; it ends, too."""
    if not carried:
        configure(START_TASK_HANDLER="django_tasks_seq.handlers.WorkerStartTaskHandler")
    spoilt = start_spoilt(declare)
    canary = executor.start_sequence("probe", {"n": 2})
    work(inbox)

    assert canary.refresh().status == "SUCCESSFUL"
    left = [
        (status_of(job), *how)
        for job, *how in spoilt
        if status_of(job) not in {"SUCCESSFUL", "FAILED"}
    ]
    assert left == []


@pytest.mark.parametrize("carried", [False, True], ids=["worker", "carried"])
@pytest.mark.django_db(transaction=True)
def test_a_handler_that_nobody_knows_harms_no_other(
    declare: Declare, inbox: Inbox, configure: Configure, carried: bool
) -> None:
    """A final job that says it has such a handler is looked at, and others are run."""
    if not carried:
        configure(START_TASK_HANDLER="django_tasks_seq.handlers.WorkerStartTaskHandler")
    declare(same)
    facts: dict[str, Any] = {"sequence": "probe", "plan": ["t1"], "carried": carried}
    if carried:
        facts["resend_at"] = "2026-01-01T00:00:00Z"
    for handler in HANDLERS:
        JobFactory.create(failed=True, handler_due=handler, **facts)
    canary = executor.start_sequence("probe")
    work(inbox)

    assert canary.refresh().status == "SUCCESSFUL"


@pytest.mark.parametrize("status", ["RUNNING", "FAILED"])
def test_a_spoilt_job_of_a_dead_worker_harms_no_other(declare: Declare, status: str) -> None:
    """It is taken up when its lease ends, and so is the one behind it."""
    declare(same)
    facts = {"sequence": "probe", "plan": ["t1"]}
    traits = {"running": True} if status == "RUNNING" else {"failed": True, "handler_due": "error"}
    for column, value in SPOILT:
        spoil(JobFactory.create(**traits, **facts), column, value)
    lost = JobFactory.create(running=True, **facts)
    work()

    assert lost.refresh().status == "SUCCESSFUL"


def test_a_spoilt_job_does_not_take_the_pages_down(admin_client: Client, declare: Declare) -> None:
    """The list shows it beside the others, it has a page, and can be cancelled."""
    spoilt = start_spoilt(declare)

    assert admin_client.get(list_url()).status_code == 200
    for job, *how in spoilt:
        for view in ("change", "history"):
            assert admin_client.get(page_url(job, view)).status_code == 200, how
        admin_client.post(page_url(job, "retry-all"))
        assert admin_client.post(page_url(job, "cancel")).status_code == 302, how
        assert status_of(job) == "CANCELLED", how


@pytest.mark.parametrize("column", ["result", "progress", "cursor", "payload"])
def test_a_spoilt_task_does_not_take_the_pages_down(admin_client: Client, column: str) -> None:
    """Nor does one of its tasks' rows."""
    job = JobFactory.create(running=True)
    TaskStatusFactory.create(job=job, running=True, attempts=1)
    for value in ("{nonsense", "[]", "7", "null", '{"done": [1], "total": {}}', '"\\ud800"'):
        with connection.cursor() as cursor:
            cursor.execute(f"UPDATE {TaskStatus._meta.db_table} SET {column} = %s", [value])
        for url in (list_url(), page_url(job)):
            assert admin_client.get(url).status_code == 200, value
