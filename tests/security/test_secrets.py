"""S7: a planted secret appears nowhere but where it belongs."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.dispatch import Signal
from django.test import Client

from django_tasks_seq import Retry, TaskSpec, executor, signals
from django_tasks_seq.errors_text import describe_exception
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from django_tasks_seq.payloads import MASK, secrets_in
from django_tasks_seq.testing import advance, drain
from tests.admin.conftest import list_url, page_url
from tests.database.conftest import Declare
from tests.database.working import Inbox

pytestmark = pytest.mark.django_db
ClientFor = Callable[..., Client]
Heard = Callable[[Signal], list[dict[str, Any]]]

CANARY = "cuckoo-4f1c'\"\\\n-ü-9d"
PAYLOAD = {
    "order_id": 7,
    "password": CANARY,
    "customer": {"api_key": CANARY, "cards": [{"Card_Number": CANARY}]},
}


def leaks(text: object) -> bool:
    return "cuckoo" in str(text) or "-ü-9d" in str(text)


def tells_all(payload: Any, context: Any) -> Any:
    """A careless task: what it was given stands in its message, its cause and its locals."""
    a_local_secret = payload["password"]
    try:
        raise KeyError(payload)
    except KeyError as error:
        raise ValueError(f"bad login {a_local_secret}, given {payload!r}") from error


def tells_later(payload: Any, context: Any) -> Any:
    """What the job was started with, told by a later task."""
    raise ValueError(f"no: {context.job_payload['password']} {dict(context.results)!r}")


def passes_on(payload: Any) -> Any:
    """A result that holds a secret of its own, beside what is harmless."""
    return {"order_id": payload["order_id"], "access_token": CANARY}


@pytest.fixture
def log(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    with caplog.at_level(logging.DEBUG, logger="django_tasks_seq"):
        yield caplog


@pytest.fixture
def job(declare: Declare, log: pytest.LogCaptureFixture) -> Job:
    """A job that has failed twice, its secrets told by its tasks each time."""
    declare(
        ("passes", passes_on), TaskSpec("tells", tells_later, retry=Retry(2, delay=1)), name="later"
    )
    declare(TaskSpec("tells", tells_all, retry=Retry(2, delay=1)), name="careless")
    started = [executor.start_sequence(name, PAYLOAD) for name in ("careless", "later")]
    drain()
    advance(10)
    drain()
    assert [one.refresh().status for one in started] == ["FAILED", "FAILED"]
    return started[0]


def shown(client: Client) -> str:
    """All that the admin shows of all jobs."""
    urls = [list_url(), list_url("q=login")]
    for job in Job.objects.all():
        urls += [page_url(job), page_url(job, "history")]
    pages = [client.get(url) for url in urls]
    assert {page.status_code for page in pages} == {200}
    return "".join(page.content.decode() for page in pages)


def test_the_test_plants_what_it_looks_for(job: Job) -> None:
    """The secret is in the stored payload and result: it could be found."""
    assert job.payload["password"] == CANARY
    assert TaskStatus.objects.get(task_id="passes").result["access_token"] == CANARY


@pytest.mark.parametrize("permissions", [["view_job"], ["view_job", "view_payload"]])
def test_no_page_shows_it(client_for: ClientFor, job: Job, permissions: list[str]) -> None:
    """Neither to those who may see payloads, for whom it is masked, nor to all others."""
    html = shown(client_for(*permissions))

    assert not leaks(html)
    assert "bad login" in html
    assert (MASK in html) is True


def test_a_payload_is_not_read_for_those_who_may_not_see_it(
    client_for: ClientFor, declare: Declare
) -> None:
    """Also what is not masked stays hidden: the harmless part of payload, result and results."""
    declare(("only", lambda payload: {"plain": "plain-result"}))
    done = executor.start_sequence("probe", {"plain": "plain-payload"})
    drain()
    client = client_for("view_job", "retry_job", "cancel_job", "pause_job")

    for url in (page_url(done), page_url(done, "history"), list_url("q=plain")):
        assert b"plain-" not in client.get(url).content


def test_errors_are_stored_without_it(job: Job) -> None:
    """Message and traceback of each attempt, and the error of task and job, hold the mask instead."""
    texts: list[Any] = [
        *TaskAttempt.objects.values_list("message", "traceback"),
        *TaskStatus.objects.values_list("error"),
        *Job.objects.values_list("error"),
    ]

    assert len(texts) == 4 + 3 + 2
    assert not leaks(texts)
    messages = set(TaskAttempt.objects.values_list("message", flat=True))
    assert len(messages) == 2
    assert all(MASK in message for message in messages)


def test_the_log_does_not_tell_it(job: Job, log: pytest.LogCaptureFixture) -> None:
    """No record has it in its message, its arguments, its data or its traceback."""
    records = [*log.get_records("setup"), *log.get_records("call")]
    told = [record for record in records if record.name.startswith("django_tasks_seq")]

    assert {"task retried", "task failed"} <= {record.getMessage() for record in told}
    assert not leaks([vars(record) for record in told])


def test_events_do_not_tell_it(job: Job) -> None:
    """What people do to the job is kept without its data."""
    executor.retry(job, by="anna", reason="again")
    executor.cancel(job, by="anna")

    assert JobEvent.objects.count() == 2
    assert not leaks(list(JobEvent.objects.values()))


def test_signals_do_not_tell_it(declare: Declare, heard: Heard) -> None:
    """Of a job's life receivers hear names and numbers, and errors with the mask."""
    received = [
        heard(signal)
        for signal in (
            signals.job_started,
            signals.task_started,
            signals.task_retried,
            signals.task_finished,
            signals.job_finished,
        )
    ]
    declare(TaskSpec("tells", tells_all, retry=Retry(2, delay=0, jitter=False)))
    executor.start_sequence("probe", PAYLOAD)
    drain()

    facts = [each for one in received for each in one]
    assert len(facts) >= 5
    assert not leaks([(each, vars(each.get("error") or Job)) for each in facts])
    assert any(MASK in each["error"].message for each in facts if each.get("error"))


