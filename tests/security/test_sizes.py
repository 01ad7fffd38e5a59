"""S9, S10: large and many things cost little, or are refused with one kind of error before any SQL."""

import tracemalloc
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_tasks_seq import (
    InvalidPayload,
    SequenceDeclarationError,
    TaskSequence,
    TaskSpec,
    TasksSeqError,
    executor,
)
from django_tasks_seq.models import Job, JobEvent
from django_tasks_seq.testing import drain
from tests.admin.conftest import list_url, page_url
from tests.database.conftest import Declare
from tests.database.working import same
from tests.factories import JobFactory, TaskAttemptFactory, TaskStatusFactory

pytestmark = pytest.mark.django_db
Configure = Callable[..., None]
MEGABYTE = "x" * (1024 * 1024 - 20)


def heavy_job() -> Job:
    """A job with a megabyte in each field that may hold one."""
    job = JobFactory.create(
        failed=True, payload=MEGABYTE, result=MEGABYTE, error_result=MEGABYTE, error=MEGABYTE
    )
    TaskStatusFactory.create(job=job, successful=True, result=MEGABYTE, cursor=MEGABYTE)
    TaskStatusFactory.create(job=job, position=1, failed=True, error=MEGABYTE, payload=MEGABYTE)
    TaskAttemptFactory.create(
        job=job, task_id=job.plan[1], message=MEGABYTE, traceback=MEGABYTE, result=MEGABYTE
    )
    return job


# --- S9


def test_a_list_of_heavy_jobs_is_small(admin_client: Client) -> None:
    """At most 12 queries and 60 KB for three jobs that hold 30 MB; no blob is read."""
    for _ in range(3):
        heavy_job()
    with CaptureQueriesContext(connection) as queries:
        response = admin_client.get(list_url())

    assert len(queries) <= 12
    assert len(response.content) < 60_000
    for one in queries:
        assert '"payload"' not in one["sql"].split(" FROM ")[0]
        assert '"result"' not in one["sql"].split(" FROM ")[0]


def test_a_heavy_jobs_page_is_bounded(admin_client: Client) -> None:
    """Payload, result and traceback are cut; what is left is below half a megabyte."""
    job = heavy_job()
    response = admin_client.get(page_url(job))

    assert response.status_code == 200
    assert len(response.content) < 600_000


QUERIES = [
    "all=1",
    "p=99999999999999999999",
    "p=-1",
    "o=-1.2.3.4",
    "q=" + "%25" * 2000,
    "q=" + "a+" * 500,
    "status=" + "x" * 5000,
    "worker=" + "9" * 5000,
    "sequence=%00",
    "queue=%00",
    "status=%00",
    "created=%00",
    "worker=%00",
    "q=%00",
    "_changelist_filters=%00",
    "status__in=a,b",
    "payload__contains=x",
    "worker__name=x",
    "e=1",
]


def test_no_address_of_the_list_is_an_error_or_expensive(admin_client: Client) -> None:
    """Whatever is asked for is answered in a few queries, or leads back to the list."""
    JobFactory.create_batch(3)
    for query in QUERIES:
        with CaptureQueriesContext(connection) as queries:
            response = admin_client.get(list_url(query))

        assert response.status_code in {200, 302, 400}, query
        assert len(queries) <= 12, query


def test_fields_cannot_be_guessed_through_the_address(client_for: Any) -> None:
    """Who may not see payloads cannot find out by filtering what they hold."""
    secret, other = (JobFactory.create(payload={"pin": pin}) for pin in ("1234", "9876"))
    client = client_for("view_job")

    for query in (
        "payload__contains=1234",
        "payload__startswith=%7B",
        "q=1234",
        "result__isnull=1",
    ):
        html = client.get(list_url(query), follow=True).content.decode()
        assert (page_url(secret) in html) == (page_url(other) in html)
    assert client.get(list_url("payload__contains=9")).status_code == 400
    assert client.get(list_url("created_by=web+%2Fcheckout%2F")).status_code == 200


# --- S10

LIMITS: list[tuple[str, dict[str, Any]]] = [
    ("queue", {"queue": "q" * 101}),
    ("queue", {"queue": "a\0b"}),
    ("queue", {"queue": "\ud800"}),
    ("queue", {"queue": 7}),
    ("priority", {"priority": 101}),
    ("priority", {"priority": -101}),
    ("priority", {"priority": True}),
    ("priority", {"priority": 1.5}),
    ("idempotency_key", {"idempotency_key": "k" * 201}),
    ("idempotency_key", {"idempotency_key": ""}),
    ("idempotency_key", {"idempotency_key": "a\0b"}),
    ("run_after", {"run_after": datetime(2026, 1, 1)}),  # noqa: DTZ001 (what is refused)
    ("run_after", {"run_after": 60}),
    ("run_after", {"run_after": timedelta.max}),
    ("run_after", {"run_after": timedelta(days=400_000)}),
    ("run_after", {"run_after": datetime.max.replace(tzinfo=timezone(timedelta(hours=-14)))}),
    ("run_after", {"run_after": datetime.min.replace(tzinfo=timezone(timedelta(hours=14)))}),
    ("run_after", {"run_after": datetime(999, 1, 1, tzinfo=UTC)}),
    ("subject", {"subject": "Order 7"}),
]


@pytest.mark.parametrize(("name", "options"), LIMITS, ids=lambda value: repr(value)[:40])
def test_an_option_over_its_limit_is_a_value_error(
    declare: Declare, name: str, options: dict[str, Any]
) -> None:
    """It names the option; nothing was sent to the database."""
    declare(same)
    with CaptureQueriesContext(connection) as queries, pytest.raises(ValueError, match=name):
        executor.start_sequence("probe", **options)

    assert list(queries) == []


