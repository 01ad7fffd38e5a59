"""Procrastinate: each task defers the next; one asynchronous worker with eight jobs at a time.

It stores no results. A task's result is stored as the argument of the next; the last one's is not.
"""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import asyncio
import os
import signal
import uuid
from typing import Any

from procrastinate import App, PsycopgConnector

from tests.benchmarks.peers import asking, driving

app = App(connector=PsycopgConnector(conninfo=driving.database_url()))
ended = driving.Countdown()


@app.task(name="step")
async def step(job: str, payload: driving.Payload) -> driving.Payload:
    """One task; the job's id is for whoever waits for the last."""
    result = driving.noop(payload)
    if result["count"] < driving.TASKS:
        await step.defer_async(job=job, payload=result)
    return ended.note(result)


def prepare() -> None:
    """The schema."""
    with app.open():
        app.schema_manager.apply_schema()


def queue(jobs: int) -> None:
    """Start that many jobs."""
    with app.open():
        for _ in range(jobs):
            _start()


def work(jobs: int) -> dict[str, float]:
    """One worker until the last of so many jobs has ended."""
    ended.expect(jobs, lambda: os.kill(os.getpid(), signal.SIGTERM))
    used = driving.ProcessorTime()
    serve()
    return used.spent()


def serve() -> None:
    """One worker until SIGTERM."""

    # It listens for new jobs and yet misses some that come while it fetches, such as a running
    # task's next one; those wait for the next poll: with the default, five seconds.
    async def run() -> None:
        async with app.open_async():
            await app.run_worker_async(
                concurrency=driving.CONCURRENCY, fetch_job_polling_interval=driving.POLL
            )

    asyncio.run(run())


def start(starts: int) -> dict[str, float]:
    """Start jobs one by one."""
    with app.open():
        return driving.starts_a_second(_start, starts)


def latency(jobs: int, warm_up: int) -> dict[str, list[float]]:
    """One job at a time."""
    statement = (
        "SELECT extract(epoch FROM at)::float8 FROM procrastinate_events"
        " JOIN procrastinate_jobs AS job ON job.id = job_id AND type = 'succeeded'"
        " WHERE args ->> 'job' = %s AND (args #>> '{payload,count}')::int = %s"
    )
    with app.open(), asking.watching(statement, driving.TASKS - 1) as ended_at:
        return driving.latencies(_start, ended_at, jobs, warm_up)


def outcome() -> dict[str, Any]:
    """A task that succeeded has counted on from its argument."""
    with asking.questions() as ask:
        tasks = ask("SELECT args FROM procrastinate_jobs WHERE status = 'succeeded'")
        ((began, over),) = ask(
            "SELECT extract(epoch FROM min(at) FILTER (WHERE type = 'started'))::float8,"
            " extract(epoch FROM max(at) FILTER (WHERE type = 'succeeded'))::float8"
            " FROM procrastinate_events"
        )
    results = [(args["job"], driving.noop(args["payload"])) for (args,) in tasks]
    jobs = {job for job, result in results if result["count"] == driving.TASKS}
    return driving.outcome(len(jobs), [result for _, result in results], began, over)


def _start() -> str:
    job = str(uuid.uuid4())
    step.defer(job=job, payload=driving.first())
    return job
