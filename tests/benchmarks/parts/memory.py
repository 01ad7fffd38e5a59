"""P9: what a worker process needs, whether it grows, and what it takes in hand of heavy jobs."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import APP, CONCURRENCY, MB, Figures, Measurement, counted
from tests.benchmarks.processes import RunFailedError, measure, worker
from tests.benchmarks.tasks_sequences import TASKS


def measurements(bench: Bench) -> Iterator[Measurement]:
    """A long run of light jobs, and heavy ones behind light ones."""
    of = partial(Measurement, "memory", APP, bench.vendor)
    yield of("long run", lambda: _long_run(bench))
    yield of("heavy payloads", lambda: _heavy(bench))


def _long_run(bench: Bench) -> Figures:
    """A quarter of the tasks warms up; what the whole number then adds is the growth."""
    jobs = bench.sizes.memory_tasks // TASKS
    done, sizes = 0, []
    with bench.fresh(bench.migrated) as url, worker(url, f"--concurrency={CONCURRENCY}") as process:
        for more in (jobs // 4, jobs):
            found = measure("app", "drive", url, workers=1, jobs=more)
            done += more
            counted(found, done, TASKS)
            sizes.append(_resident(process.pid))
    return {"rss_mb": sizes[1] / MB, "growth_mb": (sizes[1] - sizes[0]) / MB}


def _heavy(bench: Bench) -> Figures:
    """Light jobs teach the worker to take hundreds at a time; then come the heavy ones."""
    sizes = bench.sizes
    small, jobs = sizes.small_backlog_jobs, sizes.large_jobs
    with bench.fresh(bench.migrated) as url, worker(url, f"--concurrency={CONCURRENCY}") as process:
        found = measure(
            "app", "weigh", url, workers=1, jobs=jobs, text=sizes.large_bytes, small=small
        )
        resident = _resident(process.pid)
    if found["jobs"] != small + jobs:
        raise RunFailedError(f"{small + jobs} jobs were to succeed: {found}")
    return {"in_hand_mb": found["bytes_in_hand"] / MB, "rss_mb": resident / MB}


def _resident(pid: int) -> int:
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        lines = status.read_text().splitlines()
        return 1024 * next(int(one.split()[1]) for one in lines if one.startswith("VmRSS:"))
    command = ["ps", "-o", "rss=", "-p", str(pid)]
    return 1024 * int(subprocess.run(command, check=True, capture_output=True).stdout)
