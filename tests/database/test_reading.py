"""Looking at a job, waiting for it, and the async twins of all that."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connections

from django_tasks_seq import JobNotFound, TaskExecutor, executor
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, same

pytestmark = pytest.mark.django_db
VERBS = ["start_sequence", "start_many", "execute_task", "cancel", "pause", "resume", "retry"]
VERBS += ["skip", "get_job"]


def test_get_job_reads_it_as_it_is(declare: Declare) -> None:
    """The job is read anew, by object, id or text."""
    declare(same)
    job = executor.start_sequence("probe")
    drain()

    for form in (job, job.id, str(job.id)):
        assert executor.get_job(form).status == "SUCCESSFUL"


@pytest.mark.parametrize("call", [executor.get_job, lambda job: executor.wait(job, 0)])
def test_a_job_that_is_not_there(call: Callable[[Any], Any]) -> None:
    """What is no job, or was pruned, raises JobNotFound."""
    for unknown in ("nonsense", None, "01a20c5d-3370-7000-830f-e72de635d053"):
        with pytest.raises(JobNotFound):
            call(unknown)


def test_wait_returns_a_settled_job_at_once(declare: Declare) -> None:
    """A job that is settled is returned even without any time to wait."""
    declare(same)
    job = executor.start_sequence("probe")
    drain()

    assert executor.wait(job, 0).status == "SUCCESSFUL"


def test_wait_gives_up_and_says_where_the_job_is(declare: Declare) -> None:
    """After so many seconds TimeoutError names the status."""
    declare(same)
    job = executor.start_sequence("probe")

    with pytest.raises(TimeoutError, match=f"Job {job.id} is READY after 0.02 s"):
        executor.wait(job, 0.02)


def test_wait_waits_for_the_handler_too(declare: Declare, inbox: Inbox) -> None:
    """A final job whose handler is due is not settled yet."""
    declare(same, success_handler=lambda result: None)
    job = executor.start_sequence("probe")
    executor.execute_task(job, "t1")

    with pytest.raises(TimeoutError, match="is SUCCESSFUL"):
        executor.wait(job, 0.02)
    executor.execute_task(job, "@success")
    assert executor.wait(job, 0).is_settled


@pytest.mark.django_db(transaction=True)
def test_wait_sees_what_others_do(declare: Declare, inbox: Inbox) -> None:
    """A waiting process returns once another has settled the job."""
    declare(same)
    job = executor.start_sequence("probe")

    def consume() -> None:
        executor.execute_task(job.id, "t1")
        connections.close_all()

    consumer = threading.Thread(target=consume)
    consumer.start()
    found = executor.wait(job, 30)
    consumer.join()

    assert found.status == "SUCCESSFUL"


@pytest.mark.parametrize("name", [*VERBS, "wait"])
def test_each_function_has_a_twin_and_a_method(name: str) -> None:
    """Every function of the executor has its `a…` twin, and both are methods of TaskExecutor."""
    twin = "await_job" if name == "wait" else f"a{name}"

    for wanted in (name, twin):
        function = getattr(executor, wanted)
        assert getattr(TaskExecutor(), wanted) is function
        assert function.__doc__


@pytest.mark.django_db(transaction=True)
def test_the_async_twins_do_the_same(declare: Declare) -> None:
    """A job is started, paused, resumed, run, retried, skipped, cancelled and read from async code."""
    declare(Failing(), same)

    async def use() -> Job:
        job: Job = await executor.astart_sequence("probe", 1)
        assert (await executor.apause(job)).status == "PAUSED"
        assert (await executor.aresume(job)).status == "READY"
        many = await executor.astart_many("probe", [1, 2])
        for other in many:
            assert (await executor.acancel(other)).status == "CANCELLED"
        assert (await executor.aexecute_task(job, "t1")).reason == ""
        return job

    job = async_to_sync(use)()
    assert job.refresh().status == "FAILED"

    async def repair() -> Job:
        assert (await executor.aretry(job)).status == "READY"
        assert (await executor.askip(job, "t1", 7)).status == "READY"
        await executor.aexecute_task(job, "t2")
        assert (await executor.aget_job(job)).result == 7
        found: Job = await executor.await_job(job, 0)
        return await found.arefresh()

    assert async_to_sync(repair)().status == "SUCCESSFUL"


def test_questions_of_the_queryset(declare: Declare) -> None:
    """`due`, `active`, `failed`, `settled`, `stuck` and `needs_attention` answer what they say."""
    declare(same, name="good")
    declare(Failing(), name="bad")
    good, bad = executor.start_sequence("good"), executor.start_sequence("bad")
    assert set(Job.objects.due()) == set(Job.objects.active()) == {good, bad}
    drain()
    ready = executor.start_sequence("good")

    assert list(Job.objects.failed()) == list(Job.objects.needs_attention()) == [bad]
    assert set(Job.objects.settled()) == {good, bad}
    assert list(Job.objects.active()) == list(Job.objects.due()) == [ready]
    assert not Job.objects.stuck().exists()
