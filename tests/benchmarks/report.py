"""From figures to a page: the bars and whether they hold, ratios to others, the curves, the runs, the machine."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tests.benchmarks.bars import POSTGRESQL, SQLITE, Found, Verdict, judge, shown
from tests.benchmarks.measurements import APP, BARE, FLOOR, PGBENCH, Measured
from tests.benchmarks.parts.curves import RESULT_BYTES, TASKS_A_JOB, WORKERS
from tests.benchmarks.parts.throughput import WITH_LINES


@dataclass(frozen=True)
class Row:
    """A figure of this app, beside that of others."""

    name: str
    work: str
    figure: str
    vendor: str = POSTGRESQL
    # What others call it, when not the same.
    theirs: str = ""


ROWS: Final = (
    Row("durable tasks/s, PostgreSQL", "work", "tasks_per_second"),
    Row("Python CPU a task, ms", "work", "cpu_ms_per_task"),
    Row("WAL a task, bytes", "work", "wal_bytes_per_task"),
    Row("transactions a task", "work", "transactions_per_task"),
    Row("tasks/s with a line for each job", WITH_LINES, "tasks_per_second"),
    Row("durable tasks/s, SQLite", "work", "tasks_per_second", SQLITE),
    Row("Python CPU a task on SQLite, ms", "work", "cpu_ms_per_task", SQLITE),
    Row("idle worker, 5-task job, to its last task's end, p50, ms", "latency", "finished_p50_ms"),
    Row("the same, to its end seen by another connection", "latency", "seen_p50_ms"),
    Row("the same, p99", "latency", "seen_p99_ms"),
    Row("`atomic=True` tasks/s", "atomic tasks", "tasks_per_second"),
    Row("`start_sequence`/s (others: one INSERT)", "start", "one_by_one"),
    Row("`start_many`, jobs/s (others: one INSERT)", "start", "in_batches", theirs="one_by_one"),
)
PEER_ROWS: Final = (
    Row("durable tasks/s", "work", "tasks_per_second"),
    Row("Python CPU a task, ms", "work", "cpu_ms_per_task"),
    Row("WAL a task, bytes", "work", "wal_bytes_per_task"),
    Row("transactions a task", "work", "transactions_per_task"),
    Row("one idle 5-task job, p50, ms", "latency", "finished_p50_ms"),
    Row("starts/s", "start", "one_by_one"),
)
CURVES: Final = (WORKERS, TASKS_A_JOB, RESULT_BYTES)


class Report:
    """All that was measured in one go; *peers* names the other systems, and whether they are durable."""

    def __init__(
        self,
        measured: Sequence[Measured],
        machine: Mapping[str, str],
        *,
        seconds: float,
        peers: Mapping[str, bool] | None = None,
    ) -> None:
        self.machine = machine
        self.seconds = seconds
        self._measured = measured
        self._found = Found(measured, peers or {})

    @property
    def verdicts(self) -> list[Verdict]:
        """On the bars whose part was run."""
        return judge(self._found)

    @property
    def failures(self) -> list[tuple[str, str]]:
        """What failed, and how: the first failure of each."""
        return [(str(one.of), one.failures[0]) for one in self._measured if one.failures]

    @property
    def holds(self) -> bool:
        """Whether no bar was missed and nothing failed."""
        return not self.failures and all(verdict.holds for verdict in self.verdicts)

    def as_dict(self) -> dict[str, Any]:
        """All figures of all runs, for programs."""
        return {
            "machine": dict(self.machine),
            "seconds": self.seconds,
            "bars": [asdict(verdict) for verdict in self.verdicts],
            "holds": self.holds,
            "measured": [
                {"system": one.of.system, "database": one.of.vendor, "work": one.of.work}
                | {"medians": one.medians, "runs": list(one.runs)}
                | {"failures": list(one.failures)}
                for one in self._measured
            ],
        }

    def as_markdown(self) -> str:
        """The page."""
        parts = (
            self._failed(),
            self._bars(),
            self._beside_bare(),
            self._beside_peers(),
            self._curves(),
            self._spread(),
            self._machine(),
        )
        return "\n\n".join(filter(None, parts)) + "\n"

    def _failed(self) -> str:
        failures = (
            f"**{name} has failed and has no figure.**\n\n```\n{text}\n```"
            for name, text in self.failures
        )
        return "\n\n".join(failures)

    def _bars(self) -> str:
        rows = [
            (
                one.bar,
                one.what,
                _with(one.figure, one.made_of),
                one.needed,
                "yes" if one.holds else "**no**",
            )
            for one in self.verdicts
        ]
        return table(("bar", "what was measured", "figure", "needed", "holds"), rows)

    def _beside_bare(self) -> str:
        rows = [cells for row in ROWS if (cells := self._beside(row))]
        return table(("", "ratio to the bare limit", APP, BARE, FLOOR, PGBENCH), rows)

    def _beside(self, row: Row) -> tuple[str, ...] | None:
        ours = self._found.median(APP, row.vendor, row.work, row.figure)
        bare, floor, pgbench = (
            self._found.median(system, row.vendor, row.work, row.theirs or row.figure)
            for system in (BARE, FLOOR, PGBENCH)
        )
        if ours is None and bare is None:
            return None
        return row.name, _ratio(ours, bare), *map(_cell, (ours, bare, floor, pgbench))

    def _beside_peers(self) -> str:
        """A line for each peer."""
        peers = [name for name in self._found.peers if self._of(name)]
        if not peers:
            return ""
        head = ["", *(row.name for row in PEER_ROWS)]
        ours = [self._found.median(APP, POSTGRESQL, row.work, row.figure) for row in PEER_ROWS]
        rows = [[APP, *map(_cell, ours)]]
        for name in peers:
            durable = "" if self._found.peers[name] else " (not durable)"
            theirs = [self._of(name).get(row) for row in PEER_ROWS]
            cells = (_with(them, _times(us, them)) for us, them in zip(ours, theirs, strict=True))
            rows.append([name + durable, *cells])
        return f"In brackets: this app's figure, divided by the peer's.\n\n{table(head, rows)}"

    def _of(self, system: str) -> dict[Row, float]:
        found = {row: self._found.of_peer(system, row.work, row.figure) for row in PEER_ROWS}
        return {row: value for row, value in found.items() if value is not None}

    def _curves(self) -> str:
        tables = []
        for curve in CURVES:
            points = [
                one
                for one in self._measured
                if one.of.work.startswith(f"{curve}: ") and one.medians
            ]
            rows = [
                (
                    one.of.work.removeprefix(f"{curve}: "),
                    _cell(one.medians["tasks_per_second"]),
                    _cell(one.medians["latency_p50_ms"]),
                )
                for one in points
            ]
            if rows:
                tables.append(table((curve, "tasks/s", "one idle job, p50, ms"), rows))
        return "\n\n".join(tables)

    def _spread(self) -> str:
        rows = [
            (str(one.of), figure, *(_cell(run[figure]) for run in one.runs))
            for one in self._measured
            for figure in (one.runs[0] if one.runs else ())
        ]
        rounds = max((len(one.runs) for one in self._measured), default=0)
        return table(("run", "figure", *(str(n + 1) for n in range(rounds))), rows)

    def _machine(self) -> str:
        rows = [*self.machine.items(), ("measured in", f"{self.seconds:.0f} s")]
        return table(("where", ""), rows)


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _cell(value: float | None) -> str:
    return "" if value is None else shown(value)


def _ratio(over: float | None, under: float | None) -> str:
    return f"{over / under:.2f}" if over is not None and under else ""


def _times(ours: float | None, theirs: float | None) -> str:
    return shown(ours / theirs) if ours is not None and theirs else ""


def _with(value: float | None, more: str) -> str:
    return _cell(value) + (f" ({more})" if more else "")
