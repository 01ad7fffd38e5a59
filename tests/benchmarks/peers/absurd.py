"""absurd: a task whose steps are checkpoints, worked off by eight threads of one worker."""

# mypy: disable-error-code="import-not-found"

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from absurd_sdk import Absurd

from tests.benchmarks.peers import asking, driving

TASK: Final = "noop"

ended = driving.Countdown()


def prepare() -> None:
    """The schema, by the project's own command, which needs psql, and the queue."""
    program = str(Path(sys.executable).with_name("absurdctl"))
    subprocess.run([program, "init", "-d", driving.database_url()], check=True, timeout=60)
    _client().create_queue()


def queue(jobs: int) -> None:
    """Start that many jobs."""
    client = _client()
    for _ in range(jobs):
        client.spawn(TASK, driving.first())


def work(jobs: int) -> dict[str, float]:
    """One worker until the last of so many jobs has ended."""
    client = _client()
    ended.expect(jobs, client.stop_worker)
    used = driving.ProcessorTime()
    _work(client)
    return used.spent()


def serve() -> None:
    """One worker until SIGTERM."""
    client = _client()
    signal.signal(signal.SIGTERM, lambda *_: client.stop_worker())
    _work(client)


def start(starts: int) -> dict[str, float]:
    """Start jobs one by one."""
    client = _client()
    return driving.starts_a_second(lambda: client.spawn(TASK, driving.first()), starts)


def latency(jobs: int, warm_up: int) -> dict[str, list[float]]:
    """One job at a time."""
    client = _client()
    statement = (
        "SELECT extract(epoch FROM completed_at)::float8 FROM absurd.r_default"
        " WHERE task_id = %s AND completed_at IS NOT NULL"
    )
    with asking.watching(statement) as ended_at:
        return driving.latencies(
            lambda: str(client.spawn(TASK, driving.first())["task_id"]), ended_at, jobs, warm_up
        )


def outcome() -> dict[str, Any]:
    """Checkpoints are the results; a task that ended has the last one as its own."""
    with asking.questions() as ask:
        states = ask("SELECT state FROM absurd.c_default WHERE status = 'committed'")
        ((jobs,),) = ask(
            "SELECT count(*) FROM absurd.t_default"
            " WHERE state = 'completed' AND (completed_payload ->> 'count')::int = %s",
            driving.TASKS,
        )
        ((began, over),) = ask(
            "SELECT extract(epoch FROM min(started_at))::float8,"
            " extract(epoch FROM max(completed_at))::float8 FROM absurd.r_default"
        )
    return driving.outcome(jobs, [state for (state,) in states], began, over)


def _noop(payload: driving.Payload, context: Any) -> driving.Payload:
    for number in range(driving.TASKS):
        payload = context.step(f"task_{number}", lambda given=payload: driving.noop(given))
    return ended.note(payload)


def _client() -> Absurd:
    client = Absurd(driving.database_url())
    client.register_task(name=TASK)(_noop)
    return client


def _work(client: Absurd) -> None:
    client.start_worker(concurrency=driving.CONCURRENCY, poll_interval=driving.POLL)
