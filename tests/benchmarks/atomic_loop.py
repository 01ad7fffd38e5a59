"""What an atomic task must cost: a row by the ORM and an outcome under the fence, in one transaction.

A bare loop on threads: no claims, no leases, no retries. On this app's own tables, so that
the same rows with the same indexes are written.
"""

from __future__ import annotations

import json
import threading
import time
from queue import Empty, SimpleQueue
from typing import Any, Final
from uuid import UUID

import django
from django.db import connection, transaction

from tests.benchmarks.processes import answer
from tests.benchmarks.tasks_sequences import FILLER, TASKS, noop

FENCE: Final = """
    SELECT 1 FROM django_tasks_seq_job WHERE id = %s AND claim_token = 1 AND status = 'RUNNING'
    FOR NO KEY UPDATE"""
INSERT: Final = """
    INSERT INTO django_tasks_seq_taskstatus
      (job_id, task_id, position, status, attempts, result, worker_name, started_at, finished_at)
    VALUES (%s, %s, %s, 'SUCCESSFUL', 1, %s, 'bare', clock_timestamp(), clock_timestamp())"""
CLAIM: Final = """
    UPDATE django_tasks_seq_job SET status = 'RUNNING', claim_token = 1,
      lease_until = clock_timestamp() + interval '1 hour'
    RETURNING id"""


def work(threads: int) -> dict[str, Any]:
    """Run all jobs that are queued on so many threads."""
    from tests.benchmarks.models import Entry

    todo: SimpleQueue[UUID] = SimpleQueue()
    with connection.cursor() as cursor:
        cursor.execute(CLAIM)
        for (job_id,) in cursor.fetchall():
            todo.put(job_id)
    jobs = todo.qsize()
    every = [threading.Thread(target=_run, args=(todo,)) for _ in range(threads)]
    began = time.perf_counter()
    for thread in every:
        thread.start()
    for thread in every:
        thread.join()
    took = time.perf_counter() - began
    return {"jobs": jobs, "outcomes": outcomes(), "rows": Entry.objects.count(), "seconds": took}


def outcomes() -> int:
    """How many are committed."""
    from django_tasks_seq.models import TaskStatus

    return TaskStatus.objects.count()


def _run(todo: SimpleQueue[UUID]) -> None:
    try:
        while True:
            job_id = todo.get_nowait()
            payload: dict[str, Any] = {"count": 0}
            for position in range(TASKS):
                payload = _write(job_id, position, payload)
    except Empty:
        return
    finally:
        connection.close()


def _write(job_id: UUID, position: int, payload: dict[str, Any]) -> dict[str, Any]:
    from tests.benchmarks.models import Entry

    task_id = f"task_{position}"
    with transaction.atomic(), connection.cursor() as cursor:
        Entry.objects.create(job_id=job_id, task_id=task_id, text=FILLER)
        result = noop(payload)
        cursor.execute(FENCE, [job_id])
        if cursor.fetchone() is None:
            raise AssertionError(f"job {job_id} is not held")
        cursor.execute(INSERT, [job_id, task_id, position, json.dumps(result)])
    return result


if __name__ == "__main__":
    django.setup()
    answer({"work": work})
