"""Measure this app beside the bare limit of its database and beside its peers.

    python -m tests.servers.postgres --durable -- python -m tests.benchmarks --only throughput,starting

measures on the PostgreSQL of `DATABASE_URL` and on SQLite, prints a page and writes it, with all
figures as JSON, to the directory of `--out`. Ends with exit code 1 when a bar is missed or a run has
failed. A figure is the median of three runs, the systems in turn; each run has a fresh database and
processes of its own, and fails when an outcome is missing or out of order.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import fields
from pathlib import Path

from tests.benchmarks import charts, machine
from tests.benchmarks.bench import Bench
from tests.benchmarks.databases import PostgresDatabases, SqliteDatabases, is_postgresql
from tests.benchmarks.measurements import Measurement, Sizes, run_in_turn
from tests.benchmarks.parts import ON_POSTGRESQL, ON_SQLITE
from tests.benchmarks.peers import DURABLE
from tests.benchmarks.report import Report

PARTS = (*ON_POSTGRESQL, *ON_SQLITE)
NEED_POSTGRESQL = set(ON_POSTGRESQL) - {"bare"}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median is shown")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    parser.add_argument("--charts", type=Path, help="a directory where the curves are drawn")
    for field in fields(Sizes):
        option = f"--{field.name.replace('_', '-')}"
        kind = _numbers if isinstance(field.default, tuple) else type(field.default)
        parser.add_argument(option, type=kind, default=field.default)
    options = parser.parse_args(argv)
    missing = NEED_POSTGRESQL & set(options.only)
    if missing and options.only is not PARTS and not _postgresql_url():
        parser.error(f"{', '.join(sorted(missing))}: DATABASE_URL names no PostgreSQL")
    return options


def _parts(text: str) -> tuple[str, ...]:
    chosen = tuple(text.split(","))
    unknown = set(chosen) - set(PARTS)
    if unknown:
        raise argparse.ArgumentTypeError(f"{', '.join(sorted(unknown))}: no such part")
    return chosen


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(",")))


def _postgresql_url() -> str | None:
    url = os.environ.get("DATABASE_URL", "")
    return url if is_postgresql(url) else None


def _measure(options: argparse.Namespace) -> Report:
    sizes = Sizes(**{field.name: getattr(options, field.name) for field in fields(Sizes)})
    began = time.monotonic()
    with ExitStack() as stack:
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="tseq-bench-"))
        url = _postgresql_url()
        postgres = stack.enter_context(closing(PostgresDatabases(url))) if url else None
        found: list[Measurement] = []
        if postgres is not None:
            bench = Bench(postgres, sizes)
            found += [one for part in ON_POSTGRESQL.values() for one in part(bench)]
        bench = Bench(SqliteDatabases(Path(directory)), sizes)
        found += [one for part in ON_SQLITE.values() for one in part(bench)]
        where = {**machine.describe(postgres), "the work": sizes.work}
        chosen = [one for one in found if one.belongs_to(options.only)]
        measured = run_in_turn(chosen, options.rounds, _say)
    return Report(measured, where, seconds=time.monotonic() - began, peers=DURABLE)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; see the module's text."""
    options = _arguments(argv)
    report = _measure(options)
    page, figures = report.as_markdown(), report.as_dict()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    (options.out / "figures.md").write_text(page)
    print(page)
    _say(f"Written to {options.out}/figures.md and figures.json.")
    if options.charts:
        for path in charts.draw(figures, options.charts):
            _say(f"Drawn: {path}")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
