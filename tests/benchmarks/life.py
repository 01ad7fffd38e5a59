"""Jobs over their whole life: run turn by turn, kept, pruned; failed, cancelled, carried by their caller."""

from __future__ import annotations

import time
from typing import Any, Final

import django
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from tests.benchmarks.app import outcome, queue
from tests.benchmarks.processes import answer
from tests.benchmarks.tasks_sequences import CARRIED, SEQUENCE

# By its thresholds autovacuum would come about as often; it wakes once a minute.
VACUUM: Final = "VACUUM django_tasks_seq_job, django_tasks_seq_taskstatus"
# Behind one, the first change of each page logs the page as a whole.
CHECKPOINT: Final = "CHECKPOINT"


def turn(
    jobs: int, turns: int, concurrency: int, kept: int | None = None, is_old: bool = False
) -> dict[str, Any]:
    """*turns* times: queue so many jobs, work, prune all but the newest *kept* or so, vacuum.

    With *is_old* as if each followed long after the other. Returns what is there then, and how many
    jobs were pruned.
    """
    pruned = 0
    for _ in range(turns):
        queue(jobs)
        call_command("run_task_worker", burst=True, verbosity=0, concurrency=concurrency)
        with connection.cursor() as cursor:
            if is_old:
                cursor.execute(CHECKPOINT)
            if kept is not None:
                pruned += prune(kept)["jobs"]
            if is_old:
                cursor.execute(CHECKPOINT)
            cursor.execute(VACUUM)
    return {**outcome(SEQUENCE), "pruned": pruned}


def prune(kept: int = 0) -> dict[str, Any]:
    """Delete all jobs but the newest *kept*, by their age, without a rest.

    *seconds* is what that took, *worker_seconds* what it takes a worker, which rests between batches.
    """
    from django_tasks_seq import executor
    from django_tasks_seq.cache.retention import Prunable
    from django_tasks_seq.engine.pruning import REST
    from django_tasks_seq.models import Job
    from django_tasks_seq.pruning import Pruner

    ends = Job.objects.order_by("-finished_at").values_list("finished_at", flat=True)
    age = (timezone.now() - ends[kept]).total_seconds()
    pruner, locked = Pruner(executor.store(), Prunable(age)), 0.0
    began = time.perf_counter()
    while pruner.batch():
        locked += pruner.last
    took = time.perf_counter() - began
    rested = took + REST * locked
    return {"jobs": pruner.jobs, "tasks": pruner.tasks, "seconds": took, "worker_seconds": rested}


def cancel(jobs: int) -> None:
    """Start jobs and cancel each, as a person does."""
    from django_tasks_seq import executor
    from django_tasks_seq.models import Job

    queue(jobs)
    for job in Job.objects.filter(finished_at=None):
        executor.cancel(job, by="alice@example.com", reason="asked for by the customer")


def carry(jobs: int) -> dict[str, Any]:
    """Start jobs one by one whose tasks this process carries itself."""
    from django_tasks_seq import executor

    for _ in range(jobs):
        executor.start_sequence(CARRIED, {"count": 0})
    return outcome(CARRIED)


if __name__ == "__main__":
    django.setup()
    answer({"turn": turn, "prune": prune, "cancel": cancel, "carry": carry})