@pytest.mark.django_db(transaction=True)
def test_an_error_handler_is_told_with_the_mask(declare: Declare) -> None:
    """What it mails or posts holds no value of a masked key; it may look the payload up itself."""
    told: list[Any] = []
    declare(
        tells_all,
        error_handler=lambda error, context: told.append((error.message, error.traceback)),
    )
    executor.start_sequence("probe", PAYLOAD)
    drain()

    assert told
    assert not leaks(told)


def test_a_start_handler_gets_the_payload_and_nothing_else(declare: Declare, inbox: Inbox) -> None:
    """`handle_start` is told job, task and payload in this process; the message is the site's."""
    declare(passes_on, lambda payload: None)
    with_hooks = executor.start_sequence("probe", PAYLOAD)
    drain()

    ((job_id, task_id, payload),) = inbox.messages
    assert (job_id, task_id, payload) == (str(with_hooks.id), "t1", PAYLOAD)
    assert not leaks((job_id, task_id))


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_a_notification_carries_nothing(declare: Declare) -> None:
    """NOTIFY, which every role of the database can hear, has an empty payload."""
    import psycopg

    params = connection.get_connection_params()
    params.pop("cursor_factory", None)
    params.pop("context", None)
    with psycopg.connect(**params, autocommit=True) as listener:
        listener.execute("LISTEN django_tasks_seq")
        declare(passes_on)
        executor.start_sequence("probe", PAYLOAD, idempotency_key=CANARY.replace("\n", ""))
        executor.start_many("probe", [PAYLOAD] * 3)
        sent = list(listener.notifies(timeout=5, stop_after=1))

    assert sent
    assert {notify.payload for notify in sent} == {""}


# --- what counts as a secret


def test_what_is_masked_in_errors() -> None:
    """Texts and long numbers under the keys of `REDACT_KEYS`, at any depth, the longest first."""
    keys = ["*password*", "pin", "card*"]
    value = {
        "Password": "swordfish",
        "old_passwords": ["swordfish-2", {"deep": "trout-4"}],
        "card": {"number": 4111111111111111, "valid": True, "cvc": 123, "name": None},
        "pin": "1",
        "note": "swordfish is no secret here",
    }

    assert secrets_in(value, keys) == ("4111111111111111", "swordfish-2", "swordfish", "trout-4")
    assert secrets_in(value, []) == ()
    assert secrets_in(["x", 1, None], keys) == ()


def test_a_masked_text_leaves_no_part_of_a_secret() -> None:
    """Also as `repr` and as JSON would write it, in message, traceback, causes and members of groups."""
    found = secrets_in(PAYLOAD, ["password"])
    cause = ValueError(f"{PAYLOAD}")
    group = ExceptionGroup("many", [ValueError(CANARY), cause])
    group.__cause__ = cause

    text = describe_exception(group, found)

    assert not leaks(text)
    assert text.traceback.count(MASK) >= 3


def test_a_secret_that_is_cut_in_the_middle_is_masked_before() -> None:
    """A message that is cut leaves no half of a secret at its end."""
    for length in range(4080, 4100, 3):
        text = describe_exception(
            ValueError("x" * length + CANARY * 3), secrets_in(PAYLOAD, ["password"])
        )
        assert not leaks(text.message)


def test_very_many_secrets_cost_little() -> None:
    """A payload of a megabyte of secrets masks the longest of them, and takes no time to speak of."""
    value = {"passwords": [f"secret-{n:06}" for n in range(100_000)]}

    assert len(secrets_in(value, ["password*"])) == 1000
