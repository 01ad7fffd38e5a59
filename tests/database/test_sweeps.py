"""Carried jobs whose message was lost, or whose time has come, are announced again."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from django_tasks_seq import Retry, TaskSpec, executor
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, Seen, same

pytestmark = pytest.mark.django_db(transaction=True)
Configure = Callable[..., None]


def test_a_lost_message_is_sent_again(declare: Declare, inbox: Inbox) -> None:
    """Not begun RESEND_SECONDS after the last call: called again, each time after twice as long."""
    declare(same)
    job = executor.start_sequence("probe")
    inbox.messages.clear()
    seen = []
    for seconds in (59, 2, 119, 2, 239, 2):
        advance(seconds)
        drain()
        seen.append(len(inbox.messages))

    assert seen == [0, 1, 1, 2, 2, 3]
    assert {run.ran for run in inbox.consume()} == {True, False}
    advance(hours=2)
    drain()
    assert not inbox.messages
    assert job.refresh().status == "SUCCESSFUL"


def test_a_resend_waits_an_hour_at_most(declare: Declare, inbox: Inbox) -> None:
    """However often a message was lost, the next comes within the hour."""
    declare(same)
    job = executor.start_sequence("probe")
    Job.objects.filter(pk=job.pk).update(resends=15)
    inbox.messages.clear()
    advance(61)
    drain()
    advance(minutes=59)
    drain()
    assert len(inbox.messages) == 1
    advance(minutes=2)
    drain()
    assert len(inbox.messages) == 2


def test_resend_seconds_are_a_setting(declare: Declare, inbox: Inbox, configure: Configure) -> None:
    """`RESEND_SECONDS` is when a message counts as lost."""
    configure(RESEND_SECONDS=5)
    declare(same)
    executor.start_sequence("probe")
    inbox.messages.clear()
    advance(6)
    drain()

    assert inbox.tasks == ["t1"]


def test_a_lost_handler_message_is_sent_again(declare: Declare, inbox: Inbox) -> None:
    """The handler of a job that has ended is swept as a task is."""
    calls: list[Any] = []
    declare(same, success_handler=calls.append)
    executor.start_sequence("probe")
    executor.execute_task(*inbox.messages.popleft())
    inbox.messages.clear()
    advance(61)
    drain()

    assert inbox.tasks == ["@success"]
    inbox.consume()
    assert calls == [None]


def test_a_retry_due_later_is_announced(declare: Declare, inbox: Inbox) -> None:
    """A carried job whose retry has come is promoted, and its handler called."""
    declare(TaskSpec("t1", Failing(times=1), retry=Retry(2, delay=100, jitter=False)))
    job = executor.start_sequence("probe")
    inbox.consume()
    drain()
    assert not inbox.messages
    assert job.refresh().status == "WAITING"

    advance(101)
    drain()
    assert job.refresh().status == "READY"
    assert inbox.tasks == ["t1"]
    inbox.consume()
    assert job.refresh().status == "SUCCESSFUL"


def test_a_late_start_is_announced_once_due(declare: Declare, inbox: Inbox) -> None:
    """A carried job with `run_after` is announced when it is due, not before, and swept after."""
    declare(same)
    executor.start_sequence("probe", run_after=timedelta(hours=5))
    assert not inbox.messages
    advance(hours=4)
    drain()
    assert not inbox.messages
    advance(hours=1, seconds=1)
    drain()
    assert inbox.tasks == ["t1"]
    advance(61)
    drain()
    assert inbox.tasks == ["t1", "t1"]


def test_a_lost_consumer_costs_nothing(declare: Declare, inbox: Inbox) -> None:
    """A job whose consumer died is announced again when its lease has ended."""
    task = Seen()
    declare(task)
    job = executor.start_sequence("probe")
    inbox.messages.clear()
    executor.store().claim_job(job.id, "t1", 60, "dead:1")
    advance(61)
    drain()

    assert inbox.tasks == ["t1"]
    assert job.refresh().status == "READY"
    inbox.consume()
    assert [context.attempt for context in task.contexts] == [1]
    assert job.refresh().status == "SUCCESSFUL"
