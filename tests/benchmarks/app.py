"""This app, measured from inside a process of its own: queueing, working, starting, waiting."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import django
from django.core.management import call_command
from django.db import connection

from tests.benchmarks.processes import answer
from tests.benchmarks.tasks_sequences import SEQUENCE

BATCH: Final = 1000
# Long enough for the worker to be idle again before the next job.
GAP: Final = 0.02
GLANCE: Final = 0.001
DEADLINE: Final = 60.0


def migrate() -> None:
    """Make the tables."""
    call_command("migrate", verbosity=0)


def queue(jobs: int) -> None:
    """Start that many jobs."""
    from django_tasks_seq import executor

    for first in range(0, jobs, BATCH):
        executor.start_many(SEQUENCE, [{"count": 0}] * min(BATCH, jobs - first))


def work(concurrency: int, verbosity: int) -> dict[str, Any]:
    """Run `run_task_worker --burst` in this process; what it did, by the database's own times."""
    cpu, began = time.process_time(), time.perf_counter()
    call_command("run_task_worker", burst=True, concurrency=concurrency, verbosity=verbosity)
    spent, took = time.process_time() - cpu, time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {**_outcome(), "cpu_seconds": spent, "worker_seconds": took, "memory_bytes": memory}


def _outcome() -> dict[str, Any]:
    """What is committed, and the time from the first claim to the end of the last task."""
    from django.db.models import F, Max, Min, Window
    from django.db.models.functions import Lag

    from django_tasks_seq.models import Job, TaskStatus

    ended = Job.objects.filter(status="SUCCESSFUL")
    tasks = TaskStatus.objects.filter(status="SUCCESSFUL")
    span = ended.aggregate(began=Min("started_at"), over=Max("finished_at"))
    results: list[Any] = list(ended.values_list("result", flat=True).distinct())
    before = Window(Lag("finished_at"), partition_by=F("job_id"), order_by=F("position").asc())
    return {
        "jobs": ended.count(),
        "outcomes": tasks.count(),
        "results": [result["count"] for result in results],
        "out_of_order": tasks.annotate(before=before).filter(started_at__lt=F("before")).count(),
        "seconds": (span["over"] - span["began"]).total_seconds() if span["began"] else 0.0,
    }


def start(starts: int, many: int) -> dict[str, Any]:
    """Start jobs one by one, each in a transaction of its own, then in batches."""
    from django_tasks_seq import executor

    began = time.perf_counter()
    for _ in range(starts):
        executor.start_sequence(SEQUENCE, {"count": 0})
    one_by_one = starts / (time.perf_counter() - began)
    began = time.perf_counter()
    queue(many)
    return {"one_by_one": one_by_one, "in_batches": many / (time.perf_counter() - began)}


def latency(jobs: int, warm_up: int) -> dict[str, Any]:
    """Start jobs one at a time beside an idle worker: seconds from the commit to their ends.

    *finished* is when the last task ended, by its row; *seen* is when this process found that row,
    committed, which is later by that commit and by up to a glance.
    """
    from django_tasks_seq import executor

    for _ in range(warm_up):
        executor.wait(executor.start_sequence(SEQUENCE, {"count": 0}), DEADLINE)
    ahead, finished, seen = _clock_ahead(), [], []
    for _ in range(jobs):
        time.sleep(GAP)
        job = executor.start_sequence(SEQUENCE, {"count": 0})
        committed = time.time()
        seen.append(_wait_for_the_end(job.id) - committed)
        finished.append(job.refresh().finished_at.timestamp() - ahead - committed)
    return {"finished": finished, "seen": seen}


def _wait_for_the_end(job_id: UUID) -> float:
    deadline = time.time() + DEADLINE
    statement = "SELECT 1 FROM django_tasks_seq_job WHERE id = %s AND finished_at IS NOT NULL"
    with connection.cursor() as cursor:
        while time.time() < deadline:
            cursor.execute(statement, [job_id])
            if cursor.fetchone():
                return time.time()
            time.sleep(GLANCE)
    raise TimeoutError(f"job {job_id} has not ended within {DEADLINE:g} s")


def _clock_ahead() -> float:
    """Seconds that the server's clock is ahead of this one's, by the quickest of some questions."""
    answers = []
    with connection.cursor() as cursor:
        for _ in range(50):
            asked = time.time()
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
            (there,) = cursor.fetchone()
            took = time.time() - asked
            answers.append((took, there - asked - took / 2))
    return float(min(answers)[1])


if __name__ == "__main__":
    django.setup()
    verbs: dict[str, Callable[..., Any]] = {
        "migrate": migrate,
        "queue": queue,
        "work": work,
        "start": start,
        "latency": latency,
    }
    answer(verbs)
