"""The bare limit besides what the throughput needs: without threads, and one INSERT at a time."""

from __future__ import annotations

from collections.abc import Iterator

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import BARE, FLOOR, Figures, Measurement
from tests.benchmarks.parts.throughput import bare_work
from tests.benchmarks.processes import measure


def measurements(bench: Bench) -> Iterator[Measurement]:
    """What the commits alone cost, and one INSERT of some 300 bytes a transaction."""
    yield Measurement("bare", FLOOR, bench.vendor, "work", lambda: bare_work(bench, 0))
    yield Measurement("bare", BARE, bench.vendor, "start", lambda: _start(bench), ("starting",))


def _start(bench: Bench) -> Figures:
    with bench.fresh() as url:
        return measure("bare", "start", url, starts=bench.sizes.starts)
