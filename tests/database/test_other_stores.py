"""Jobs outside of the tables: in memory, and in a third party's get, set and delete."""

import math
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from django_tasks_seq import (
    BaseTaskCacheHandler,
    IdempotencyConflict,
    InlineStartTaskHandler,
    InMemoryTaskCacheHandler,
    JobNotCancellable,
    JobNotFound,
    Retry,
    RetryTask,
    SignalStartTaskHandler,
    TaskSpec,
    executor,
)
from django_tasks_seq.cache import JobRecord
from django_tasks_seq.ids import uuid7
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from tests.contracts.test_third_party import TextCacheHandler
from tests.database.conftest import Declare
from tests.database.test_handlers import Recorder
from tests.database.working import Failing, Inbox, Seen, count, same

pytestmark = pytest.mark.django_db(transaction=True)
Configure = Callable[..., None]


@pytest.fixture(params=["memory", "third party"])
def cache(request: pytest.FixtureRequest, configure: Configure) -> Iterator[BaseTaskCacheHandler]:
    """The cache handler of the settings; no table is used."""
    handler: Any
    handler = InMemoryTaskCacheHandler("tests") if request.param == "memory" else TextCacheHandler()
    configure(CACHE_HANDLER=handler)
    yield handler
    if isinstance(handler, InMemoryTaskCacheHandler):
        handler.clear()


@pytest.fixture(params=["inline", "signal", "queue"])
def run(request: pytest.FixtureRequest, configure: Configure) -> Callable[[], None]:
    """Run all that is due, under each carried start handler."""
    if request.param == "queue":
        box = Inbox()
        configure(START_TASK_HANDLER=box.handler)
        return lambda: print(box.consume())
    kinds = {"inline": InlineStartTaskHandler, "signal": SignalStartTaskHandler}
    configure(START_TASK_HANDLER=kinds[request.param])
    return lambda: None


def test_a_sequence_runs(
    declare: Declare, cache: BaseTaskCacheHandler, run: Callable[[], None]
) -> None:
    """The same sequence runs to its end, handlers included, and leaves a JobRecord."""
    calls: list[Any] = []
    declare(count, count, count, success_handler=calls.append)

    job = executor.start_sequence("probe", {"n": 0}, created_by="anna")
    run()

    assert isinstance(job, JobRecord)
    job.refresh()
    assert (job.status, job.result, job.is_settled) == ("SUCCESSFUL", {"n": 3}, True)
    assert job.task_results() == {"t1": {"n": 1}, "t2": {"n": 2}, "t3": {"n": 3}}
    assert [task.status for task in job.task_statuses] == ["SUCCESSFUL"] * 3
    assert (job.created_by, job.sequence, job.plan) == ("anna", "probe", ["t1", "t2", "t3"])
    assert job.started_at is not None
    assert job.finished_at is not None
    assert job.created_at <= job.started_at <= job.finished_at
    assert calls == [{"n": 3}]
    assert not Job.objects.exists()


def test_documents_are_under_the_keys_of_the_contract(
    declare: Declare, cache: BaseTaskCacheHandler, run: Callable[[], None]
) -> None:
    """A job is `job:<uuid>`, a task status `job:<uuid>:<task_id>`."""
    declare(same)
    job = executor.start_sequence("probe", 1)
    run()

    document, task = cache.get(f"job:{job.id}"), cache.get(f"job:{job.id}:t1")
    assert document is not None
    assert task is not None
    assert (document["status"], document["sequence"]) == ("SUCCESSFUL", "probe")
    assert (task["status"], task["attempts"]) == ("SUCCESSFUL", 1)
    assert cache.get(f"job:{uuid7()}") is None


def test_json_is_verbatim_there_too(
    declare: Declare, cache: BaseTaskCacheHandler, run: Callable[[], None]
) -> None:
    """A handler that has one kind of number and sorts its keys changes no payload."""
    value = {"b": 1e16, "a": -0.0, "ä": [1.0, None]}
    task = Seen()
    declare(same, task)
    job = executor.start_sequence("probe", value)
    run()

    assert repr(task.payloads[0]) == repr(value) == repr(job.refresh().result)
    assert math.copysign(1, task.payloads[0]["a"]) == -1


def test_retries_wait_and_count(
    declare: Declare, cache: BaseTaskCacheHandler, inbox: Inbox
) -> None:
    """A retry that is due later is refused before, run after, with its number."""
    failing = Failing(times=1)
    declare(TaskSpec("t1", failing, retry=Retry(2, delay=100, jitter=False)))
    job = executor.start_sequence("probe")

    assert executor.execute_task(job, "t1").outcome == "WAITING"
    assert job.refresh().status == "WAITING"
    assert executor.execute_task(job, "t1").reason == "not_due"
    advance(101)
    assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"
    assert failing.attempts == [1, 2]


