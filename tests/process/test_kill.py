"""A worker that is killed: promises G2 to G6."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import Count

from django_tasks_seq import executor
from django_tasks_seq.models import Job, JobEvent, TaskStatus, Worker
from tests.helpers import WorkerProcess, wait_until
from tests.process.ledger import Ledger, database_time, held_by
from tests.testapp.hard_sequences import link
from tests.testapp.models import Effect

# System checks of a worker look at every database.
pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

JOBS = 500
PLAN = ["first", "second", "third", "fourth", "fifth"]
LEASE, POLL = 3.0, 0.5
# What a busy machine may add; the promise itself is one second.
SLACK = 10.0


def expected_chain() -> str:
    chain = ""
    for task_id in PLAN:
        chain = link(chain, task_id)
    return chain


def workers_seen(count: int) -> bool:
    return Worker.objects.filter(stopped_at=None).count() >= count


def successes() -> int:
    return TaskStatus.objects.filter(status="SUCCESSFUL").count()


def test_jobs_of_a_killed_worker_end_elsewhere(
    worker_process: Callable[..., WorkerProcess], ledger: Ledger
) -> None:
    """Two workers, 500 jobs of 5 tasks, one SIGKILL: all end, once each, in order, in time."""
    env = ledger.environment(LEASE_SECONDS=LEASE, POLL_INTERVAL=POLL)
    victim, survivor = (worker_process("--concurrency=8", env=env) for _ in range(2))
    wait_until(lambda: workers_seen(2), what="two workers")
    name = Worker.objects.get(pid=victim.pid).name
    executor.start_many("chain", [{"n": n, "seconds": 0.01} for n in range(JOBS)])
    enough = JOBS * len(PLAN) // 5
    wait_until(lambda: successes() >= enough and held_by(name), what=f"{enough} outcomes")

    victim.kill()
    killed_at = database_time()
    orphans = held_by(name)
    assert orphans, "the victim held nothing: the kill has shown nothing"
    left = Job.objects.exclude(status__in=("SUCCESSFUL", "FAILED"))
    wait_until(lambda: not left.exists(), timeout=90, what="the end of all jobs")

    assert survivor.running
    check_all_ended_once()
    check_effects(ledger, orphans, victim.pid)
    check_recovery(orphans, killed_at)


def check_all_ended_once() -> None:
    assert Counter(Job.objects.values_list("status", flat=True)) == {"SUCCESSFUL": JOBS}
    rows = TaskStatus.objects.values_list("job_id").annotate(n=Count("task_id"))
    assert {n for _, n in rows} == {len(PLAN)}
    assert successes() == JOBS * len(PLAN)
    chains = {job.result["chain"] for job in Job.objects.all()}
    assert chains == {expected_chain()}
    for job in Job.objects.prefetch_related("task_statuses"):
        tasks = sorted(job.task_statuses.all(), key=lambda task: task.position)
        assert [task.task_id for task in tasks] == PLAN
        chain = ""
        for task in tasks:
            chain = link(chain, task.task_id)
            assert task.result == {"n": job.payload["n"], "seconds": 0.01, "chain": chain}


def check_effects(ledger: Ledger, orphans: set[str], victim_pid: int) -> None:
    """Atomic effects once; calls are repeated only where the dead worker's claim was lost."""
    effects = Effect.objects.values_list("job_id", "task_id").annotate(n=Count("id"))
    assert len(effects) == JOBS * 2
    assert {n for _, _, n in effects} == {1}
    calls = ledger.calls()
    assert len(calls) == JOBS * len(PLAN)
    repeated = {job_id for (job_id, _), count in calls.items() if count > 1}
    assert repeated <= orphans
    last_of: dict[str, int] = {}
    for line in ledger.lines("call"):
        position = PLAN.index(line.task_id)
        assert position in (last_of.get(line.job_id, -1), last_of.get(line.job_id, -1) + 1)
        last_of[line.job_id] = position
    assert {line.pid for line in ledger.lines()} > {victim_pid}


def check_recovery(orphans: set[str], killed_at: Any) -> None:
    lost = JobEvent.objects.filter(kind="lost")
    assert {str(event.job_id) for event in lost} == orphans
    latest = max(event.created_at for event in lost)
    assert (latest - killed_at).total_seconds() <= LEASE + POLL + 1 + SLACK
