"""Signals: sent after the commit, in order, by `send_robust`; each ending of a job has its own."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection
from django.dispatch import Signal

from django_tasks_seq import Complete, Retry, TaskFailed, TaskSpec, executor, signals
from django_tasks_seq.cache.changes import Report
from django_tasks_seq.models import Job
from django_tasks_seq.status import TaskStatusManager
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.test_handlers import Recorder
from tests.database.working import Failing, Inbox, same

pytestmark = pytest.mark.django_db
Heard = Callable[[Signal], list[dict[str, Any]]]
NAMES = ["job_started", "task_started", "task_retried", "task_finished", "job_finished"]


@pytest.fixture
def told() -> Iterator[list[tuple[str, Any]]]:
    """All signals in the order they came, with task id or status."""
    received: list[tuple[str, Any]] = []
    listening = []
    for name in NAMES:

        def receive(signal: Signal, name: str = name, **facts: Any) -> None:
            received.append((name, facts.get("task_id", facts.get("status"))))

        listening.append(receive)
        getattr(signals, name).connect(receive)
    yield received
    for name, receive in zip(NAMES, listening, strict=True):
        getattr(signals, name).disconnect(receive)


PLAIN_RUN = [
    ("job_started", None),
    ("task_started", "t1"),
    ("task_finished", "t1"),
    ("task_started", "t2"),
    ("task_finished", "t2"),
    ("job_finished", "SUCCESSFUL"),
]


@pytest.mark.parametrize("carried", [False, True], ids=["worker", "consumer"])
def test_the_order_of_signals(
    declare: Declare, told: list[Any], request: pytest.FixtureRequest, carried: bool
) -> None:
    """A plain run tells of each beginning and each end, the job's around its tasks'."""
    inbox = request.getfixturevalue("inbox") if carried else None
    declare(same, same)
    job = executor.start_sequence("probe")
    drain()
    if inbox is not None:
        executor.execute_task(job, "t1")
        executor.execute_task(job, "t2")

    assert told == PLAIN_RUN


def test_what_signals_carry(declare: Declare, heard: Heard) -> None:
    """Sender is the sequence; ids, names, attempt, status, error and delay come with it."""
    received = {name: heard(getattr(signals, name)) for name in NAMES}
    sequence = declare(TaskSpec("t1", Failing(), retry=Retry(2, delay=30, jitter=False)), version=4)
    job = executor.start_sequence("probe")
    drain()
    advance(31)
    drain()

    common = {"sender": sequence, "job_id": job.id, "sequence": "probe"}
    assert received["job_started"] == [common]
    assert received["task_started"] == [
        {**common, "task_id": "t1", "attempt": 1},
        {**common, "task_id": "t1", "attempt": 2},
    ]
    (retried,) = received["task_retried"]
    error = retried.pop("error")
    assert retried == {**common, "task_id": "t1", "attempt": 1, "delay": 30.0}
    assert isinstance(error, TaskFailed)
    (finished,) = received["task_finished"]
    assert finished.pop("error").is_a(ValueError)
    assert finished == {**common, "task_id": "t1", "attempt": 2, "status": "FAILED"}
    assert received["job_finished"] == [{**common, "status": "FAILED"}]


def test_signals_see_what_was_committed(declare: Declare) -> None:
    """When a signal comes, the row says so already."""
    seen: list[Any] = []

    def receive(signal: Signal, **facts: Any) -> None:
        row = Job.objects.get(pk=facts["job_id"])
        done = row.task_statuses.filter(task_id=facts.get("task_id"), status="SUCCESSFUL").exists()
        seen.append((row.status, done))

    signals.task_finished.connect(receive)
    signals.job_finished.connect(receive)
    try:
        declare(same)
        executor.start_sequence("probe")
        drain()
    finally:
        signals.task_finished.disconnect(receive)
        signals.job_finished.disconnect(receive)

    assert seen == [("SUCCESSFUL", True), ("SUCCESSFUL", False)]


def test_a_receiver_that_raises_changes_nothing(
    declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    """What a receiver raises is logged, and the job goes its way."""

    def broken(signal: Signal, **facts: Any) -> None:
        raise RuntimeError("receiver")

    for name in NAMES:
        getattr(signals, name).connect(broken)
    try:
        declare(TaskSpec("t1", Failing(times=1), retry=Retry(2, delay=0)), same)
        job = executor.start_sequence("probe")
        drain()
    finally:
        for name in NAMES:
            getattr(signals, name).disconnect(broken)

    assert job.refresh().status == "SUCCESSFUL"
    assert any("receiver" in str(record.exc_info) for record in caplog.records)


ENDINGS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "success": ({}, ["SUCCESSFUL"]),
    "success handler": ({"success_handler": lambda result: None}, ["SUCCESSFUL"]),
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_job_finished_when_it_is_settled(declare: Declare, heard: Heard, ending: str) -> None:
    """`job_finished` comes once, after the handler if there is one."""
    options, wanted = ENDINGS[ending]
    received = heard(signals.job_finished)
    declare(same, **options)
    executor.start_sequence("probe")
    drain()

    assert [facts["status"] for facts in received] == wanted


def test_job_finished_waits_for_the_handler(declare: Declare, heard: Heard, inbox: Inbox) -> None:
    """Between the end of the job and that of its handler nothing is told."""
    received = heard(signals.job_finished)
    declare(Failing(), error_handler=Recorder())
    job = executor.start_sequence("probe")
    executor.execute_task(job, "t1")
    assert received == []
    executor.execute_task(job, "@error")
    assert [facts["status"] for facts in received] == ["FAILED"]


def test_job_finished_when_an_error_handler_completes_it(declare: Declare, heard: Heard) -> None:
    """A job that `Complete` settles is told as SUCCESSFUL, once."""
    received = heard(signals.job_finished)
    declare(Failing(), error_handler=Recorder(Complete(1)))
    executor.start_sequence("probe")
    drain()

    assert [facts["status"] for facts in received] == ["SUCCESSFUL"]


def test_job_finished_when_a_handler_gives_up(
    declare: Declare, heard: Heard, configure: Callable[..., None]
) -> None:
    """A handler that failed for the last time settles the job as well."""
    configure(HANDLER_ATTEMPTS=1)
    received = heard(signals.job_finished)
    declare(same, success_handler=Recorder(ValueError()))
    executor.start_sequence("probe")
    drain()

    assert [facts["status"] for facts in received] == ["SUCCESSFUL"]


def test_job_finished_when_a_person_ends_it(
    declare: Declare, heard: Heard, django_capture_on_commit_callbacks: Any
) -> None:
    """Cancelling, and skipping the last task, are told after the commit."""
    received = heard(signals.job_finished)
    declare(same)
    first, second = executor.start_many("probe", [1, 2])
    with django_capture_on_commit_callbacks(execute=True):
        executor.cancel(first)
        executor.skip(second, "t1")
        assert received == []

    assert [facts["status"] for facts in received] == ["CANCELLED", "SUCCESSFUL"]
    connection.run_on_commit.clear()


@pytest.mark.parametrize("carried", [False, True], ids=["worker", "consumer"])
def test_job_finished_when_a_request_is_heeded(
    declare: Declare, heard: Heard, request: pytest.FixtureRequest, carried: bool
) -> None:
    """A running job that was to be cancelled is told when it stops."""
    if carried:
        request.getfixturevalue("inbox")
    received = heard(signals.job_finished)
    declare(lambda payload, context: executor.cancel(context.job_id) and None, same)
    job = executor.start_sequence("probe")
    drain()
    if carried:
        executor.execute_task(job, "t1")

    assert [facts["status"] for facts in received] == ["CANCELLED"]


def test_job_finished_when_its_worker_is_lost(declare: Declare, heard: Heard) -> None:
    """A task that may not run twice ends its job with the worker; that is told."""
    received = heard(signals.job_finished)
    declare(TaskSpec("t1", same, on_lost="fail"))
    job = executor.start_sequence("probe")
    store = executor.store()
    (claim,) = store.claim([], 1, 60, None)
    store.apply([TaskStatusManager().start_task(claim, Report(started=0.0, fails_when_lost=True))])
    advance(61)
    drain()

    assert job.refresh().status == "FAILED"
    assert [facts["status"] for facts in received] == ["FAILED"]


# --- the log


def lines(caplog: pytest.LogCaptureFixture) -> list[tuple[str, str]]:
    return [
        (record.levelname, record.getMessage())
        for record in caplog.records
        if record.name == "django_tasks_seq"
    ]


def test_each_ending_has_one_line(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    """Retries are warnings, failures errors, a finished job one line of information."""
    caplog.set_level(logging.INFO, "django_tasks_seq")
    declare(TaskSpec("t1", Failing(times=1), retry=Retry(2, delay=0)), same, name="good")
    declare(Failing(), name="bad")
    executor.start_sequence("good", priority=1)
    executor.start_sequence("bad")
    drain()

    assert sorted(lines(caplog)) == [
        ("ERROR", "task failed"),
        ("INFO", "job finished"),
        ("WARNING", "task retried"),
    ]


def test_lines_carry_facts_and_not_text(declare: Declare, caplog: pytest.LogCaptureFixture) -> None:
    """Job, sequence, task, attempt, worker and error are attributes of the record."""
    declare(Failing(error=ValueError("a\nb")))
    job = executor.start_sequence("probe")
    drain()

    (record,) = (r for r in caplog.records if r.getMessage() == "task failed")
    facts = vars(record)
    assert facts["job_id"] == str(job.id)
    assert (facts["sequence"], facts["task_id"], facts["attempt"]) == ("probe", "t1", 1)
    assert facts["worker"] == "drain:0"
    assert facts["error"].startswith("ValueError: a")
    assert "\n" not in facts["error"]
    assert (facts["label"], facts["place"]) == (str(job), "1/1")


def test_a_tasks_own_logger_knows_where_it_is(
    declare: Declare, caplog: pytest.LogCaptureFixture
) -> None:
    """`context.logger` adds job, sequence, task and attempt to what a task logs."""
    caplog.set_level(logging.INFO, "django_tasks_seq")
    declare(lambda payload, context: context.logger.info("charged", order_id=payload) and None)
    job = executor.start_sequence("probe", 7)
    drain()

    (record,) = (r for r in caplog.records if r.getMessage() == "charged")
    facts = vars(record)
    assert (facts["job_id"], facts["task_id"], facts["attempt"]) == (str(job.id), "t1", 1)
    assert facts["order_id"] == 7
