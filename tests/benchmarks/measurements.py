"""What is measured, how often, and what becomes of a run that fails."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Final

from tests.benchmarks.databases import Cost
from tests.benchmarks.processes import RunFailedError
from tests.benchmarks.tasks_sequences import TASKS

APP: Final = "this app"
BARE: Final = "bare limit"
FLOOR: Final = "bare, one statement, no threads"
PGBENCH: Final = "pgbench"

CONCURRENCY: Final = 8
MB: Final = 2**20

Figures = dict[str, float]


@dataclass(frozen=True)
class Sizes:
    """How much of everything; with the defaults, three rounds take less than 20 minutes on two cores."""

    jobs: int = 10_000
    in_hand: int = 128
    # 1 is the command's own default: a line for each job, which costs as much as half the engine.
    verbosity: int = 0
    starts: int = 2000
    many: int = 20_000
    writers: int = 8
    writer_seconds: float = 2.0
    latency_jobs: int = 300
    warm_up: int = 30
    # A server's processes report what they did at most once a second.
    settle_seconds: float = 2.0
    idle_seconds: float = 6.0
    history_tasks: int = 1_000_000
    claims: int = 300
    backlog_jobs: int = 1_000_000
    small_backlog_jobs: int = 2000
    sqlite_jobs: int = 8000
    process_jobs: int = 16_000
    idle_workers: int = 16
    memory_tasks: int = 100_000
    large_jobs: int = 200
    large_bytes: int = 200_000
    atomic_jobs: int = 400
    async_tasks: int = 1000
    async_seconds: float = 1.0
    threads: int = 200
    thread_seconds: float = 0.05
    waits: int = 5
    curve_jobs: int = 2000
    curve_latency_jobs: int = 40
    curve_workers: tuple[int, ...] = (1, 2, 4)
    curve_tasks: tuple[int, ...] = (1, 2, 5, 10, 20, 50)
    curve_bytes: tuple[int, ...] = (100, 1000, 10_000, 100_000)
    peer_jobs: int = 200
    size_jobs: int = 5000
    # Between two vacuums a tenth of the jobs that are kept, as autovacuum's thresholds are.
    size_turns: int = 10
    size_bytes: int = 2000
    failed_jobs: int = 500
    carried_jobs: int = 100

    @property
    def work(self) -> str:
        """The work of the throughput, for readers."""
        return (
            f"{self.jobs:,} jobs of {TASKS} tasks, {CONCURRENCY} threads, --verbosity"
            f" {self.verbosity}; bare limit: {self.in_hand} jobs in hand"
        )


@dataclass(frozen=True)
class Measurement:
    """One system at one kind of work on one database; `run` measures it once.

    It is run for its *part*, and for those in *also*, whose bars compare with it.
    """

    part: str
    system: str
    vendor: str
    work: str
    run: Callable[[], Figures]
    also: tuple[str, ...] = ()

    def belongs_to(self, parts: Iterable[str]) -> bool:
        """Whether one of these parts needs it."""
        return not {self.part, *self.also}.isdisjoint(parts)

    def __str__(self) -> str:
        return f"{self.system}, {self.vendor}, {self.work}"


@dataclass(frozen=True)
class Measured:
    """All runs of one measurement; one that failed leaves it without a figure."""

    of: Measurement
    runs: Sequence[Figures]
    failures: Sequence[str] = ()

    @cached_property
    def medians(self) -> Figures:
        """The median of each figure."""
        if self.failures or not self.runs:
            return {}
        return {name: statistics.median(run[name] for run in self.runs) for name in self.runs[0]}


def run_in_turn(
    chosen: Iterable[Measurement], rounds: int, say: Callable[[str], None]
) -> list[Measured]:
    """Measure each *rounds* times, in turn: what slows the machine for a while slows them all."""
    runs: list[tuple[Measurement, list[Figures], list[str]]] = [(one, [], []) for one in chosen]
    for number in range(1, rounds + 1):
        for one, figures, failures in runs:
            began = time.monotonic()
            try:
                figures.append(one.run())
            except Exception as error:
                # Whatever it was: the others are measured all the same.
                failures.append(f"{type(error).__name__}: {error}")
                say(f"{number}/{rounds} {one} has failed: {failures[-1]}")
                continue
            shown = ", ".join(f"{value:,.5g} {name}" for name, value in figures[-1].items())
            took = time.monotonic() - began
            say(f"{number}/{rounds} {one}, {took:.1f} s: {shown}")
    return [Measured(one, figures, failures) for one, figures, failures in runs]


def counted(found: dict[str, Any], jobs: int, tasks: int) -> int:
    """The number of outcomes of *jobs* jobs of *tasks* tasks each, all committed and in order, or an error."""
    wanted = jobs * tasks
    if (found["jobs"], found["outcomes"]) != (jobs, wanted):
        raise RunFailedError(f"{wanted} outcomes were to be committed, in {jobs} jobs: {found}")
    if found.get("results", [tasks]) != [tasks] or found.get("out_of_order"):
        raise RunFailedError(f"tasks did not run in order: {found}")
    return wanted


def work_figures(
    found: dict[str, Any],
    jobs: int,
    cost: Cost | None = None,
    memory: int | None = None,
    *,
    tasks: int = TASKS,
) -> Figures:
    """What a run of *jobs* jobs comes to; it fails when an outcome is missing or there is one too many."""
    outcomes = counted(found, jobs, tasks)
    figures = {"tasks_per_second": outcomes / found["seconds"], "outcomes": float(outcomes)}
    if "cpu_seconds" in found:
        figures["cpu_ms_per_task"] = 1000 * found["cpu_seconds"] / outcomes
    if cost is not None and cost.transactions:
        figures["wal_bytes_per_task"] = cost.wal_bytes / outcomes
        figures["transactions_per_task"] = cost.transactions / outcomes
    if memory is not None:
        figures["memory_mb"] = memory / MB
    return figures


def quantile(values: Iterable[float], share: float) -> float:
    """The value that *share* of all are below."""
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * share), len(ordered) - 1)]
