"""What jobs leave on the disk, whether that stays level when old ones are pruned, and how fast they go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Final

import psycopg

from tests.benchmarks.bench import Bench, on_postgresql
from tests.benchmarks.measurements import (
    APP,
    CONCURRENCY,
    Figures,
    Measurement,
    counted,
    work_figures,
)
from tests.benchmarks.processes import RunFailedError, measure
from tests.benchmarks.tasks_sequences import DENSE, FAILING, TASKS

NAMES: Final = {"job": "job", "taskstatus": "task", "taskattempt": "attempt", "jobevent": "event"}
# Free space and visibility maps count as heap, the index of a TOAST table as TOAST.
STATEMENT: Final = """
    SELECT pg_table_size(c.oid) - toast.size, toast.size, pg_indexes_size(c.oid),
        (SELECT count(*) FROM {table})
    FROM pg_class c, coalesce(pg_total_relation_size(nullif(c.reltoastrelid, 0)), 0) AS toast(size)
    WHERE c.oid = '{table}'::regclass"""

# Twice all jobs that are kept are replaced by new ones: at once, and as if they had become old.
TURNOVERS: Final = (False, True)


@dataclass(frozen=True)
class Size:
    """Bytes of a table, and how many rows they are for."""

    heap: int
    toast: int
    indexes: int
    rows: int

    @property
    def total(self) -> int:
        """All bytes."""
        return self.heap + self.toast + self.indexes


Tables = Mapping[str, Size]


def measurements(bench: Bench) -> Iterator[Measurement]:
    """Rows that are kept and pruned, large results, failures, and what tasks cost that are carried."""
    of = partial(Measurement, "size", APP, bench.vendor)
    yield of("rows kept", lambda: _kept(bench))
    yield of(f"rows with results of {bench.sizes.size_bytes:,} bytes", lambda: _large(bench))
    yield of("rows of what went wrong", lambda: _failed(bench))
    yield of("carried tasks", lambda: _carried(bench))


def _kept(bench: Bench) -> Figures:
    """As many jobs as are to be kept; twice as many again while the oldest go; at last all of them go."""
    databases, sizes = on_postgresql(bench), bench.sizes
    jobs, turns = sizes.size_jobs, sizes.size_turns
    run = partial(measure, "life", "turn", jobs=jobs // turns, turns=turns, concurrency=CONCURRENCY)
    with bench.fresh(bench.migrated) as url:
        empty = _tables(url)
        counted(run(url), jobs, TASKS)
        stages, costs, there = [_tables(url)], [databases.cost(url)], jobs
        for is_old in TURNOVERS:
            found = run(url, kept=jobs, is_old=is_old)
            there += jobs - found["pruned"]
            counted(found, there, TASKS)
            stages.append(_tables(url))
            costs.append(databases.cost(url))
        pruned = measure("life", "prune", url)
    if pruned["tasks"] != there * TASKS:
        raise RunFailedError(f"{there * TASKS} task statuses were to be pruned: {pruned}")
    full, once, twice = (_bytes_a_job(empty, stage) for stage in stages)
    young, old = (after - before for before, after in pairwise(costs))
    return {
        **_bytes_a_row("job", empty, stages[0]),
        **_bytes_a_row("task", empty, stages[0]),
        "grown_percent_at_first": 100 * (once / full - 1),
        "grown_percent_then": 100 * (twice / once - 1),
        "life_wal_bytes_per_task": young.wal_bytes / (jobs * TASKS),
        "life_wal_bytes_per_task_behind_checkpoints": old.wal_bytes / (jobs * TASKS),
        "pruned_jobs_per_second": pruned["jobs"] / pruned["seconds"],
        "pruned_jobs_per_second_by_a_worker": pruned["jobs"] / pruned["worker_seconds"],
    }


def _large(bench: Bench) -> Figures:
    jobs = bench.sizes.size_jobs // 5
    queued = bench.queued(jobs, DENSE, {"bytes": bench.sizes.size_bytes})
    with bench.fresh(queued) as url:
        found = measure("app", "work", url, sequence=DENSE, concurrency=CONCURRENCY)
        counted(found, jobs, TASKS)
        empty, full = _tables(bench.migrated), _tables(url)
    return {**_bytes_a_row("job", empty, full), **_bytes_a_row("task", empty, full)}


def _failed(bench: Bench) -> Figures:
    """A failed attempt has a row with its traceback, what a person does has one with the reason."""
    jobs = bench.sizes.failed_jobs
    with bench.fresh(bench.queued(jobs, FAILING)) as url:
        measure("app", "work", url, sequence=FAILING, concurrency=CONCURRENCY)
        measure("life", "cancel", url, jobs=jobs)
        traceback = on_postgresql(bench).count(
            url, "SELECT avg(octet_length(traceback)) FROM django_tasks_seq_taskattempt"
        )
        empty, full = _tables(bench.migrated), _tables(url)
    if (full["attempt"].rows, full["event"].rows) != (jobs, jobs):
        raise RunFailedError(f"{jobs} attempts and {jobs} events were to be there: {full}")
    return {
        **_bytes_a_row("attempt", empty, full),
        "traceback_bytes": float(traceback),
        **_bytes_a_row("event", empty, full),
    }


def _carried(bench: Bench) -> Figures:
    databases, jobs = on_postgresql(bench), bench.sizes.carried_jobs
    with bench.fresh(bench.migrated) as url:
        before = databases.cost(url)
        found = measure("life", "carry", url, jobs=jobs)
        return work_figures(found, jobs, databases.cost(url) - before)


def _tables(url: str) -> Tables:
    with psycopg.connect(url, autocommit=True) as db:
        return {
            name: Size(*map(int, row))
            for table, name in NAMES.items()
            for row in db.execute(STATEMENT.format(table=f"django_tasks_seq_{table}").encode())
        }


def _bytes_a_row(name: str, empty: Tables, full: Tables) -> Figures:
    """What the rows of a table have added to it, for each of them."""
    base, size = empty[name], full[name]
    return {
        f"{name}_heap_bytes": (size.heap - base.heap) / size.rows,
        f"{name}_toast_bytes": (size.toast - base.toast) / size.rows,
        f"{name}_index_bytes": (size.indexes - base.indexes) / size.rows,
        f"{name}_bytes": (size.total - base.total) / size.rows,
    }


def _bytes_a_job(empty: Tables, full: Tables) -> float:
    """The same of a job with all its rows."""
    return sum(full[name].total - empty[name].total for name in full) / full["job"].rows
