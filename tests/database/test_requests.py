"""What a person asks of a running job: the task sees it, and the job stops before its next task."""

import threading
from typing import Any

import pytest
from django.db import connections

from django_tasks_seq import Retry, TaskSpec, executor
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.working import Inbox, Seen, same, statuses

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(("verb", "status"), [("cancel", "CANCELLED"), ("pause", "PAUSED")])
@pytest.mark.django_db(transaction=True)
def test_a_running_task_sees_what_a_person_asks(
    declare: Declare, inbox: Inbox, verb: str, status: str
) -> None:
    """A consumer's task is told within its renewals, and the job stops as it releases itself."""
    started = threading.Event()

    def work(payload: Any, context: Any) -> None:
        started.set()
        while True:
            context.raise_if_stopping()

    declare(same, work, same)
    job = executor.start_sequence("probe")
    inbox.messages.popleft()
    executor.execute_task(job, "t1")
    asking = threading.Thread(target=ask, args=(verb, job, started))
    asking.start()
    run = executor.execute_task(job, "t2")
    asking.join()

    assert (run.ran, run.outcome) == (True, "RELEASED")
    assert job.refresh().status == status
    assert job.requested == ""
    assert statuses(job)["t1"] == "SUCCESSFUL"
    row = job.task_statuses.filter(task_id="t2").first()
    assert row is None or (row.status, row.attempts) == ("READY", 0)
    kinds = list(job.events.order_by("id").values_list("kind", flat=True))
    assert kinds == [f"{verb}_requested", f"{verb}_done"]
    assert not job.attempts.exists()


def ask(verb: str, job: Any, started: threading.Event) -> None:
    started.wait()
    getattr(executor, verb)(job, by="anna")
    connections.close_all()


@pytest.mark.parametrize(
    "asked",
    [("cancel", "CANCELLED", "READY"), ("pause", "PAUSED", "WAITING")],
    ids=["cancel", "pause"],
)
@pytest.mark.parametrize("by_worker", [True, False], ids=["worker", "consumer"])
def test_a_request_is_heeded_when_the_attempt_fails(
    declare: Declare, request: pytest.FixtureRequest, asked: Any, by_worker: bool
) -> None:
    """An attempt that fails meanwhile is recorded, and the job stops by the same commit."""
    verb, status, left = asked
    if not by_worker:
        request.getfixturevalue("inbox")

    def fail(payload: Any, context: Any) -> None:
        getattr(executor, verb)(context.job_id)
        raise ValueError

    declare(TaskSpec("t1", fail, retry=Retry(3, delay=100)))
    job = executor.start_sequence("probe")
    if by_worker:
        drain()
    else:
        assert executor.execute_task(job, "t1").outcome == "WAITING"

    assert job.refresh().status == status
    assert statuses(job) == {"t1": left}
    assert job.attempts.count() == 1


@pytest.mark.parametrize(("verb", "status"), [("cancel", "CANCELLED"), ("pause", "PAUSED")])
@pytest.mark.parametrize("by_worker", [True, False], ids=["worker", "consumer"])
def test_a_request_is_heeded_before_the_next_task(
    declare: Declare, request: pytest.FixtureRequest, verb: str, status: str, by_worker: bool
) -> None:
    """A task that ends anyway is recorded with its result; the next does not begin."""
    if not by_worker:
        request.getfixturevalue("inbox")
    second = Seen()
    declare(lambda payload, context: getattr(executor, verb)(context.job_id) and "done", second)
    job = executor.start_sequence("probe")
    if by_worker:
        drain()
    else:
        assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"

    assert job.refresh().status == status
    assert statuses(job) == {"t1": "SUCCESSFUL"}
    assert second.payloads == []


def test_a_request_comes_too_late_for_the_last_task(declare: Declare) -> None:
    """A job whose last task ends is SUCCESSFUL, whatever was asked meanwhile."""
    declare(lambda payload, context: executor.cancel(context.job_id) and None)
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().status == "SUCCESSFUL"
    assert job.requested == ""


def test_a_job_cancelled_by_force_refuses_the_outcome(declare: Declare, inbox: Inbox) -> None:
    """`cancel(force=True)` ends it now; what its task returns is not recorded."""
    declare(lambda payload, context: executor.cancel(context.job_id, force=True) and "late", same)
    job = executor.start_sequence("probe")

    run = executor.execute_task(job, "t1")

    assert (run.ran, run.outcome) == (True, "LOST")
    assert job.refresh().status == "CANCELLED"
    assert statuses(job) == {}
    assert job.events.get().kind == "force_cancel"
