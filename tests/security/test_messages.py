"""S13: a message is a hint. Replayed, early, late, forged or for nobody, it changes nothing."""

import random
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from django_tasks_seq import SignalStartTaskHandler, executor, signals
from django_tasks_seq.choices import JobStatus
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from tests.database.conftest import Declare
from tests.database.working import Inbox, Seen, same
from tests.factories import JobFactory

pytestmark = pytest.mark.django_db(transaction=True)


def rows() -> list[Any]:
    models: tuple[Any, ...] = (Job, TaskStatus, TaskAttempt, JobEvent)
    return [list(model.objects.order_by("pk").values()) for model in models]


def test_a_hundred_replays_run_nothing_twice(declare: Declare, inbox: Inbox) -> None:
    """Each message of a job's life, a hundred times in any order: each task runs once, in order."""
    tasks = [Seen(), Seen(), Seen()]
    calls: list[Any] = []
    declare(*tasks, success_handler=calls.append)
    job = executor.start_sequence("probe", {"n": 1})
    messages = [
        (str(job.id), task_id, None) for task_id in ("t1", "t2", "t3", "@success", "@error")
    ]
    chosen = random.Random(7)

    for _ in range(100):
        executor.execute_task(*chosen.choice(messages))
    ended = rows()
    for _ in range(100):
        assert not executor.execute_task(*chosen.choice(messages)).ran

    assert [len(task.payloads) for task in tasks] == [1, 1, 1]
    assert calls == [{"n": 1}]
    assert job.refresh().status == "SUCCESSFUL"
    assert rows() == ended


@pytest.mark.parametrize("status", JobStatus.values)
def test_a_replay_changes_no_row_of_a_job_it_is_not_for(
    declare: Declare, inbox: Inbox, status: str
) -> None:
    """Whatever a job's status, a hundred messages that do not fit leave each row as it was."""
    declare(same, same)
    trait = {status.lower(): True} if status != "READY" else {}
    job = JobFactory.create(sequence="probe", plan=["t1", "t2"], carried=True, **trait)
    before = rows()

    for task_id in ("t2", "@success", "@error", "x", "", "t1\0", "t" * 10_000) * 15:
        run = executor.execute_task(job.id, task_id)
        assert not run.ran, task_id

    assert rows() == before


@pytest.mark.parametrize("trait", ["successful", "failed", "cancelled", "paused", "running"])
def test_a_message_for_a_job_that_does_not_wait_runs_nothing(
    declare: Declare, inbox: Inbox, trait: str
) -> None:
    """The right task of a job that has ended, is held or stands still: a hundred times nothing."""
    task = Seen()
    declare(task)
    job = JobFactory.create(sequence="probe", plan=["t1"], carried=True, **{trait: True})
    before = rows()

    runs = [executor.execute_task(job, "t1") for _ in range(100)]

    assert {run.ran for run in runs} == {False}
    assert task.payloads == []
    assert rows() == before


FORGED = [
    None,
    "",
    7,
    b"x",
    "x" * 10_000,
    "a\0b",
    uuid4(),
    str(uuid4()),
    [],
    {},
    object(),
    "1 OR 1=1",
]


@pytest.mark.parametrize("job_id", FORGED, ids=lambda value: repr(value)[:20])
def test_a_message_with_a_wrong_id_is_answered(declare: Declare, inbox: Inbox, job_id: Any) -> None:
    """It is no error either, or a carrier would bring it again for ever."""
    declare(same)
    executor.start_sequence("probe")
    before = rows()

    assert executor.execute_task(job_id, "t1").reason == "unknown_job"
    assert rows() == before


def test_a_payload_in_a_message_is_not_believed(declare: Declare, inbox: Inbox) -> None:
    """What runs is the stored payload, also after a task, a retry or a resume."""
    first, second = Seen("from the first"), Seen()
    declare(first, second)
    job = executor.start_sequence("probe", "stored")
    executor.execute_task(job, "t1", {"amount": 10**6})
    executor.execute_task(job, "t2", {"amount": 10**6})

    assert (first.payloads, second.payloads) == (["stored"], ["from the first"])


def test_a_message_does_not_begin_early(declare: Declare, inbox: Inbox) -> None:
    """A job that starts later is not started by who sends its message now."""
    declare(same)
    job = executor.start_sequence("probe", run_after=timedelta(hours=1))
    before = rows()

    assert {executor.execute_task(job, "t1").reason for _ in range(100)} == {"not_due"}
    assert rows() == before


def test_a_signal_that_anyone_sends_runs_what_is_due_once(declare: Declare) -> None:
    """`task_ready` sent by other code, with any data, is like any message."""
    task = Seen()
    declare(task, start_task_handler=SignalStartTaskHandler)

    def receive(sender: Any, job_id: Any, task_id: str, payload: Any, **kwargs: Any) -> None:
        executor.execute_task(job_id, task_id, payload)

    signals.task_ready.connect(receive)
    try:
        job = executor.start_sequence("probe", "stored")
        for job_id in (job.id, "nonsense", uuid4()):
            for _ in range(30):
                signals.task_ready.send(None, job_id=job_id, task_id="t1", payload="forged")
    finally:
        signals.task_ready.disconnect(receive)

    assert task.payloads == ["stored"]


def test_a_message_costs_little(
    declare: Declare, inbox: Inbox, django_assert_max_num_queries: Callable[..., Any]
) -> None:
    """A replay is refused after two looks at most: a flood of them is not worth sending."""
    declare(same)
    job = executor.start_sequence("probe")
    inbox.consume()

    with django_assert_max_num_queries(6):
        executor.execute_task(job, "t1")
