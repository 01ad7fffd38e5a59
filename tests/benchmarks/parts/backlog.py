"""P6: a million jobs that are ready, and a million that are due tomorrow."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import APP, Figures, Measurement, quantile
from tests.benchmarks.processes import measure

QUEUES = {"one queue": "default", "all queues": ""}


def measurements(bench: Bench) -> Iterator[Measurement]:
    """The first jobs of a large backlog beside all of a small one, and claims that find nothing."""
    of = partial(Measurement, "backlog", APP, bench.vendor)
    yield of("small backlog", lambda: _small(bench))
    for name, queues in QUEUES.items():
        yield of(f"large backlog, {name}", partial(_large, bench, queues))
    yield of("idle claims", lambda: _idle(bench))


def _small(bench: Bench) -> Figures:
    jobs = bench.sizes.small_backlog_jobs
    return bench.work(bench.queued(jobs), jobs)


def _large(bench: Bench, queues: str) -> Figures:
    """So many jobs as the work has; the first of them are as many as the small backlog."""
    sizes = bench.sizes
    jobs, first = min(sizes.jobs, sizes.backlog_jobs), sizes.small_backlog_jobs
    return bench.work(bench.backlog, jobs, first=first, queues=queues, max_jobs=jobs)


def _idle(bench: Bench) -> Figures:
    with bench.fresh(bench.later) as url:
        found = measure("claims", "idle", url, calls=bench.sizes.claims)
    return {
        f"{name}_p{percent}_ms": 1000 * quantile(seconds, percent / 100)
        for percent in (50, 99)
        for name, seconds in found.items()
    }
