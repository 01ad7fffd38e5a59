"""R12: workers are told to stop again and again, in the middle of tasks of every kind: promise G8.

That leases are renewed while a worker drains, for longer than a lease, and that the first signal
lets tasks finish, is tests/process/test_stopping.py.
"""

import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from django_tasks_seq import executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt
from tests.chaos.evidence import Audit
from tests.chaos.judging import judge
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.zygote import Zygote
from tests.helpers import wait_until
from tests.process.ledger import Ledger

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

# What the table allows a worker after its drain limit, or after a second signal; and a busy machine.
ALLOWED = 1.0
SLACK = sizes().pick(cut=9.0, full=0.0)
SEEN_WITHIN = 5.0


def test_workers_that_are_told_to_stop_leave_nothing_behind(
    zygotes: Callable[..., Zygote], ledger: Ledger, audit: Audit, tmp_path: Path, seed: int
) -> None:
    """Short, stubborn, heedful and async tasks, and handlers: in time, with 0, no claim left, no attempt counted."""
    rounds = sizes().pick(cut=5, full=100)
    rng = random.Random(seed)
    zygote = zygotes(LEASE_SECONDS=5)
    with recorded("R12", seed=seed) as run:
        until = [{"until": str(tmp_path / "go")}] * 2
        stubborn = executor.start_many("until_file", until)
        handled = executor.start_many("slow_handler", until)
        stopped = executor.start_many("until_stop", [{}] * 2)
        stopped += executor.start_many("async_until_stop", [{}] * 2)
        short = []
        late = []
        for number in range(rounds):
            short += executor.start_many("chain", [{"n": n, "seconds": 0.01} for n in range(20)])
            limit = rng.choice((0.0, 0.2, 0.5))
            late.append(stop_one(zygote, ledger, rng, limit, twice=number % 5 == 4))
            assert not Job.objects.filter(status="RUNNING").exists()
            assert not Job.objects.exclude(lease_until=None).exists()
        run.faults = {"stops": rounds}
        assert not TaskAttempt.objects.exists()
        assert not JobEvent.objects.exists()
        assert all(int(job.task_statuses.get().cursor) > 0 for job in stopped[:2])
        let_all_end(zygote, tmp_path / "go", stopped)

        jobs = stubborn + handled + stopped + short
        ends = {str(job.pk): "CANCELLED" for job in stopped}
        # A task that was released is called again: that is what a release is.
        judge(run, ledger, audit, jobs, ends=ends, allowed=["unexplained"])
        run.recovery_p99 = max(late)
        begun = {job.pk: ledger.lines("call", job) for job in stubborn + stopped}
        assert {line.attempt for line in ledger.lines()} == {1}
        assert len(ledger.lines("handler")) > len(handled), "no handler was stopped"
        assert min(map(len, begun.values())) > rounds / 3, "few were there to be stopped"
        assert max(late) <= ALLOWED + SLACK


def stop_one(
    zygote: Zygote, ledger: Ledger, rng: random.Random, limit: float, *, twice: bool
) -> float:
    """Start a worker, stop it at a random moment of its work; how many seconds too late it was gone."""
    enough = calls(ledger) + rng.randrange(7, 60)
    given = 100.0 if twice else limit
    worker = zygote.fork("--concurrency=12", f"--drain-timeout={given}")
    wait_until(lambda: calls(ledger) >= enough, what="tasks that run")
    worker.terminate()
    asked_at, allowed = time.monotonic(), limit
    if twice:
        wait_until(lambda: "press again to stop now" in worker.output(), what="a first stop")
        worker.send_signal(rng.choice((signal.SIGTERM, signal.SIGINT)))
        asked_at, allowed = time.monotonic(), 0.0
    assert worker.wait() == 0, worker.output()
    return time.monotonic() - asked_at - allowed


def calls(ledger: Ledger) -> int:
    """How many calls there were; the ledger is long, and looked at often."""
    return ledger.path.read_text().count("call ") if ledger.path.exists() else 0


def let_all_end(zygote: Zygote, go: Path, stopped: list[Job]) -> None:
    go.touch()
    for job in stopped:
        executor.cancel(job)
    last = zygote.fork("--until-empty")
    assert last.wait() == 0, last.output()


def test_a_cancel_is_seen_within_five_seconds_though_nobody_polls(
    zygotes: Callable[..., Zygote], ledger: Ledger
) -> None:
    """Running tasks learn of it by the renewal of their leases, without polls and notifications."""
    count = sizes().pick(cut=4, full=20)
    with recorded("R12") as run:
        run.jobs, run.faults = count, {"cancels": count}
        jobs = executor.start_many("until_stop", [{}] * count)
        zygotes(POLL_INTERVAL=600, NOTIFY=False).fork(f"--concurrency={count}")
        wait_until(lambda: len(ledger.lines("call")) == count, what="running tasks")

        asked_at = time.monotonic()
        for job in jobs:
            assert executor.cancel(job).requested == "cancel"
        active = Job.objects.active()
        wait_until(lambda: not active.exists(), what="the end of all")
        run.recovery_p99 = time.monotonic() - asked_at

        assert {job.refresh().status for job in jobs} == {"CANCELLED"}
        assert run.recovery_p99 <= SEEN_WITHIN + SLACK
