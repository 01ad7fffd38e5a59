"""A worker killed in its work; and the checker's verdict on a test, written into its record."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from django_tasks_seq.models import Job
from tests.chaos.checker import Fault, Verdict, check
from tests.chaos.evidence import Audit, database_seconds, gather
from tests.chaos.report import Run
from tests.helpers import WorkerProcess, wait_until
from tests.process.ledger import Ledger

# Tasks of "chain" and the like that leave an effect.
ATOMIC = frozenset({"second", "fourth", "last"})


def judge(
    run: Run,
    ledger: Ledger,
    audit: Audit,
    jobs: Iterable[Any],
    *,
    faults: Iterable[Fault] = (),
    allowed: Iterable[str] = (),
    **options: Any,
) -> Verdict:
    """Judge all that was committed, note it in *run*, and fail if anything was wrong.

    *jobs* are those that were started; *allowed* names kinds of findings that are no fault here.
    """
    ids = [str(job.pk) for job in jobs]
    verdict = check(gather(ledger, audit, faults), started=ids, atomic=ATOMIC, **options)
    run.jobs += len(ids)
    run.lost += len(verdict.lost)
    run.doubled += len(verdict.doubled)
    run.out_of_order += len(verdict.out_of_order)
    run.recovery_p99 = verdict.recovery_p99
    wrong = {kind: found for kind, found in verdict.wrong().items() if kind not in set(allowed)}
    assert not wrong, wrong
    return verdict


def kill_while_it_holds(worker: WorkerProcess) -> Fault:
    """SIGKILL a worker in the middle of its work."""
    held = Job.objects.filter(status="RUNNING", worker__pid=worker.pid)
    wait_until(held.exists, what="jobs in its hands")
    killed_at = database_seconds()
    worker.kill()
    assert held.exists(), "it held nothing: the kill has shown nothing"
    return Fault("kill", worker.pid, killed_at)
