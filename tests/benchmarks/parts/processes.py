"""P8: two worker processes beside one, and what idle ones cost the database."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from tests.benchmarks.bench import Bench, on_postgresql
from tests.benchmarks.measurements import APP, Figures, Measurement
from tests.benchmarks.processes import DEADLINE, RunFailedError, worker

UP = "SELECT count(*) FROM django_tasks_seq_worker WHERE stopped_at IS NULL"


def measurements(bench: Bench) -> Iterator[Measurement]:
    """The same jobs for one process, for two of one command and for two commands; then none at all."""
    of = partial(Measurement, "processes", APP, bench.vendor)
    jobs = bench.sizes.process_jobs
    yield of("one process", lambda: bench.drive(jobs))
    yield of("two processes", lambda: bench.drive(jobs, processes=2))
    yield of("two commands", lambda: bench.drive(jobs, number=2))
    yield of("idle workers", lambda: _idle(bench))


def _idle(bench: Bench) -> Figures:
    """Each statement of an idle worker is a transaction; the server counts them."""
    databases, number = on_postgresql(bench), bench.sizes.idle_workers
    with bench.fresh(bench.migrated) as url, worker(url, f"--processes={number}"):
        deadline = time.monotonic() + DEADLINE
        while databases.count(url, UP) < number:
            if time.monotonic() > deadline:
                raise RunFailedError(f"{number} workers have not come up")
            time.sleep(0.2)
        time.sleep(bench.sizes.settle_seconds)
        before, began = databases.cost(url), time.monotonic()
        time.sleep(bench.sizes.idle_seconds)
        cost = databases.cost(url) - before
        took = time.monotonic() - began
    return {"idle_transactions_per_second": cost.transactions / took, "idle_workers": number}
