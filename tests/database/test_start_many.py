"""`start_many`: a job for each payload, all of them or none."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_tasks_seq import IdempotencyConflict, InvalidPayload, executor
from django_tasks_seq.cache.model.adding import BATCH
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.working import Inbox, count, same
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db


def inserts(queries: CaptureQueriesContext) -> int:
    return sum("INSERT" in query["sql"] for query in queries)


def test_a_job_for_each_payload_in_order(declare: Declare) -> None:
    """Jobs come back in the order of the payloads, and run."""
    declare(count)

    jobs = executor.start_many("probe", ({"n": n} for n in range(20)), priority=3)
    drain()

    assert [job.payload["n"] for job in jobs] == list(range(20))
    assert [job.refresh().result for job in jobs] == [{"n": n + 1} for n in range(20)]
    assert {job.priority for job in jobs} == {3}


def test_one_statement_for_each_batch(declare: Declare) -> None:
    """As many jobs as fit a batch are one INSERT, one more is a second."""
    declare(same)

    with CaptureQueriesContext(connection) as one:
        executor.start_many("probe", [None] * BATCH)
    with CaptureQueriesContext(connection) as two:
        jobs = executor.start_many("probe", [None] * (BATCH + 1))

    assert (inserts(one), inserts(two)) == (1, 2)
    assert len({job.id for job in jobs}) == BATCH + 1 == Job.objects.count() - BATCH


def test_no_payloads_are_no_jobs(declare: Declare, django_assert_num_queries: Any) -> None:
    """An empty list starts nothing and asks nothing."""
    declare(same)

    with django_assert_num_queries(0):
        assert executor.start_many("probe", []) == []


def test_subjects_and_keys_go_with_their_payloads(declare: Declare) -> None:
    """Each job gets the subject and the key of its place."""
    declare(same)
    orders = [Order.objects.create(number=str(n)) for n in range(3)]

    jobs = executor.start_many(
        "probe", [1, 2, 3], subjects=orders, idempotency_keys=["a", "b", "c"]
    )

    assert [str(job) for job in jobs] == ["Order #0", "Order #1", "Order #2"]
    assert [job.idempotency_key for job in jobs] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["subjects", "idempotency_keys"])
def test_lists_of_another_length_are_refused(declare: Declare, name: str) -> None:
    """As many subjects and keys as payloads, or nothing is started."""
    declare(same)
    start: Any = executor.start_many

    with pytest.raises(ValueError, match=f"{name} has 1 entries for 2 payloads. Nothing was"):
        start("probe", [1, 2], **{name: ["x"]})

    assert not Job.objects.exists()


HOSTILE = ['a "b"', "c\\d", "{e,f}", "NULL", "it's", " ", "é\n\t☃", "%s", "\\"]
TIMES = [
    None,
    timedelta(hours=1),
    timedelta(seconds=-1),
    datetime(2020, 1, 1, tzinfo=UTC),
    datetime(2100, 1, 1, tzinfo=timezone(timedelta(hours=5, minutes=30))),
]


@pytest.mark.parametrize("due", TIMES, ids=str)
def test_the_returned_jobs_are_what_the_rows_say(declare: Declare, due: Any) -> None:
    """Each returned job equals its row in every column, whatever stands in its texts."""
    declare(same)
    orders = [Order.objects.create(number=text) for text in HOSTILE]

    jobs = executor.start_many(
        "probe",
        [{text: [text, 1.5, None]} for text in HOSTILE],
        subjects=orders,
        idempotency_keys=HOSTILE,
        run_after=due,
        created_by=HOSTILE[0],
        priority=-5,
    )

    names = [field.attname for field in Job._meta.concrete_fields]
    rows = {row["id"]: row for row in Job.objects.values(*names)}
    assert [rows[job.id] for job in jobs] == [
        {name: getattr(job, name) for name in names} for job in jobs
    ]
    assert [job.payload for job in jobs] == [{text: [text, 1.5, None]} for text in HOSTILE]
    assert [job.idempotency_key for job in jobs] == HOSTILE


def test_a_bad_payload_names_its_place(declare: Declare, django_assert_num_queries: Any) -> None:
    """One bad payload among many: nothing is written, and the path begins with its place."""
    declare(same)
    payloads = [{"price": "1"}, {"price": Decimal(1)}]

    with django_assert_num_queries(0), pytest.raises(InvalidPayload) as refused:
        executor.start_many("probe", payloads)

    assert refused.value.path == "payloads[1]['price']"


def test_a_key_that_was_used_returns_the_first_job(declare: Declare) -> None:
    """Among new jobs those whose key started a job before come back as that job."""
    declare(same)
    first = executor.start_sequence("probe", 2, idempotency_key="b")

    jobs = executor.start_many("probe", [1, 2, 3], idempotency_keys=["a", "b", "c"])

    assert [job.was_started for job in jobs] == [True, False, True]
    assert jobs[1] == first
    assert Job.objects.count() == 3


def test_a_key_twice_in_one_call_is_one_job(declare: Declare) -> None:
    """The second payload under a key of the same call returns the job of the first."""
    declare(same)

    first, second = executor.start_many("probe", [1, 1], idempotency_keys=["a", "a"])

    assert first == second
    assert (first.was_started, second.was_started) == (True, False)


def test_a_conflict_starts_none_of_them(declare: Declare) -> None:
    """One key with another payload refuses all; those before it are not there either."""
    declare(same)
    executor.start_sequence("probe", "first", idempotency_key="b")

    with pytest.raises(IdempotencyConflict):
        executor.start_many("probe", ["x", "other"], idempotency_keys=["a", "b"])

    assert list(Job.objects.values_list("idempotency_key", flat=True)) == ["b"]


def test_all_wait_until_they_are_due(declare: Declare) -> None:
    """`run_after` holds for every job."""
    declare(same)

    jobs = executor.start_many("probe", [1, 2], run_after=timedelta(hours=1))

    assert {job.status for job in jobs} == {"WAITING"}


def test_carried_jobs_are_announced_each(
    declare: Declare, inbox: Inbox, django_capture_on_commit_callbacks: Any
) -> None:
    """More carried jobs than fit one query are all handed over after the commit."""
    declare(same)

    with django_capture_on_commit_callbacks(execute=True):
        executor.start_many("probe", range(BATCH + 1))

    assert [payload for _, _, payload in inbox.messages] == list(range(BATCH + 1))
