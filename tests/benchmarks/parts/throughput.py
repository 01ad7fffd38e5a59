"""P1 and P2: one worker and the bare limit, all jobs queued first; what a task costs each of them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import (
    APP,
    BARE,
    CONCURRENCY,
    Figures,
    Measurement,
    work_figures,
)
from tests.benchmarks.processes import measure

WITH_LINES = "work, with a line for each job"


def measurements(bench: Bench) -> Iterator[Measurement]:
    """The same work by this app, by the bare limit, and with what the command prints by default."""
    of = partial(Measurement, "throughput", vendor=bench.vendor)
    yield of(APP, work="work", run=lambda: work(bench), also=("history", "peers"))
    yield of(BARE, work="work", run=lambda: bare_work(bench, CONCURRENCY), also=("bare",))
    yield of(APP, work=WITH_LINES, run=lambda: work(bench, verbosity=1))


def work(bench: Bench, **options: Any) -> Figures:
    """This app at the work."""
    jobs = bench.sizes.jobs
    return bench.work(bench.queued(jobs), jobs, **options)


def bare_work(bench: Bench, threads: int) -> Figures:
    """The same number of jobs and tasks, queued first."""
    sizes = bench.sizes
    with bench.fresh(bench.queued(sizes.jobs)) as url:
        before = bench.databases.cost(url)
        found = measure("bare", "work", url, in_hand=sizes.in_hand, threads=threads)
        return work_figures(found, sizes.jobs, bench.databases.cost(url) - before)
