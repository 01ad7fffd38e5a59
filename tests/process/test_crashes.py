"""Tasks and handlers that end their worker: promises G9 and G11."""

import signal
from pathlib import Path
from typing import Any

import pytest

from django_tasks_seq import executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from tests.helpers import WorkerProcess, wait_until
from tests.process.conftest import Start
from tests.process.ledger import Ledger, held_by

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

LEASE = 1.0


def work_until_settled(start: Start, job: Any, limit: int, *args: str, **settings: Any) -> int:
    """Start one worker after the other, as a supervisor does; how many of them were killed."""
    for deaths in range(limit + 1):
        worker = start(*args, LEASE_SECONDS=LEASE, **settings)
        wait_until(lambda: not worker.running or job.refresh().is_settled, 60, "an end")  # noqa: B023
        if job.is_settled:
            return deaths
        assert worker.wait() == -signal.SIGKILL, worker.output()
    raise AssertionError(f"more than {limit} workers were killed")


def test_a_task_that_kills_its_workers_fails(start: Start, ledger: Ledger) -> None:
    """After MAX_CRASHES counted losses; the first loss shows no RUNNING row and proves nothing."""
    job = executor.start_sequence("poison", {"times": 99})

    deaths = work_until_settled(start, job, 6)

    assert deaths == 4
    assert job.status == "FAILED"
    assert job.error.startswith("dies: lost with")
    assert "for the 3. time" in job.error
    # The first call left no row, so nobody can know that it was an attempt.
    assert [line.attempt for line in ledger.lines("call", job)] == [1, 1, 2, 3]
    assert set(TaskAttempt.objects.values_list("attempt", "outcome")) == {
        (1, "LOST"), (2, "LOST"), (3, "LOST")
    }  # fmt: skip


def test_neighbours_of_a_deadly_task_are_unharmed(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """Jobs in hand with it lose their worker time and again, are run again, and succeed."""
    executor.start_many("chain", [{"n": n, "seconds": 0.05} for n in range(12)])
    poison = executor.start_sequence("poison", {"times": 99}, priority=1)
    executor.start_many("chain", [{"n": n, "seconds": 0.05} for n in range(12)])

    work_until_settled(start, poison, 6, "--concurrency=2")
    neighbours = Job.objects.exclude(pk=poison.pk)
    wait_until(lambda: not neighbours.exclude(status="SUCCESSFUL").exists(), 60, "the others")

    assert poison.status == "FAILED"
    assert (
        TaskStatus.objects.exclude(job_id=poison.pk).filter(status="SUCCESSFUL").count() == 24 * 5
    )
    assert not Job.objects.exclude(pk=poison.pk).filter(status="FAILED").exists()


def test_a_task_that_killed_its_worker_by_accident_goes_on(start: Start, ledger: Ledger) -> None:
    """One loss costs nothing: with one allowed attempt the job still ends well."""
    job = executor.start_sequence("poison", {"times": 1})

    # The first call leaves no row behind, so the second is attempt 1 again, and deadly.
    deaths = work_until_settled(start, job, 3)

    assert deaths == 2
    assert job.status == "SUCCESSFUL"
    assert list(job.task_results()) == ["dies", "after"]
    assert [line.attempt for line in ledger.lines("call", job)][:3] == [1, 1, 2]


def test_a_task_that_must_not_run_twice_is_failed_when_lost(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """`on_lost="fail"`: its RUNNING row is committed before its code runs, and a loss ends the job."""
    job = executor.start_sequence("once", {"until": str(tmp_path / "never")})
    worker = start(LEASE_SECONDS=LEASE)
    wait_until(lambda: ledger.lines("call"), what="the call")
    assert TaskStatus.objects.get().status == "RUNNING"

    worker.kill()
    start(LEASE_SECONDS=LEASE)
    wait_until(lambda: job.refresh().is_settled, what="the end of the job")

    assert job.status == "FAILED"
    assert len(ledger.lines("call", job)) == 1
    assert TaskStatus.objects.get().status == "FAILED"


def test_a_success_handler_is_run_though_its_worker_died(start: Start, ledger: Ledger) -> None:
    """Between the end of the job and the end of its handler the worker dies; another runs the handler."""
    job = executor.start_sequence("success_killer", {})

    deaths = work_until_settled(start, job, 1)

    assert deaths == 1
    assert job.status == "SUCCESSFUL"
    assert len(ledger.lines("call", job)) == 1
    assert [line.attempt for line in ledger.lines("handler", job)] == [1, 2]
    assert job.handler_error == ""


def test_a_handler_that_kills_its_workers_is_given_up(start: Start, ledger: Ledger) -> None:
    """After HANDLER_ATTEMPTS it is kept as an error of the handler; the outcome of the job stands."""
    job = executor.start_sequence("error_killer", {})

    deaths = work_until_settled(start, job, 4, HANDLER_ATTEMPTS=2)

    assert deaths == 2
    assert job.status == "FAILED"
    assert "it always fails" in job.error
    assert "error" in job.handler_error
    assert len(ledger.lines("handler", job)) == 2


def test_the_last_attempt_of_a_suspect_runs_alone(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """One more loss would fail the task, so nothing else is in the process when it begins."""
    job = executor.start_sequence("until_file", {"until": str(tmp_path / "go")})
    # As if it had been lost before, MAX_CRASHES - 1 of them with its RUNNING row.
    Job.objects.filter(pk=job.pk).update(suspect=True)
    TaskStatus.objects.create(job=job, task_id="waits", position=0, status="READY", crashes=2)
    others = executor.start_many("chain", [{"n": n, "seconds": 0.02} for n in range(20)])
    worker = start("--concurrency=4")
    wait_until(lambda: ledger.lines("call", job), what="the suspect runs")

    def held() -> set[str]:
        return held_by(f"{worker_name(worker)}")

    assert held() == {str(job.pk)}
    before = len(ledger.lines("call"))
    beat = job.refresh().worker.heartbeat_at
    wait_until(lambda: job.refresh().worker.heartbeat_at > beat, what="a beat")
    assert len(ledger.lines("call")) == before
    (tmp_path / "go").touch()
    wait_until(
        lambda: {one.refresh().status for one in [job, *others]} == {"SUCCESSFUL"}, what="all"
    )
    assert not JobEvent.objects.exists()


def worker_name(worker: WorkerProcess) -> str:
    from django_tasks_seq.models import Worker

    return Worker.objects.get(pid=worker.pid).name
