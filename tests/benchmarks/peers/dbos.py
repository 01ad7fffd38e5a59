"""DBOS: a workflow of steps on a queue; eight workflows at a time in one process."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from typing import Any, Final

from dbos import DBOS, DBOSClient, DBOSConfig, EnqueueOptions

from tests.benchmarks.peers import asking, driving

NAME: Final = "bench"
QUEUE: Final = "bench"
DRAIN_SECONDS: Final = 30
CONFIG: Final = DBOSConfig(
    name=NAME,
    system_database_url=driving.database_url().replace("postgres://", "postgresql://", 1),
    application_version="1",
    executor_id="worker",
    log_level="WARNING",
)

ended = driving.Countdown()


@DBOS.step()
def step(payload: driving.Payload) -> driving.Payload:
    """One task."""
    return driving.noop(payload)


@DBOS.workflow()
def noop(payload: driving.Payload) -> driving.Payload:
    """One job."""
    for _ in range(driving.TASKS):
        payload = step(payload)
    return ended.note(payload)


def prepare() -> None:
    """The schema, by the first launch, and the queue."""
    _launch()
    DBOS.destroy()


def queue(jobs: int) -> None:
    """Start that many jobs."""
    client = _client()
    for _ in range(jobs):
        _start(client)


def work(jobs: int) -> dict[str, float]:
    """One worker until the last of so many jobs has ended."""
    done = threading.Event()
    ended.expect(jobs, done.set)
    used = driving.ProcessorTime()
    _work(done, used.begin)
    return used.spent()


def serve() -> None:
    """One worker until SIGTERM."""
    done = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: done.set())
    _work(done)


def start(starts: int) -> dict[str, float]:
    """Start jobs one by one."""
    client = _client()
    return driving.starts_a_second(lambda: _start(client), starts)


def latency(jobs: int, warm_up: int) -> dict[str, list[float]]:
    """One job at a time."""
    client = _client()
    statement = (
        "SELECT completed_at / 1000.0::float8 FROM dbos.workflow_status"
        " WHERE workflow_uuid = %s AND completed_at IS NOT NULL"
    )
    with asking.watching(statement) as ended_at:
        return driving.latencies(lambda: _start(client), ended_at, jobs, warm_up)


def outcome() -> dict[str, Any]:
    """The steps' outputs are the results."""
    client = _client()
    successful = client.list_workflows(status="SUCCESS", load_output=True)
    jobs = [one.workflow_id for one in successful if one.output["count"] == driving.TASKS]
    results = [one["output"] for job in jobs for one in client.list_workflow_steps(job)]
    with asking.questions() as ask:
        ((began, over),) = ask(
            "SELECT min(started_at_epoch_ms) / 1000.0::float8, max(completed_at) / 1000.0::float8"
            " FROM dbos.workflow_status"
        )
    return driving.outcome(len(jobs), results, began, over)


def _launch() -> None:
    DBOS(config=CONFIG)
    DBOS.launch()
    DBOS.register_queue(
        QUEUE, worker_concurrency=driving.CONCURRENCY, polling_interval_sec=driving.POLL
    )


def _work(done: threading.Event, when_up: Callable[[], object] = int) -> None:
    _launch()
    when_up()
    done.wait(driving.DEADLINE)
    DBOS.destroy(workflow_completion_timeout_sec=DRAIN_SECONDS)


def _client() -> DBOSClient:
    return DBOSClient(system_database_url=CONFIG["system_database_url"], application_name=NAME)


def _start(client: DBOSClient) -> str:
    options = EnqueueOptions(queue_name=QUEUE, workflow_name=noop.__qualname__)
    job: str = client.enqueue(options, driving.first()).workflow_id
    return job
