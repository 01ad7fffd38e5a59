"""Starting a job: what the row says, and what is refused before anything is written."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.utils import timezone

from django_tasks_seq import InvalidPayload, UnknownSequence, executor
from django_tasks_seq.models import Job, JobEvent, TaskStatus
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import count, same
from tests.testapp.models import Order

pytestmark = pytest.mark.django_db


def test_a_start_is_one_row(declare: Declare) -> None:
    """A job that was started is READY, with its plan and payload, and nothing else is written."""
    declare(same, count, name="two", version=3)

    job = executor.start_sequence("two", {"n": 1})

    assert isinstance(job.id, UUID)
    assert job.was_started
    row = Job.objects.get()
    assert (row.id, row.sequence, row.version, row.plan) == (job.id, "two", 3, ["t1", "t2"])
    assert (row.status, row.payload, row.queue, row.priority) == ("READY", {"n": 1}, "default", 0)
    assert not row.carried
    assert not TaskStatus.objects.exists()
    assert not JobEvent.objects.exists()


def test_the_returned_job_is_what_the_row_says(declare: Declare) -> None:
    """The job that a start returns equals the row in every column, before it is read again."""
    declare(same)
    order = Order.objects.create(number="1051")
    job = executor.start_sequence(
        "probe",
        {"n": [1.5]},
        queue="mail",
        priority=7,
        run_after=timedelta(hours=1),
        idempotency_key="k",
        subject=order,
        created_by="anna",
    )

    names = [field.attname for field in Job._meta.concrete_fields]
    returned = {name: getattr(job, name) for name in names}

    assert Job.objects.values(*names).get() == returned
    assert job.refresh() is job


def test_a_sequence_is_its_name_or_the_object(declare: Declare) -> None:
    """`start_sequence` takes the registered sequence itself as well as its name."""
    sequence = declare(same)

    assert executor.start_sequence(sequence).sequence == "probe"


def test_an_unknown_sequence_is_refused_with_a_suggestion(
    declare: Declare, django_assert_num_queries: Any
) -> None:
    """A misspelt name raises UnknownSequence, which names the right one; no query is made."""
    declare(same, name="fulfil_order_now")
    message = r"No sequence named 'fulfil_ordr_now'. Did you mean 'fulfil_order_now'\?"

    with django_assert_num_queries(0), pytest.raises(UnknownSequence, match=message):
        executor.start_sequence("fulfil_ordr_now")


def test_a_subject_is_kept_for_people(declare: Declare) -> None:
    """Model label, id and text of the subject are kept, and jobs are found by it, newest first."""
    declare(same)
    order, other = Order.objects.create(number="1051"), Order.objects.create(number="1")
    first, second = (executor.start_sequence("probe", subject=order) for _ in range(2))
    executor.start_sequence("probe", subject=other)

    assert (first.subject_type, first.subject_id) == ("testapp.order", str(order.pk))
    assert str(first) == "Order #1051"
    assert list(Job.objects.for_subject(order)) == [second, first]


def test_who_started_it_is_kept(declare: Declare) -> None:
    """`created_by` takes a user or a text, cut at 200 characters."""
    declare(same)

    job = executor.start_sequence("probe", created_by=User(username="anna"))
    long = executor.start_sequence("probe", created_by="x" * 300)

    assert (job.created_by, len(long.created_by)) == ("anna", 200)


def test_the_queue_is_the_settings_one_unless_given(
    declare: Declare, configure: Callable[..., None]
) -> None:
    """`DEFAULT_QUEUE` holds where a start names no queue."""
    declare(same)
    configure(DEFAULT_QUEUE="slow")

    assert executor.start_sequence("probe").queue == "slow"
    assert executor.start_sequence("probe", queue="mail").queue == "mail"


# --- when


def test_a_timedelta_is_added_by_the_database(declare: Declare) -> None:
    """A job with a timedelta waits, and is due that long after the database's now."""
    declare(same)
    job = executor.start_sequence("probe", run_after=timedelta(minutes=10))

    assert job.status == "WAITING"
    assert job.run_after - job.created_at == pytest.approx(
        timedelta(minutes=10), abs=timedelta(seconds=1)
    )
    drain()
    assert job.refresh().status == "WAITING"
    advance(minutes=10, seconds=1)
    drain()
    assert job.refresh().status == "SUCCESSFUL"


