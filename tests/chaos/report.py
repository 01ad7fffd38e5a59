"""What the runs of a session showed: one JSON record for each in build/chaos/, and a table of them.

`python -m tests.chaos.report` prints the table of all records.
"""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.sizes import sizes

FOLDER = Path(__file__).resolve().parent.parent.parent / "build" / "chaos"
HEADINGS = (
    *("test", "database", "faults injected", "jobs", "lost", "doubled"),
    *("out of order", "recovery p99", "pass", "seed"),
)
# Those of this session, in the order they ended.
RECORDED: list[Run] = []


@dataclass
class Run:
    """What one test did to how many jobs, and what became of them.

    *faults* are counts by kind (`{"kills": 200}`), a number, or words; *recovery_p99* is seconds;
    *figures* is whatever else was measured.
    """

    test: str
    faults: Mapping[str, int] | int | str = 0
    jobs: int = 0
    lost: int = 0
    doubled: int = 0
    out_of_order: int = 0
    recovery_p99: float | None = None
    seed: int | None = None
    passed: bool = False
    database: str = ""
    size: str = field(default_factory=lambda: sizes().name)
    figures: dict[str, Any] = field(default_factory=dict)

    def cells(self) -> tuple[str, ...]:
        """This run as a row of the table."""
        p99 = "" if self.recovery_p99 is None else f"{self.recovery_p99:.2f} s"
        return (
            *(self.test, self.database, _said(self.faults), str(self.jobs), str(self.lost)),
            *(str(self.doubled), str(self.out_of_order), p99, "yes" if self.passed else "NO"),
            "" if self.seed is None else str(self.seed),
        )


def _said(faults: Mapping[str, int] | int | str) -> str:
    if isinstance(faults, Mapping):
        return ", ".join(f"{count} {kind}" for kind, count in faults.items())
    return str(faults)


def record(run: Run) -> Run:
    """Keep *run* for the table and as a file; returns it."""
    run.database = run.database or _database()
    RECORDED.append(run)
    FOLDER.mkdir(parents=True, exist_ok=True)
    name = re.sub(r"[^A-Za-z0-9.]+", "-", f"{run.test} {run.database} {time.time_ns()}")
    (FOLDER / f"{name}.json").write_text(json.dumps(asdict(run), indent=2, default=str) + "\n")
    return run


@contextmanager
def recorded(test: str, *, seed: int | None = None) -> Iterator[Run]:
    """A `Run` to fill in; it has passed when the block ends without an error, and is recorded anyway.

    >>> with recorded("R1", seed=seed) as run:  # doctest: +SKIP
    ...     run.faults = {"kills": 8}
    ...     assert run.lost == 0
    """
    run = Run(test, seed=seed)
    begun = time.monotonic()
    try:
        yield run
        run.passed = True
    finally:
        run.figures.setdefault("seconds", round(time.monotonic() - begun, 1))
        record(run)


def _database() -> str:
    from django.db import connection

    return connection.vendor


def table(runs: Iterable[Run]) -> str:
    """The runs as lines of text, ordered by test."""
    ordered = sorted(runs, key=lambda run: (_natural(run.test), run.database))
    rows = [HEADINGS, *(run.cells() for run in ordered)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(HEADINGS))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )


def _natural(name: str) -> list[tuple[int, str]]:
    """R2 comes before R10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


def read_all(folder: Path = FOLDER) -> list[Run]:
    """All records that were written since the folder was emptied."""
    return [Run(**json.loads(path.read_text())) for path in sorted(folder.glob("*.json"))]


def main() -> int:
    """Print the table of all records; 1 when a run has not passed, or none was made."""
    runs = read_all()
    print(table(runs))
    return 0 if runs and all(run.passed for run in runs) else 1


if __name__ == "__main__":
    sys.exit(main())
