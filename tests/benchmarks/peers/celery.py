"""Celery: a chain with results in Valkey, worked off by eight forked processes; nothing of it is durable."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import json
import os
import signal
import threading
import time
from datetime import datetime
from typing import Any, Final

from celery import Celery, chain, signals

from tests.benchmarks.peers import driving
from tests.servers.tied import die_with_parent

KEY: Final = "celery-task-meta-"
WORKER: Final = (
    "worker",
    "--pool=prefork",
    f"--concurrency={driving.CONCURRENCY}",
    "--loglevel=WARNING",
)

app = Celery("bench", broker=driving.database_url(), backend=driving.database_url())
# The last line of stdout is for whoever runs this.
app.conf.worker_redirect_stdouts = False


@app.task(name="step")
def step(payload: driving.Payload) -> driving.Payload:
    """One task."""
    return driving.noop(payload)


def prepare() -> None:
    """Nothing: the server makes what it is told."""


def queue(jobs: int) -> None:
    """Start that many jobs."""
    for _ in range(jobs):
        _start()


def work(jobs: int) -> dict[str, float]:
    """One worker until the last of so many jobs has ended."""
    used, ready = driving.ProcessorTime(), []

    def when_up(**_: Any) -> None:
        used.begin()
        ready.append(time.time())

    signals.worker_ready.connect(when_up)
    threading.Thread(target=_end_after, args=[jobs * driving.TASKS], daemon=True).start()
    serve()
    return {**used.spent(), "began": ready[0]}


def serve() -> None:
    """One worker until SIGTERM."""
    signals.worker_process_init.connect(_die_with_worker)
    try:
        app.worker_main(WORKER)
    except SystemExit as end:
        if end.code:
            raise


def start(starts: int) -> dict[str, float]:
    """Start jobs one by one."""
    return driving.starts_a_second(_start, starts)


def latency(jobs: int, warm_up: int) -> dict[str, list[float]]:
    """One job at a time."""

    def ended_at(job: str) -> float | None:
        stored = app.backend.client.get(KEY + job)
        return _done_at(json.loads(stored)) if stored else None

    return driving.latencies(_start, ended_at, jobs, warm_up)


def outcome() -> dict[str, Any]:
    """What is in the result backend; it does not say when the first task began."""
    keys = list(app.backend.client.scan_iter(f"{KEY}*", count=1000))
    found = [json.loads(one) for one in app.backend.client.mget(keys)]
    results = [one["result"] for one in found if one["status"] == "SUCCESS"]
    jobs = sum(result["count"] == driving.TASKS for result in results)
    ends = [_done_at(one) for one in found]
    return driving.outcome(jobs, results, 0, max(ends))


def _start() -> str:
    later = [step.s() for _ in range(driving.TASKS - 1)]
    job: str = chain(step.s(driving.first()), *later).apply_async().id
    return job


def _done_at(stored: dict[str, Any]) -> float:
    return datetime.fromisoformat(stored["date_done"]).timestamp()


def _end_after(results: int) -> None:
    """End this process in order when so many results are stored."""
    client = app.backend.client
    while client.dbsize() < results or len(list(client.scan_iter(f"{KEY}*", count=1000))) < results:
        time.sleep(driving.POLL)
    os.kill(os.getpid(), signal.SIGTERM)


def _die_with_worker(**_: Any) -> None:
    die_with_parent(signal.SIGKILL)
