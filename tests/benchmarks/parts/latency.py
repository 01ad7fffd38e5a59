"""P4: one job at a time for an idle worker."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import APP, Figures, Measurement, quantile
from tests.benchmarks.processes import measure, worker


def measurements(bench: Bench) -> Iterator[Measurement]:
    """From the commit of a start to the end of its fifth task, and to when others see that."""
    yield Measurement("latency", APP, bench.vendor, "latency", lambda: _latency(bench), ("peers",))


def _latency(bench: Bench) -> Figures:
    sizes = bench.sizes
    with bench.fresh(bench.migrated) as url, worker(url):
        found = measure("app", "latency", url, jobs=sizes.latency_jobs, warm_up=sizes.warm_up)
    return {
        f"{name}_p{percent}_ms": 1000 * quantile(found[name], percent / 100)
        for name in ("finished", "seen")
        for percent in (50, 99)
    }