@pytest.mark.parametrize(
    "options",
    [
        {"queue": "q" * 100},
        {"queue": "'; DROP"},
        {"priority": 100},
        {"priority": -100},
        {"idempotency_key": "k" * 200},
        {"run_after": timedelta(days=-400_000)},
        {"run_after": timedelta.min},
        {"run_after": timedelta(days=36_000)},
        {"run_after": datetime(9999, 12, 31, tzinfo=UTC)},
        {"run_after": datetime(1000, 1, 1, tzinfo=UTC)},
        {"created_by": "x\0\ud800" * 1000},
    ],
    ids=lambda value: repr(value)[:40],
)
def test_an_option_at_its_limit_is_stored(declare: Declare, options: dict[str, Any]) -> None:
    """The last value that is allowed can be written and read."""
    declare(same)
    job = executor.start_sequence("probe", **options)
    drain()

    assert job.refresh().status in {"SUCCESSFUL", "WAITING"}


def nested(depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = [value]
    return value


BAD_PAYLOADS: list[Any] = [
    nested(201),
    nested(50_000),
    {"a": {"b": nested(300)}},
    "x" * (1024 * 1024),
    ["ü" * 600_000],
    float("nan"),
    "\0",
    "\ud800",
    {1: 2},
    (1, 2),
    10**5000,
    datetime(2026, 1, 1, tzinfo=UTC),
    object(),
    {"x": {1, 2}},
]


@pytest.mark.parametrize("payload", BAD_PAYLOADS, ids=lambda value: type(value).__name__)
@pytest.mark.parametrize("many", [False, True], ids=["one", "many"])
def test_a_payload_over_a_limit_is_refused(declare: Declare, payload: Any, many: bool) -> None:
    """One kind of error on every database, before any SQL; of many, none is started."""
    declare(same)
    start: Any = executor.start_many if many else executor.start_sequence
    given = [1, 2, payload] if many else payload
    with CaptureQueriesContext(connection) as queries, pytest.raises(InvalidPayload) as refused:
        start("probe", given)

    assert isinstance(refused.value, TasksSeqError)
    assert len(str(refused.value)) < 1000
    assert list(queries) == []


def test_payloads_at_the_limit_are_stored(declare: Declare) -> None:
    """200 levels, and a megabyte, go in and come out."""
    declare(same)
    for payload in (nested(200), "x" * (1024 * 1024 - 2)):
        job = executor.start_sequence("probe", payload)
        drain()
        assert job.refresh().result == payload


def test_the_limit_of_bytes_is_the_sites(declare: Declare, configure: Configure) -> None:
    """`MAX_PAYLOAD_BYTES` counts bytes, not characters, of payloads and of results."""
    configure(MAX_PAYLOAD_BYTES=20)
    declare(lambda payload: payload * 2)

    with pytest.raises(InvalidPayload):
        executor.start_sequence("probe", "ü" * 10)
    job = executor.start_sequence("probe", "ü" * 9)
    drain()
    assert job.refresh().status == "FAILED"
    assert "TaskResultError" in job.error


@pytest.mark.parametrize(
    "name", ["", " x", "x\n", "@x", "x" * 201, "a\0b", "a\u2028b", None, 7, "a:b"]
)
def test_names_are_checked_where_they_are_declared(name: Any) -> None:
    """A task id that could not be stored or shown on one line is refused with file and line."""
    with pytest.raises(SequenceDeclarationError):
        TaskSequence("probe", [TaskSpec(name, same)])


def test_a_sequence_has_at_most_a_thousand_tasks() -> None:
    """Longer ones are refused, the longest can be declared."""
    assert len(TaskSequence("long", [(f"t{n}", same) for n in range(1000)]).plan) == 1000
    with pytest.raises(SequenceDeclarationError, match="1000 at most"):
        TaskSequence("longer", [(f"t{n}", same) for n in range(1001)])


def test_a_flood_of_starts_needs_little_memory(declare: Declare) -> None:
    """5,000 jobs in one call: a statement for each 500, and less than 25 MB."""
    declare(same)
    counts = []

    def note(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        counts.append(sql)
        return execute(sql, params, many, context)

    tracemalloc.start()
    with connection.execute_wrapper(note):
        jobs = executor.start_many("probe", [{"n": n} for n in range(5000)])
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert len(jobs) == Job.objects.count() == 5000
    assert len(counts) <= 5000 / 500 + 4
    assert peak < 25 * 2**20


@pytest.mark.parametrize("verb", ["cancel", "pause", "resume", "retry", "skip"])
@pytest.mark.parametrize("text", ["a\0b", "\ud800", "x" * 5000, "a\nb\x1b[2K"], ids=repr)
def test_who_and_why_are_stored_whatever_they_hold(declare: Declare, verb: str, text: str) -> None:
    """Person and reason are cut, and freed of what a column does not take, on every database."""
    declare(same)
    traits: dict[str, Any] = {"resume": {"paused": True}, "retry": {"failed": True}}.get(verb, {})
    job = JobFactory.create(sequence="probe", plan=["t1"], **traits)
    arguments = ("t1",) if verb == "skip" else ()
    getattr(executor, verb)(job, *arguments, by=text, reason=text)

    event = JobEvent.objects.get()
    assert 1 <= len(event.by) <= 200
    assert 1 <= len(event.reason) <= 1000
    assert "\0" not in event.by + event.reason