def test_failures_and_verdicts(
    declare: Declare, cache: BaseTaskCacheHandler, run: Callable[[], None]
) -> None:
    """The error handler gets the failed task's failure and payload, and may let it run again."""
    failing = Failing(times=1)
    recorder = Recorder(RetryTask({"n": 9}))
    declare(Seen({"n": 1}), failing, error_handler=recorder)
    job = executor.start_sequence("probe", {"n": 0})
    run()

    assert job.refresh().status == "SUCCESSFUL"
    assert [payload for payload, _ in failing.calls] == [{"n": 1}, {"n": 9}]
    ((error, context),) = recorder.calls
    assert (error.task_id, error.message, error.is_a(ValueError)) == ("t2", "no stock", True)
    assert context.payload == {"n": 1}


def test_people_repair_jobs_there(
    declare: Declare, cache: BaseTaskCacheHandler, inbox: Inbox
) -> None:
    """Pause, resume, cancel, retry and skip work on records, and refuse as they do on rows."""
    declare(Failing(times=1), same, same)
    job = executor.start_sequence("probe", "p")
    assert executor.pause(job).status == "PAUSED"
    assert executor.execute_task(job, "t1").reason == "paused"
    assert executor.resume(job).status == "READY"
    executor.execute_task(job, "t1")
    assert job.refresh().status == "FAILED"
    assert executor.retry(job, by="anna").status == "READY"
    executor.execute_task(job, "t1")
    executor.skip(job, "t2", "given")
    assert executor.execute_task(job, "t3").outcome == "SUCCESSFUL"
    assert job.refresh().result == "given"

    with pytest.raises(JobNotCancellable, match="nothing was changed"):
        executor.cancel(job)
    assert job.refresh().status == "SUCCESSFUL"


def test_running_again_counts_on(
    declare: Declare, cache: BaseTaskCacheHandler, inbox: Inbox
) -> None:
    """After a retry from the first task the later ones go on counting their attempts."""
    tasks = Seen(), Seen()
    declare(*tasks)
    job = executor.start_sequence("probe")
    inbox.consume()
    executor.retry(job, from_task="t1")
    inbox.consume()

    assert [[context.attempt for context in task.contexts] for task in tasks] == [[1, 2], [1, 2]]
    assert job.refresh().status == "SUCCESSFUL"


def test_idempotency_there(declare: Declare, cache: BaseTaskCacheHandler, inbox: Inbox) -> None:
    """A key starts one job; another payload is a conflict."""
    declare(same)
    first = executor.start_sequence("probe", 1, idempotency_key="k")
    second = executor.start_sequence("probe", 1, idempotency_key="k")

    assert second == first
    assert (first.was_started, second.was_started) == (True, False)
    with pytest.raises(IdempotencyConflict):
        executor.start_sequence("probe", 2, idempotency_key="k")


def test_doubled_and_unknown_calls_there(
    declare: Declare, cache: BaseTaskCacheHandler, inbox: Inbox
) -> None:
    """`execute_task` refuses with the same words as on rows."""
    declare(same, same)
    job = executor.start_sequence("probe")
    later = executor.start_sequence("probe", run_after=timedelta(hours=1))
    executor.execute_task(job, "t1")

    assert executor.execute_task(job, "t1").reason == "done"
    assert executor.execute_task(later, "t1").reason == "not_due"
    assert executor.execute_task(later, "t2").reason in ("not_due", "not_next")
    assert executor.execute_task(uuid7(), "t1").reason == "unknown_job"
    executor.execute_task(job, "t2")
    assert executor.execute_task(job, "t2").reason == "final"


def test_what_is_not_there(cache: BaseTaskCacheHandler) -> None:
    """An unknown job raises JobNotFound, whoever keeps the jobs."""
    with pytest.raises(JobNotFound):
        executor.get_job(uuid7())


def test_start_many_is_all_or_none_there(
    declare: Declare, cache: BaseTaskCacheHandler, inbox: Inbox
) -> None:
    """A conflict takes back what was added before it."""
    declare(same)
    executor.start_sequence("probe", "first", idempotency_key="b")
    inbox.messages.clear()

    with pytest.raises(IdempotencyConflict):
        executor.start_many("probe", ["x", "other"], idempotency_keys=["a", "b"])

    assert not inbox.messages
    assert executor.start_sequence("probe", "again", idempotency_key="a").was_started


def test_a_worker_runs_jobs_in_memory(declare: Declare, configure: Configure) -> None:
    """The store in memory can be claimed from: `drain()` runs its jobs and their handlers."""
    configure(CACHE_HANDLER=InMemoryTaskCacheHandler("worker"))
    calls: list[Any] = []
    tasks = Seen(), Seen()
    declare(*tasks, success_handler=calls.append)
    job = executor.start_sequence("probe", 7)

    assert drain() == 1
    assert job.refresh().status == "SUCCESSFUL"
    executor.retry(job, from_task="t1")
    drain()
    assert [context.attempt for context in tasks[1].contexts] == [1, 2]
    assert calls == [7, 7]
