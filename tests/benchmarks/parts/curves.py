"""P12: throughput and latency over the number of workers, of tasks a job, and the size of results."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import APP, Measurement
from tests.benchmarks.tasks_sequences import SIZED, TASKS, sequence_of

WORKERS, TASKS_A_JOB, RESULT_BYTES = "workers", "tasks a job", "bytes a result"
MOST_BYTES = 50_000_000


def measurements(bench: Bench) -> Iterator[Measurement]:
    """One for each point of each curve, `work` being its name: many jobs at once, then one at a time."""
    of = partial(Measurement, "curves", APP, bench.vendor)
    sizes, tasks = bench.sizes, bench.sizes.curve_jobs * TASKS
    point = partial(bench.drive, then_single=sizes.curve_latency_jobs)
    for number in sizes.curve_workers:
        run = partial(point, sizes.curve_jobs * number, number=number)
        yield of(f"{WORKERS}: {number}", run)
    for number in sizes.curve_tasks:
        jobs, sequence = -(-tasks // number), sequence_of(number)
        run = partial(point, jobs, sequence=sequence, tasks=number)
        yield of(f"{TASKS_A_JOB}: {number}", run)
    for size in sizes.curve_bytes:
        jobs = min(sizes.curve_jobs, MOST_BYTES // size // TASKS)
        run = partial(point, jobs, sequence=SIZED, payload={"bytes": size})
        yield of(f"{RESULT_BYTES}: {size}", run)
