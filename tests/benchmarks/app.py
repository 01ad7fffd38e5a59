"""This app, measured from inside a process of its own: queueing, working, starting, waiting."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

import django
from django.core.management import call_command
from django.db import connection, transaction

from tests.benchmarks.processes import answer, wait_for_the_others
from tests.benchmarks.tasks_sequences import HEAVY, SEQUENCE

BATCH: Final = 1000
# Long enough for the worker to be idle again before the next job.
GAP: Final = 0.02
GLANCE: Final = 0.001
POLL: Final = 0.05
DEADLINE: Final = 60.0
LONG_DEADLINE: Final = 500.0
# Rows of a made-up history are older than this.
AGE: Final = timedelta(hours=1)

Payload = dict[str, Any]


def migrate() -> None:
    """Make the tables."""
    call_command("migrate", run_syncdb=True, verbosity=0)


def queue(jobs: int, sequence: str = SEQUENCE, payload: Payload | None = None) -> None:
    """Start that many jobs."""
    from django_tasks_seq import executor

    payload = {"count": 0, **(payload or {})}
    for first in range(0, jobs, BATCH):
        executor.start_many(sequence, [payload] * min(BATCH, jobs - first))


def work(sequence: str = SEQUENCE, first: int = 0, **options: Any) -> dict[str, Any]:
    """Run `run_task_worker` in this process until nothing is due; what it did, by the database's own times."""
    options = {"burst": "max_jobs" not in options, "verbosity": 0, **options}
    cpu, began = time.process_time(), time.perf_counter()
    call_command("run_task_worker", **options)
    spent, took = time.process_time() - cpu, time.perf_counter() - began
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    found = outcome(sequence, first)
    return {**found, "cpu_seconds": spent, "worker_seconds": took, "memory_bytes": memory}


def outcome(sequence: str, first: int = 0) -> dict[str, Any]:
    """What is committed, and the time from the first claim to the end of the last task.

    *first_seconds* is the same for so many tasks as the first so many jobs have: when those jobs have
    ended, others have been run beside them, whose tasks are done as well.
    """
    from django.db.models import F, Max, Min, Window
    from django.db.models.functions import Lag

    from django_tasks_seq.models import Job, TaskStatus

    ended = Job.objects.filter(status="SUCCESSFUL", sequence=sequence)
    span = ended.aggregate(began=Min("started_at"), over=Max("finished_at"))
    if span["began"] is None:
        return {"jobs": 0, "outcomes": 0}
    tasks = TaskStatus.objects.filter(status="SUCCESSFUL", started_at__gt=span["began"] - AGE)
    results: list[Any] = list(ended.values_list("result", flat=True).distinct())
    before = Window(Lag("finished_at"), partition_by=F("job_id"), order_by=F("position").asc())
    found = {
        "jobs": ended.count(),
        "outcomes": tasks.count(),
        "results": [result["count"] for result in results],
        "out_of_order": tasks.annotate(before=before).filter(started_at__lt=F("before")).count(),
        "seconds": (span["over"] - span["began"]).total_seconds(),
    }
    if first and found["jobs"] >= first:
        ends = tasks.order_by("finished_at").values_list("finished_at", flat=True)
        many = first * found["outcomes"] // found["jobs"]
        found["first_seconds"] = (ends[many - 1] - span["began"]).total_seconds()
    return found


def drive(
    workers: int,
    jobs: int,
    sequence: str = SEQUENCE,
    payload: Payload | None = None,
    then_single: int = 0,
) -> dict[str, Any]:
    """Wait for so many workers, commit all jobs at once, wait for the last one's end; then one at a time."""
    from django_tasks_seq.models import Job

    _wait_for(workers)
    with transaction.atomic():
        queue(jobs, sequence, payload)
    _wait_until(
        "the jobs have not ended", lambda: not Job.objects.filter(finished_at=None).exists()
    )
    found = outcome(sequence)
    return {**found, **latency(then_single, 1, sequence, payload)} if then_single else found


def weigh(workers: int, jobs: int, text: int, small: int) -> dict[str, Any]:
    """The same with heavy jobs behind small ones: the most that running jobs' payloads come to."""
    from django_tasks_seq.models import Job

    heaviest = 0
    statement = (
        "SELECT coalesce(sum(octet_length(payload)), 0), count(*)"
        f" FROM {Job._meta.db_table} WHERE status = 'RUNNING'"
    )

    def look() -> bool:
        nonlocal heaviest
        with connection.cursor() as cursor:
            cursor.execute(statement)
            (weight, running) = cursor.fetchone()
        heaviest = max(heaviest, weight)
        return not running and not Job.objects.filter(finished_at=None).exists()

    _wait_for(workers)
    with transaction.atomic():
        queue(small)
        queue(jobs, HEAVY, {"seconds": 0.05, "text": "x" * text})
    _wait_until("the heavy jobs have not ended", look, GLANCE)
    ended = Job.objects.filter(status="SUCCESSFUL").values_list("sequence", flat=True)
    return {"jobs": ended.count(), "bytes_in_hand": heaviest}


def start(starts: int, many: int) -> dict[str, Any]:
    """Start jobs one by one, each in a transaction of its own, then in batches."""
    return {"one_by_one": _start_one_by_one(starts), "in_batches": _start_in_batches(many)}


def _start_one_by_one(starts: int) -> float:
    from django_tasks_seq import executor

    began = time.perf_counter()
    for _ in range(starts):
        executor.start_sequence(SEQUENCE, {"count": 0})
    return starts / (time.perf_counter() - began)


def _start_in_batches(many: int) -> float:
    began = time.perf_counter()
    queue(many)
    return many / (time.perf_counter() - began)


def start_beside_others(seconds: float) -> dict[str, Any]:
    """Start jobs one by one for so many seconds, beside other processes that do the same."""
    from django_tasks_seq import executor

    executor.start_sequence(SEQUENCE, {"count": 0})
    wait_for_the_others()
    starts, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        executor.start_sequence(SEQUENCE, {"count": 0})
        starts += 1
    return {"starts": starts, "starts_per_second": starts / took}


def latency(
    jobs: int, warm_up: int, sequence: str = SEQUENCE, payload: Payload | None = None
) -> dict[str, Any]:
    """Start jobs one at a time beside an idle worker: seconds from the commit to their ends.

    *finished* is when the last task ended, by its row; *seen* is when this process found that row,
    committed, which is later by that commit and by up to a glance.
    """
    from django_tasks_seq import executor

    payload = {"count": 0, **(payload or {})}
    for _ in range(warm_up):
        executor.wait(executor.start_sequence(sequence, payload), DEADLINE)
    ahead, finished, seen = _clock_ahead(), [], []
    for _ in range(jobs):
        time.sleep(GAP)
        job = executor.start_sequence(sequence, payload)
        committed = time.time()
        seen.append(_wait_for_the_end(job.id) - committed)
        finished.append(job.refresh().finished_at.timestamp() - ahead - committed)
    return {"finished": finished, "seen": seen}


def _wait_for(workers: int) -> None:
    from django_tasks_seq.models import Worker

    here = Worker.objects.filter(stopped_at=None)
    _wait_until(f"{workers} workers have not come up", lambda: here.count() >= workers)


def _wait_until(what: str, holds: Callable[[], bool], pause: float = POLL) -> None:
    deadline = time.monotonic() + LONG_DEADLINE
    while not holds():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} within {LONG_DEADLINE:g} s")
        time.sleep(pause)


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
        "drive": drive,
        "weigh": weigh,
        "start": start,
        "start_beside_others": start_beside_others,
        "latency": latency,
    }
    answer(verbs)
