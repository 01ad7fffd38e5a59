"""P10: tasks whose ORM writes commit together with their outcome."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import (
    APP,
    BARE,
    CONCURRENCY,
    Figures,
    Measurement,
    counted,
)
from tests.benchmarks.processes import RunFailedError, measure
from tests.benchmarks.tasks_sequences import ATOMIC, TASKS


def measurements(bench: Bench) -> Iterator[Measurement]:
    """Each task writes one row; so does a bare loop with the same fence."""
    of = partial(Measurement, "atomic", vendor=bench.vendor, work="atomic tasks")
    yield of(APP, run=lambda: _work(bench))
    yield of(BARE, run=lambda: _bare(bench))


def _queued(bench: Bench) -> str:
    return bench.queued(bench.sizes.atomic_jobs, ATOMIC)


def _work(bench: Bench) -> Figures:
    return bench.work(_queued(bench), bench.sizes.atomic_jobs, sequence=ATOMIC)


def _bare(bench: Bench) -> Figures:
    with bench.fresh(_queued(bench)) as url:
        found = measure("atomic_loop", "work", url, threads=CONCURRENCY)
    outcomes = counted(found, bench.sizes.atomic_jobs, TASKS)
    if found["rows"] != outcomes:
        raise RunFailedError(f"{outcomes} rows were to be written: {found}")
    return {"tasks_per_second": outcomes / found["seconds"]}
