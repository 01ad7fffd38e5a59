"""P7: one worker on SQLite, alone and beside a web server that writes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import (
    APP,
    BARE,
    CONCURRENCY,
    FLOOR,
    Figures,
    Measurement,
    quantile,
    work_figures,
)
from tests.benchmarks.parts.throughput import bare_work, work
from tests.benchmarks.processes import RunFailedError, beside, measure


def measurements(bench: Bench) -> Iterator[Measurement]:
    """The same work as on PostgreSQL, and what a web server meets meanwhile."""
    of = partial(Measurement, "sqlite", vendor=bench.vendor)
    yield of(APP, work="work", run=lambda: work(bench))
    yield of(BARE, work="work", run=lambda: bare_work(bench, CONCURRENCY), also=("bare",))
    yield Measurement("bare", FLOOR, bench.vendor, "work", lambda: bare_work(bench, 0))
    yield of(APP, work="work beside web writes", run=lambda: _beside_web_writes(bench))


def _beside_web_writes(bench: Bench) -> Figures:
    jobs = bench.sizes.sqlite_jobs
    with bench.fresh(bench.queued(jobs)) as url:
        with beside("web", "write", url) as web:
            found = measure("app", "work", url, concurrency=CONCURRENCY)
        figures = work_figures(found, jobs, memory=found["memory_bytes"])
    if web["rows"] + web["locked"] != len(web["seconds"]):
        raise RunFailedError(f"{len(web['seconds'])} web writes: {web['rows']} rows")
    return {
        **figures,
        "web_writes": float(web["rows"]),
        "web_writes_locked": float(web["locked"]),
        "web_write_p99_ms": 1000 * quantile(web["seconds"], 0.99),
    }
