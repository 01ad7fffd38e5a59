"""What is measured: each run of each system in a fresh database, its outcomes counted."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Final

from tests.benchmarks.databases import Cost, Databases, fresh
from tests.benchmarks.processes import RunFailedError, measure, worker
from tests.benchmarks.tasks_sequences import TASKS

APP: Final = "this app"
BARE: Final = "bare limit"
FLOOR: Final = "bare, no threads"

CONCURRENCY: Final = 8

Figures = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much of everything; the defaults take about two minutes on two cores."""

    jobs: int = 6000
    in_hand: int = 128
    # 1 is the command's own default: a line for each job, which costs as much as half the engine.
    verbosity: int = 0
    starts: int = 1000
    many: int = 10_000
    latency_jobs: int = 200
    warm_up: int = 20
    # A server's processes report what they did at most once a second.
    settle_seconds: float = 2.0
    idle_seconds: float = 4.0


@dataclass(frozen=True)
class Measurement:
    """One system at one kind of work on one database; `run` measures it once."""

    part: str
    system: str
    vendor: str
    work: str
    run: Callable[[], Figures]


@dataclass(frozen=True)
class Measured:
    """All runs of one measurement."""

    of: Measurement
    runs: Sequence[Figures]

    @cached_property
    def medians(self) -> Figures:
        """The median of each figure."""
        return {name: statistics.median(run[name] for run in self.runs) for name in self.runs[0]}


def measurements(databases: Databases, sizes: Sizes) -> list[Measurement]:
    """All that can be measured on this kind of database."""
    vendor = databases.vendor
    app, bare = App(databases, sizes), Bare(databases, sizes)
    found = [
        Measurement("bare", BARE, vendor, "work", partial(bare.work, threads=CONCURRENCY)),
        Measurement("bare", FLOOR, vendor, "work", partial(bare.work, threads=0)),
        Measurement(
            "sqlite" if vendor == "sqlite" else "throughput", APP, vendor, "work", app.work
        ),
    ]
    if vendor == "postgresql":
        found += [
            Measurement("bare", BARE, vendor, "start", bare.start),
            Measurement("start", APP, vendor, "start", app.start),
            Measurement("latency", APP, vendor, "latency", app.latency),
        ]
    return found


def run_in_turn(
    chosen: Iterable[Measurement], rounds: int, say: Callable[[str], None]
) -> list[Measured]:
    """Measure each *rounds* times, in turn: what slows the machine for a while slows them all."""
    runs: list[tuple[Measurement, list[Figures]]] = [(one, []) for one in chosen]
    for number in range(1, rounds + 1):
        for one, figures in runs:
            figures.append(one.run())
            first, value = next(iter(figures[-1].items()))
            say(f"{number}/{rounds} {one.system}, {one.vendor}, {one.work}: {value:,.2f} {first}")
    return [Measured(one, figures) for one, figures in runs]


class App:
    """This app: its worker is a process of its own that runs the command."""

    def __init__(self, databases: Databases, sizes: Sizes) -> None:
        self.databases = databases
        self.sizes = sizes

    @cached_property
    def template(self) -> str:
        """A migrated database."""
        url = self.databases.make()
        measure("app", "migrate", url)
        return url

    def work(self) -> Figures:
        """All jobs queued first, then one worker until nothing is left."""
        with fresh(self.databases, self.template) as url:
            measure("app", "queue", url, jobs=self.sizes.jobs)
            before = self.databases.cost(url)
            options = {"concurrency": CONCURRENCY, "verbosity": self.sizes.verbosity}
            found = measure("app", "work", url, **options)
            cost = self.databases.cost(url) - before
        if found["results"] != [TASKS] or found["out_of_order"]:
            raise RunFailedError(f"tasks did not run in order: {found}")
        return work_figures(found, self.sizes.jobs, cost, found["memory_bytes"])

    def start(self) -> Figures:
        """Starts by one client, no worker beside it."""
        with fresh(self.databases, self.template) as url:
            return measure("app", "start", url, starts=self.sizes.starts, many=self.sizes.many)

    def latency(self) -> Figures:
        """One job at a time for an idle worker, then what that worker asks while nothing happens."""
        sizes = self.sizes
        with fresh(self.databases, self.template) as url, worker(url):
            found = measure("app", "latency", url, jobs=sizes.latency_jobs, warm_up=sizes.warm_up)
            idle = self._idle_transactions(url)
        return {
            "finished_p50_ms": 1000 * quantile(found["finished"], 0.5),
            "finished_p99_ms": 1000 * quantile(found["finished"], 0.99),
            "seen_p50_ms": 1000 * quantile(found["seen"], 0.5),
            "seen_p99_ms": 1000 * quantile(found["seen"], 0.99),
            "idle_transactions_per_second": idle,
        }

    def _idle_transactions(self, url: str) -> float:
        time.sleep(self.sizes.settle_seconds)
        before, began = self.databases.cost(url), time.monotonic()
        time.sleep(self.sizes.idle_seconds)
        cost = self.databases.cost(url) - before
        return cost.transactions / (time.monotonic() - began)


class Bare:
    """The bare limit; see `bare.py`."""

    def __init__(self, databases: Databases, sizes: Sizes) -> None:
        self.databases = databases
        self.sizes = sizes

    def work(self, threads: int) -> Figures:
        """The same number of jobs and tasks, queued first."""
        with fresh(self.databases) as url:
            measure("bare", "prepare", url, jobs=self.sizes.jobs)
            before = self.databases.cost(url)
            found = measure("bare", "work", url, in_hand=self.sizes.in_hand, threads=threads)
            return work_figures(found, self.sizes.jobs, self.databases.cost(url) - before)

    def start(self) -> Figures:
        """One INSERT of some 300 bytes a transaction."""
        with fresh(self.databases) as url:
            return measure("bare", "start", url, starts=self.sizes.starts)


def work_figures(
    found: dict[str, Any], jobs: int, cost: Cost, memory: int | None = None
) -> Figures:
    """What a run of *jobs* jobs comes to; it fails when an outcome is missing or there is one too many."""
    tasks = jobs * TASKS
    if (found["jobs"], found["outcomes"]) != (jobs, tasks):
        raise RunFailedError(f"{tasks} outcomes were to be committed, in {jobs} jobs: {found}")
    figures = {
        "tasks_per_second": tasks / found["seconds"],
        "cpu_ms_per_task": 1000 * found["cpu_seconds"] / tasks,
        "outcomes": float(tasks),
    }
    if cost.transactions:
        figures["wal_bytes_per_task"] = cost.wal_bytes / tasks
        figures["transactions_per_task"] = cost.transactions / tasks
    if memory is not None:
        figures["memory_mb"] = memory / 1e6
    return figures


def quantile(values: Iterable[float], share: float) -> float:
    """The value that *share* of all are below."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
