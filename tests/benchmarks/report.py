"""From figures to a page: ratios first, then the bars and whether they hold, the runs, the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.benchmarks.measurements import APP, BARE, FLOOR, Measured

Key = tuple[str, str, str]


@dataclass(frozen=True)
class Row:
    """A figure of this app, beside the bare limit's where that has one."""

    name: str
    vendor: str
    work: str
    figure: str
    form: str
    # What the bare limit calls it, when not the same.
    bare: str = ""


ROWS: Final = (
    Row("durable tasks/s, PostgreSQL", "postgresql", "work", "tasks_per_second", ",.0f"),
    Row("Python CPU a task, ms", "postgresql", "work", "cpu_ms_per_task", ".4f"),
    Row("WAL a task, bytes", "postgresql", "work", "wal_bytes_per_task", ",.0f"),
    Row("transactions a task", "postgresql", "work", "transactions_per_task", ".4f"),
    Row("most memory of the worker, MB", "postgresql", "work", "memory_mb", ".0f"),
    Row("durable tasks/s, SQLite", "sqlite", "work", "tasks_per_second", ",.0f"),
    Row("Python CPU a task on SQLite, ms", "sqlite", "work", "cpu_ms_per_task", ".4f"),
    Row("`start_sequence`/s (bare: one INSERT)", "postgresql", "start", "one_by_one", ",.0f"),
    Row(
        "`start_many`, jobs/s (bare: one INSERT)",
        "postgresql",
        "start",
        "in_batches",
        ",.0f",
        "one_by_one",
    ),
    Row(
        "idle worker, 5-task job: commit to last task's end, p50, ms",
        "postgresql",
        "latency",
        "finished_p50_ms",
        ".2f",
    ),
    Row("the same, p99", "postgresql", "latency", "finished_p99_ms", ".2f"),
    Row(
        "commit to seen by another connection, p50, ms",
        "postgresql",
        "latency",
        "seen_p50_ms",
        ".2f",
    ),
    Row("the same, p99", "postgresql", "latency", "seen_p99_ms", ".2f"),
    Row(
        "transactions/s of an idle worker",
        "postgresql",
        "latency",
        "idle_transactions_per_second",
        ".1f",
    ),
)


@dataclass(frozen=True)
class Bar:
    """At least so many durable tasks a second or, on a slower machine, that share of the bare limit."""

    vendor: str
    tasks_per_second: float
    share: float

    @property
    def text(self) -> str:
        """What is asked."""
        name = {"postgresql": "PostgreSQL", "sqlite": "SQLite"}[self.vendor]
        return (
            f"one worker process on {name}: ≥ {self.tasks_per_second:,.0f} durable tasks/s,"
            f" or ≥ {self.share:g} of the bare limit"
        )


BARS: Final = (Bar("postgresql", 4000, 0.3), Bar("sqlite", 2000, 0.3))


@dataclass(frozen=True)
class Verdict:
    """A bar, and what was measured."""

    bar: str
    tasks_per_second: float
    share_of_bare: float | None
    holds: bool


class Report:
    """All that was measured in one go."""

    def __init__(
        self, measured: Sequence[Measured], machine: Mapping[str, str], *, seconds: float
    ) -> None:
        self.machine = machine
        self.seconds = seconds
        self._found = {(one.of.system, one.of.vendor, one.of.work): one for one in measured}

    @property
    def verdicts(self) -> list[Verdict]:
        """The bars whose part was run."""
        return [verdict for bar in BARS if (verdict := self._judge(bar))]

    @property
    def holds(self) -> bool:
        """Whether no bar was missed."""
        return all(verdict.holds for verdict in self.verdicts)

    def _judge(self, bar: Bar) -> Verdict | None:
        ours = self._median(APP, bar.vendor, "work", "tasks_per_second")
        if ours is None:
            return None
        bare = self._median(BARE, bar.vendor, "work", "tasks_per_second")
        share = ours / bare if bare else None
        holds = ours >= bar.tasks_per_second or (share is not None and share >= bar.share)
        return Verdict(bar.text, ours, share, holds)

    def _median(self, system: str, vendor: str, work: str, figure: str) -> float | None:
        found = self._found.get((system, vendor, work))
        return found.medians.get(figure) if found else None

    def as_dict(self) -> dict[str, Any]:
        """All figures of all runs, for programs."""
        return {
            "machine": dict(self.machine),
            "seconds": self.seconds,
            "bars": [asdict(verdict) for verdict in self.verdicts],
            "holds": self.holds,
            "measured": [
                {"system": system, "database": vendor, "work": work}
                | {"medians": one.medians, "runs": list(one.runs)}
                for (system, vendor, work), one in self._found.items()
            ],
        }

    def as_markdown(self) -> str:
        """The page."""
        tables = (self._ratios(), self._bars(), self._spread(), self._machine())
        return "\n\n".join(tables) + "\n"

    def _ratios(self) -> str:
        rows = [cells for row in ROWS if (cells := self._cells(row))]
        return table(("", "ratio to the bare limit", APP, BARE, FLOOR), rows)

    def _cells(self, row: Row) -> tuple[str, ...] | None:
        ours = self._median(APP, row.vendor, row.work, row.figure)
        bare = self._median(BARE, row.vendor, row.work, row.bare or row.figure)
        if ours is None and bare is None:
            return None
        floor = self._median(FLOOR, row.vendor, row.work, row.figure)
        ratio = f"{ours / bare:.2f}" if ours is not None and bare else ""
        return row.name, ratio, *(_shown(value, row.form) for value in (ours, bare, floor))

    def _bars(self) -> str:
        rows = [
            (
                one.bar,
                f"{one.tasks_per_second:,.0f}",
                _shown(one.share_of_bare, ".2f"),
                "yes" if one.holds else "**no**",
            )
            for one in self.verdicts
        ]
        return table(("bar", "tasks/s", "of the bare limit", "holds"), rows)

    def _spread(self) -> str:
        rows = [
            (f"{system}, {vendor}, {work}", figure, *(_raw(run[figure]) for run in one.runs))
            for (system, vendor, work), one in self._found.items()
            for figure in one.runs[0]
        ]
        rounds = max((len(one.runs) for one in self._found.values()), default=0)
        return table(("run", "figure", *(str(n + 1) for n in range(rounds))), rows)

    def _machine(self) -> str:
        rows = [*self.machine.items(), ("measured in", f"{self.seconds:.0f} s")]
        return table(("where", ""), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)


def _raw(value: float) -> str:
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"