def test_an_aware_datetime_is_when_it_is_due(declare: Declare) -> None:
    """A job with an aware datetime of any time zone waits until then."""
    declare(same)
    zone = timezone.get_fixed_timezone(330)
    due = (datetime.now(tz=UTC) + timedelta(hours=2)).astimezone(zone)

    job = executor.start_sequence("probe", run_after=due)

    assert (job.status, job.run_after) == ("WAITING", due)
    assert Job.objects.get().run_after == due
    advance(hours=2)
    drain()
    assert job.refresh().status == "SUCCESSFUL"


@pytest.mark.parametrize(
    "past", [datetime(2020, 1, 1, tzinfo=UTC), timedelta(seconds=-5), timedelta(0)]
)
def test_what_was_due_in_the_past_is_ready(declare: Declare, past: Any) -> None:
    """A time that has passed makes a job READY at once."""
    declare(same)

    assert executor.start_sequence("probe", run_after=past).status == "READY"


@pytest.mark.parametrize("wrong", [datetime(2030, 1, 1), 5, "2030-01-01"])  # noqa: DTZ001
def test_a_time_that_is_none_is_refused(
    declare: Declare, wrong: Any, django_assert_num_queries: Any
) -> None:
    """A naive datetime, a number or a text is refused, and the message says what to give."""
    declare(same)

    with django_assert_num_queries(0), pytest.raises(ValueError, match="give an aware datetime"):
        executor.start_sequence("probe", run_after=wrong)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"priority": 101}, "from -100 to 100"),
        ({"priority": 1.5}, "from -100 to 100"),
        ({"priority": True}, "from -100 to 100"),
        ({"queue": "q" * 101}, "queue is .*1 to 100 characters"),
        ({"idempotency_key": ""}, "idempotency_key is '': give a text of 1 to 200"),
        ({"idempotency_key": "k" * 201}, "idempotency_key is"),
        ({"idempotency_key": "a\0b"}, "cannot be stored"),
        ({"subject": Order(number="unsaved")}, "give a saved model instance"),
        ({"subject": "order 7"}, "give a saved model instance"),
    ],
)
def test_a_wrong_option_is_refused_before_any_sql(
    declare: Declare, options: dict[str, Any], message: str, django_assert_num_queries: Any
) -> None:
    """What an option cannot be is refused with its name, and nothing is written."""
    declare(same)

    with django_assert_num_queries(0), pytest.raises(ValueError, match=message) as refused:
        executor.start_sequence("probe", **options)

    assert str(refused.value).endswith("Nothing was started.")


# --- payloads


BAD = [
    ({"lines": [0, 1, {"price": Decimal("4.90")}]}, r"payload['lines'][2]['price']"),
    ({"rate": float("nan")}, "payload['rate']"),
    ({"rate": [float("inf")]}, "payload['rate'][0]"),
    ({"note": "a\0b"}, "payload['note']"),
    ({"note": {"text": "\ud800"}}, "payload['note']['text']"),
    ({"blob": "x" * 2 * 1024 * 1024}, "payload['blob']"),
    ({"when": datetime(2030, 1, 1, tzinfo=UTC)}, "payload['when']"),
    ({7: "seven"}, "payload"),
    ({"pair": (1, 2)}, "payload['pair']"),
]


@pytest.mark.parametrize(("payload", "path"), BAD)
def test_a_bad_payload_is_refused_before_any_sql(
    declare: Declare, payload: Any, path: str, django_assert_num_queries: Any
) -> None:
    """What JSON cannot hold is refused with its path in the message; no query is made."""
    declare(same)

    with django_assert_num_queries(0), pytest.raises(InvalidPayload) as refused:
        executor.start_sequence("probe", payload)

    assert refused.value.path == path
    assert path in str(refused.value)
    assert str(refused.value).endswith("Nothing was started.")


def test_a_bad_payload_leaves_the_transaction_usable(declare: Declare) -> None:
    """After a refused start the caller's transaction goes on, and a good start succeeds."""
    declare(same)

    with pytest.raises(InvalidPayload):
        executor.start_sequence("probe", {"price": Decimal(1)})

    assert not connection.needs_rollback
    executor.start_sequence("probe", {"price": "1"})
    assert Job.objects.count() == 1


def test_no_payload_is_none(declare: Declare) -> None:
    """A start without payload gives the first task None, and keeps NULL."""
    received: list[Any] = []
    declare(received.append)

    executor.start_sequence("probe")
    drain()

    assert received == [None]
    assert Job.objects.filter(payload__isnull=True).exists()
