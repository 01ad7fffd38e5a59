"""How a worker ends when it is told to: promise G8."""

import signal
import time
from pathlib import Path

import pytest
from django.db import transaction

from django_tasks_seq import executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus, Worker
from tests.engines import claim_one
from tests.helpers import wait_until
from tests.process.conftest import Start
from tests.process.ledger import Ledger

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

# What a busy machine may add to a limit.
SLACK = 10.0
both_signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def assert_released(job: Job) -> None:
    """Anyone can claim it at once, and nothing was charged to it."""
    job.refresh()
    assert (job.status, job.lease_until, job.worker_id) == ("READY", None, None)
    assert not TaskAttempt.objects.exists()
    assert not JobEvent.objects.exists()
    assert claim_one().attempt == 1


@both_signals
def test_a_signal_lets_running_tasks_finish(
    start: Start, ledger: Ledger, tmp_path: Path, number: int
) -> None:
    """The task that runs is finished and recorded, nothing new begins, the exit code is 0."""
    running, waiting = executor.start_many("until_file", [{"until": str(tmp_path / "go")}] * 2)
    worker = start("--concurrency=1")
    wait_until(lambda: ledger.lines("call"), what="a running task")

    worker.send_signal(number)
    worker.wait_for_output("Stopping: finishing 1 task")
    (tmp_path / "go").touch()

    assert worker.wait() == 0, worker.output()
    assert "bye:" in worker.output()
    (begun,) = {line.job_id for line in ledger.lines()}
    running, waiting = sorted((running, waiting), key=lambda job: str(job.pk) != begun)
    assert running.refresh().status == "READY"
    assert list(running.task_results()) == ["waits"]
    assert [line.event for line in ledger.lines(job=running)] == ["call", "end"]
    assert waiting.refresh().status == "READY"
    assert not TaskStatus.objects.filter(job=waiting).exists()
    assert Worker.objects.get().stopped_at is not None


@both_signals
def test_a_task_that_heeds_the_stop_is_released(start: Start, ledger: Ledger, number: int) -> None:
    """It costs no attempt, and the next attempt finds its cursor."""
    job = executor.start_sequence("until_stop", {})
    worker = start()
    wait_until(lambda: ledger.lines("call"), what="a running task")

    worker.send_signal(number)

    assert worker.wait() == 0, worker.output()
    job.refresh()
    assert (job.status, job.lease_until) == ("READY", None)
    assert not TaskAttempt.objects.exists()
    again = claim_one()
    assert again.attempt == 1
    assert again.row is not None
    assert int(again.row.cursor or 0) > 0


def test_a_task_that_does_not_end_is_released_at_the_limit(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """The worker leaves at its drain limit, and others can have the job at once."""
    job = executor.start_sequence("until_file", {"until": str(tmp_path / "never")})
    worker = start("--drain-timeout=1")
    wait_until(lambda: ledger.lines("call"), what="a running task")

    asked_at = time.monotonic()
    worker.terminate()

    assert worker.wait(1 + SLACK) == 0, worker.output()
    assert time.monotonic() - asked_at >= 1, "it was given its time"
    assert_released(job)


def test_an_async_task_is_cancelled_at_the_limit(start: Start, ledger: Ledger) -> None:
    """A coroutine that waits is cancelled and its job released."""
    job = executor.start_sequence("async_until_stop", {})
    worker = start("--drain-timeout=0.5")
    wait_until(lambda: ledger.lines("call"), what="a running task")

    worker.terminate()

    assert worker.wait(SLACK) == 0, worker.output()
    assert ledger.lines("cancelled")
    assert_released(job)


@both_signals
def test_a_second_signal_does_not_wait(
    start: Start, ledger: Ledger, tmp_path: Path, number: int
) -> None:
    """The worker leaves at once, long before its limit, and releases what runs."""
    job = executor.start_sequence("until_file", {"until": str(tmp_path / "never")})
    worker = start("--drain-timeout=100")
    wait_until(lambda: ledger.lines("call"), what="a running task")

    worker.send_signal(number)
    worker.wait_for_output("press again to stop now")
    worker.send_signal(number)

    assert worker.wait(SLACK) == 0, worker.output()
    assert_released(job)


def test_leases_are_renewed_while_a_worker_drains(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """A drain of three leases loses no job: nobody rescues it, the task ends in its first attempt."""
    job = executor.start_sequence("until_file", {"until": str(tmp_path / "go")})
    worker = start("--drain-timeout=100", LEASE_SECONDS=1.5)
    wait_until(lambda: ledger.lines("call"), what="a running task")
    other = start("--queues=elsewhere", LEASE_SECONDS=1.5)

    worker.terminate()
    worker.wait_for_output("Stopping")
    asked_with = job.refresh().lease_until
    wait_until(
        lambda: (job.refresh().lease_until - asked_with).total_seconds() > 3 * 1.5, what="renewals"
    )
    (tmp_path / "go").touch()

    assert worker.wait() == 0, worker.output()
    assert other.running
    assert not JobEvent.objects.exists()
    assert len(ledger.lines("call", job)) == 1
    assert list(job.refresh().task_results()) == ["waits"]


@pytest.mark.postgresql
def test_a_held_row_does_not_keep_a_worker_from_ending(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """What cannot be released because somebody holds the row is left to its lease."""
    job = executor.start_sequence("until_file", {"until": str(tmp_path / "never")})
    worker = start("--drain-timeout=0.5", LEASE_SECONDS=2)
    wait_until(lambda: ledger.lines("call"), what="a running task")

    with transaction.atomic():
        Job.objects.select_for_update().get()
        worker.terminate()
        assert worker.wait(0.5 + SLACK) == 0, worker.output()

    assert job.refresh().status == "RUNNING"
    start(LEASE_SECONDS=2)
    wait_until(lambda: len(ledger.lines("call")) == 2, what="the job runs elsewhere")


def test_an_idle_worker_ends_at_once(start: Start) -> None:
    """With nothing in hand a stop is a matter of a moment, whatever the poll interval."""
    worker = start("--drain-timeout=100", POLL_INTERVAL=600)
    worker.wait_for_output("Ctrl+C")

    worker.terminate()

    assert worker.wait(SLACK) == 0
    assert "Stopping" not in worker.output()
