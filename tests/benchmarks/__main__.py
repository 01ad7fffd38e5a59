"""Measure this app beside the bare limit of its database, on the PostgreSQL of `DATABASE_URL` and on SQLite.

    python -m tests.servers.postgres --durable -- python -m tests.benchmarks --only throughput,bare

prints a page and writes it, with all figures as JSON, to the directory of `--out`. Ends with exit code
1 when a bar is missed. A figure is the median of three runs, the systems in turn; each run has a
fresh database and processes of its own, and fails when an outcome is missing.
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

from tests.benchmarks import machine
from tests.benchmarks.databases import (
    PostgresDatabases,
    SqliteDatabases,
    is_postgresql,
)
from tests.benchmarks.measurements import Measurement, Sizes, measurements, run_in_turn
from tests.benchmarks.report import Report

PARTS = ("throughput", "latency", "start", "sqlite", "bare")
NEED_POSTGRESQL = {"throughput", "latency", "start"}


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--only", type=_parts, default=PARTS, help=f"of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each; the median is shown")
    parser.add_argument("--out", type=Path, default=Path("build/bench"))
    for field in fields(Sizes):
        option = f"--{field.name.replace('_', '-')}"
        parser.add_argument(option, type=type(field.default), default=field.default)
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
            found += measurements(postgres, sizes)
        if {"sqlite", "bare"} & set(options.only):
            found += measurements(SqliteDatabases(Path(directory)), sizes)
        where = machine.describe(postgres)
        chosen = [one for one in found if one.part in options.only]
        measured = run_in_turn(chosen, options.rounds, _say)
    return Report(measured, where, seconds=time.monotonic() - began)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, write; see the module's text."""
    options = _arguments(argv)
    report = _measure(options)
    page = report.as_markdown()
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "figures.json").write_text(json.dumps(report.as_dict(), indent=2) + "\n")
    (options.out / "figures.md").write_text(page)
    print(page)
    _say(f"Written to {options.out}/figures.md and figures.json.")
    return 0 if report.holds else 1


if __name__ == "__main__":
    sys.exit(main())
