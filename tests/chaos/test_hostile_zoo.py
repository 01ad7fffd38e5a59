"""R13: whatever a task does to its worker, the job behind it is done at once, by the same worker."""

from pathlib import Path
from typing import Any

import pytest

from django_tasks_seq import executor
from django_tasks_seq.models import Job, TaskAttempt
from tests.chaos.report import Run, recorded
from tests.chaos.sizes import sizes
from tests.helpers import WorkerProcess, wait_until
from tests.process.ledger import Ledger
from tests.testapp.hostile import ZOO, Behaviour
from tests.testapp.models import Account, Effect

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

# Seconds until a canary must have ended; the smaller run shares its machine with other tests.
WITHIN = sizes().pick(cut=10.0, full=2.0)
ERROR_BYTES = 64 * 1024
CANARY = {"exact": [1e16, -0.0, "ü"]}


def test_the_job_behind_each_hostile_job_is_done(
    worker_process: Any, ledger: Ledger, tmp_path: Path
) -> None:
    """One worker, all behaviours one after the other, what they changed left changed; then it stops."""
    env = ledger.environment(
        POLL_INTERVAL=0.05, STOP_GRACE=0.1, HANDLER_ATTEMPTS=1, TIMEOUT=1.0, LEASE_SECONDS=30
    )
    with recorded("R13") as run:
        run.figures["slowest_canary"] = 0.0
        worker = worker_process("--concurrency=3", "--drain-timeout=5", env=env)
        for behaviour in ZOO:
            _pair(run, worker, behaviour, tmp_path / behaviour.name)
        run.faults = {"behaviours": len(ZOO)}
        _check_errors()
        assert not Account.objects.filter(name="left open").exists()
        worker.terminate()
        assert worker.wait() == 0, worker.output()


def _pair(run: Run, worker: WorkerProcess, behaviour: Behaviour, until: Path) -> None:
    """A hostile job, and the canary behind it."""
    job = executor.start_sequence(behaviour.name, {"until": str(until)})
    wait_until(lambda: _is_settled(job), what=f"the end of {behaviour.name}")
    canary = executor.start_sequence("hostile_canary", CANARY)
    run.jobs += 2
    found = _wait_for(canary, worker, behaviour)
    until.touch()

    assert _outcome(job) == behaviour.status, behaviour
    assert behaviour.error in (_error(job) or ""), behaviour
    ended = (found.status, found.result, found.error, found.handler_error)
    assert ended == ("SUCCESSFUL", CANARY, "", ""), behaviour
    effects = sorted(Effect.objects.filter(job_id=found.pk).values_list("task_id", flat=True))
    assert effects == ["atomic", "awaits", "writes"], behaviour
    took = (found.finished_at - found.created_at).total_seconds()
    run.figures["slowest_canary"] = max(run.figures["slowest_canary"], took)


def _wait_for(canary: Job, worker: WorkerProcess, behaviour: Behaviour) -> Job:
    def settled() -> bool:
        assert worker.running, f"{behaviour.name} has ended the worker:\n{worker.output()}"
        return _is_settled(canary)

    wait_until(settled, WITHIN, f"the canary behind {behaviour.name}")
    return canary.refresh()


def _is_settled(job: Job) -> bool:
    found = Job.objects.filter(pk=job.pk).first()
    return found is None or found.is_settled


def _outcome(job: Job) -> str:
    return Job.objects.filter(pk=job.pk).values_list("status", flat=True).first() or "gone"


def _error(job: Job) -> str | None:
    return Job.objects.filter(pk=job.pk).values_list("error", flat=True).first()


def _check_errors() -> None:
    """No text of an error is longer than it may be, and each that failed has one."""
    attempts = list(TaskAttempt.objects.all())
    assert len(attempts) >= sum(one.status == "FAILED" for one in ZOO)
    for attempt in attempts:
        for text in (attempt.message, attempt.traceback, attempt.exception_class):
            assert len(text.encode()) <= ERROR_BYTES
        assert attempt.exception_class
    assert all(
        len(error.encode()) <= ERROR_BYTES for error in Job.objects.values_list("error", flat=True)
    )


def test_the_zoo_is_large_enough() -> None:
    """At least the 35 behaviours of the bar, each once."""
    assert len({behaviour.name for behaviour in ZOO}) == len(ZOO) >= 35
