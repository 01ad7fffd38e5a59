"""What the parts share: databases that are prepared once and copied for each run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from functools import cached_property
from typing import Any

from tests.benchmarks import filling
from tests.benchmarks.databases import Databases, PostgresDatabases, fresh
from tests.benchmarks.measurements import CONCURRENCY, Figures, Sizes, quantile, work_figures
from tests.benchmarks.processes import measure, workers
from tests.benchmarks.tasks_sequences import SEQUENCE, TASKS


class Bench:
    """Sizes, databases, and the runs of this app that several parts make."""

    def __init__(self, databases: Databases, sizes: Sizes) -> None:
        self.databases = databases
        self.sizes = sizes
        self._queued: dict[tuple[Any, ...], str] = {}

    @property
    def vendor(self) -> str:
        """The kind of database."""
        return self.databases.vendor

    # --- databases as they are before a run ----------------------------------------------------

    def fresh(self, template: str | None = None) -> AbstractContextManager[str]:
        """The URL of a new database, empty or as that of *template*, which is gone afterwards."""
        return fresh(self.databases, template)

    @cached_property
    def migrated(self) -> str:
        """Empty tables."""
        url = self.databases.make()
        measure("app", "migrate", url)
        return url

    def queued(
        self,
        jobs: int,
        sequence: str = SEQUENCE,
        payload: dict[str, Any] | None = None,
        onto: str | None = None,
    ) -> str:
        """So many jobs, started through the API; nothing else, or what is in *onto*."""
        key = (jobs, sequence, str(payload), onto)
        if key not in self._queued:
            url = self.databases.copy(onto or self.migrated)
            measure("app", "queue", url, jobs=jobs, sequence=sequence, payload=payload)
            self._queued[key] = url
        return self._queued[key]

    @cached_property
    def history(self) -> str:
        """Finished jobs, as many as their tasks make the history."""
        url = self.databases.copy(self.queued(1))
        measure("app", "work", url)
        filling.fill_history(url, self.sizes.history_tasks // TASKS)
        return url

    @cached_property
    def backlog(self) -> str:
        """Ready jobs, most of them on one queue."""
        url = self.databases.copy(self.queued(1))
        filling.fill_ready(url, self.sizes.backlog_jobs)
        return url

    @cached_property
    def later(self) -> str:
        """Jobs due tomorrow."""
        url = self.databases.copy(self.queued(1))
        filling.fill_later(url, self.sizes.backlog_jobs)
        return url

    # --- runs ----------------------------------------------------------------------------------

    def work(
        self,
        template: str,
        jobs: int,
        *,
        sequence: str = SEQUENCE,
        tasks: int = TASKS,
        first: int = 0,
        **options: Any,
    ) -> Figures:
        """One worker in a process of its own, until nothing is left or its `max_jobs` are done."""
        options = {"concurrency": CONCURRENCY, "verbosity": self.sizes.verbosity, **options}
        with self.fresh(template) as url:
            before = self.databases.cost(url)
            found = measure("app", "work", url, sequence=sequence, first=first, **options)
            cost = self.databases.cost(url) - before
        figures = work_figures(found, jobs, cost, found["memory_bytes"], tasks=tasks)
        if first:
            figures["first_tasks_per_second"] = first * tasks / found["first_seconds"]
        return figures

    def drive(
        self,
        jobs: int,
        *,
        number: int = 1,
        processes: int = 1,
        sequence: str = SEQUENCE,
        tasks: int = TASKS,
        payload: dict[str, Any] | None = None,
        then_single: int = 0,
    ) -> Figures:
        """Idle workers, *number* commands of so many *processes*, for which all jobs become due at once.

        *then_single* jobs follow one at a time: their latency is one of the figures.
        """
        options = [f"--concurrency={CONCURRENCY}", f"--processes={processes}"]
        with self.fresh(self.migrated) as url, workers(url, number, *options):
            found = measure(
                "app",
                "drive",
                url,
                workers=number * processes,
                jobs=jobs,
                sequence=sequence,
                payload=payload,
                then_single=then_single,
            )
        figures = work_figures(found, jobs, tasks=tasks)
        if then_single:
            figures["latency_p50_ms"] = 1000 * quantile(found["finished"], 0.5)
        return figures


def on_postgresql(bench: Bench) -> PostgresDatabases:
    """The server, for what only a server has."""
    assert isinstance(bench.databases, PostgresDatabases)
    return bench.databases
