"""A worker that is gone: its jobs go on, are failed where they may not run twice, or kill too often."""

from collections.abc import Callable
from typing import Any

import pytest

from django_tasks_seq import Retry, TaskSpec, executor
from django_tasks_seq.cache.changes import Claim, Report
from django_tasks_seq.models import Job
from django_tasks_seq.registry import get_sequence
from django_tasks_seq.status import TaskStatusManager
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.test_handlers import Recorder
from tests.database.working import Failing, Seen, same, statuses

pytestmark = pytest.mark.django_db
STATUS = TaskStatusManager()


def lose(job: Job, *, shown: bool = True) -> Claim:
    """Let a worker claim the job and die; *shown*: with the RUNNING row of its task committed."""
    store = executor.store()
    (claim,) = store.claim([], 1, 60, None)
    assert claim.job_id == job.id
    if shown:
        spec = get_sequence(job.sequence).spec(claim.task_id)
        fails = spec is not None and spec.on_lost == "fail"
        report = Report(started=0.0, fails_when_lost=fails)
        store.apply([STATUS.start_task(claim, report)], "dead:1")
    advance(61)
    return claim


def test_a_lost_job_goes_on_elsewhere(declare: Declare) -> None:
    """After the lease another worker runs the task; the loss is an event, and costs no attempt."""
    task = Seen()
    declare(same, TaskSpec("t2", task, retry=Retry(1)))
    job = executor.start_sequence("probe", "p")
    executor.skip(job, "t1", "given")
    lose(job, shown=False)
    drain()

    assert job.refresh().status == "SUCCESSFUL"
    assert task.payloads == ["given"]
    event = job.events.get(kind="lost")
    assert (event.status_before, event.status_after) == ("RUNNING", "READY")
    assert not job.attempts.exists()
    assert not job.suspect


def test_a_shown_attempt_counts_and_costs_no_budget(declare: Declare) -> None:
    """An attempt that was seen to begin uses its number, and not one of `max_attempts`."""
    failing = Failing()
    declare(TaskSpec("t1", failing, retry=Retry(2, delay=0)))
    job = executor.start_sequence("probe")
    lose(job)
    drain()

    assert failing.attempts == [2, 3]
    rows = job.attempts.order_by("id")
    assert [(row.attempt, row.outcome) for row in rows] == [
        (1, "LOST"),
        (2, "FAILED"),
        (3, "FAILED"),
    ]


def test_on_lost_fail_is_not_run_twice(declare: Declare) -> None:
    """A task that says so fails with its worker, and its error handler is told."""
    task, errors = Seen(), Recorder("alerted")
    declare(TaskSpec("t1", task, on_lost="fail", retry=Retry(5)), error_handler=errors)
    job = executor.start_sequence("probe")
    lose(job)
    drain()

    job.refresh()
    assert (job.status, job.error_result) == ("FAILED", "alerted")
    assert job.error.startswith("t1: lost with ")
    assert task.payloads == []
    ((error, _),) = errors.calls
    assert error.exception_class == "django_tasks_seq.exceptions.WorkerLost"
    assert statuses(job) == {"t1": "FAILED"}


def test_on_lost_fail_shows_itself_before_its_code_runs(declare: Declare) -> None:
    """The RUNNING row of such a task is there when its code begins."""
    seen = []
    declare(
        TaskSpec(
            "t1",
            lambda payload, context: seen.append(statuses(Job.objects.get(pk=context.job_id))),
            on_lost="fail",
        )
    )
    executor.start_sequence("probe")
    drain()

    assert seen == [{"t1": "RUNNING"}]


def test_on_lost_fail_that_had_not_begun_goes_on(declare: Declare) -> None:
    """A loss before the code ran is no reason to fail."""
    task = Seen()
    declare(TaskSpec("t1", task, on_lost="fail"))
    job = executor.start_sequence("probe")
    lose(job, shown=False)
    drain()

    assert len(task.payloads) == 1
    assert job.refresh().status == "SUCCESSFUL"


def test_a_task_that_kills_its_worker_is_failed(
    declare: Declare, configure: Callable[..., None]
) -> None:
    """Lost MAX_CRASHES times as a suspect with its row shown, the job fails."""
    configure(MAX_CRASHES=2)
    task = Seen()
    declare(task)
    job = executor.start_sequence("probe")
    found = []
    for _ in range(3):
        lose(job)
        executor.store().rescue(_decide)
        found.append((job.refresh().status, job.task_statuses.get().crashes))

    assert found == [("READY", 0), ("READY", 1), ("FAILED", 2)]
    assert job.error.endswith("for the 2. time")
    drain()
    assert task.payloads == []


def _decide(snapshot: Any) -> Any:
    return STATUS.lose(snapshot, handler="")


def test_a_success_clears_the_suspicion(declare: Declare) -> None:
    """After its next checkpoint a job that was lost is like any other."""
    seen: list[bool] = []
    declare(same, lambda payload, context: seen.append(Job.objects.get().suspect))
    job = executor.start_sequence("probe")
    lose(job)
    drain()

    assert seen == [False]
    assert job.refresh().status == "SUCCESSFUL"


def test_what_a_dead_worker_still_writes_is_refused(declare: Declare) -> None:
    """A claim that ended with its lease can write nothing once another worker has the job."""
    declare(same, same)
    job = executor.start_sequence("probe")
    claim = lose(job, shown=False)
    drain(max_jobs=1)
    before = list(job.task_statuses.order_by("position").values())

    write = STATUS.complete_task(claim, '"late"', Report(0.1, 0.0), handler="", keep=True)
    applied = executor.store().apply([write], "zombie:1")

    assert applied.lost == {job.id}
    assert list(job.task_statuses.order_by("position").values()) == before


def test_a_person_may_ask_of_a_lost_job(declare: Declare) -> None:
    """A cancel that was asked of a job whose worker is gone is heeded by the next."""
    declare(same)
    job = executor.start_sequence("probe")
    lose(job)
    executor.cancel(job)
    assert job.refresh().requested == "cancel"
    drain()

    assert job.refresh().status == "CANCELLED"
