"""The benchmark runs, counts what was committed, and says what it found; never how fast."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from tests.benchmarks.databases import Cost
from tests.benchmarks.measurements import (
    APP,
    BARE,
    Measured,
    Measurement,
    run_in_turn,
    work_figures,
)
from tests.benchmarks.processes import RunFailedError
from tests.benchmarks.report import Report
from tests.benchmarks.tasks_sequences import TASKS

ROOT = Path(__file__).resolve().parents[2]
JOBS = 30
SIZES = {
    "rounds": 1,
    "jobs": JOBS,
    "starts": 5,
    "many": 10,
    "latency-jobs": 3,
    "warm-up": 1,
    "settle-seconds": 0.0,
    "idle-seconds": 0.1,
}


def run_benchmarks(out: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", "--out", str(out), *args]
    return subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=150
    )


def measured(system: str, tasks_per_second: float, vendor: str = "postgresql") -> Measured:
    runs = [{"tasks_per_second": tasks_per_second * factor} for factor in (9.0, 1.0, 0.1)]
    return Measured(Measurement("part", system, vendor, "work", dict), runs)


def report(*found: Measured) -> Report:
    return Report(found, {"cores": "2"}, seconds=1.0)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], str]:
    """Exit code, figures and page of one small run of everything that this database allows."""
    out = tmp_path_factory.mktemp("bench")
    done = run_benchmarks(out, *(f"--{name}={size}" for name, size in SIZES.items()))
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads((out / "figures.json").read_text()), done.stdout


def test_every_outcome_of_every_run_is_committed(ran: tuple[int, dict[str, Any], str]) -> None:
    """Each round of each system ends with one outcome for each task of each job."""
    _, figures, _ = ran

    work = [one["runs"] for one in figures["measured"] if one["work"] == "work"]

    assert len(work) == (6 if connection.vendor == "postgresql" else 3)
    assert {run["outcomes"] for runs in work for run in runs} == {JOBS * TASKS}
    assert {len(runs) for runs in work} == {SIZES["rounds"]}


def test_all_parts_are_measured_that_the_database_allows(
    ran: tuple[int, dict[str, Any], str],
) -> None:
    """With a PostgreSQL all kinds of work are there, without one those on SQLite."""
    _, figures, _ = ran

    ours = {(one["database"], one["work"]) for one in figures["measured"] if one["system"] == APP}
    on_postgresql = {("postgresql", work) for work in ("work", "start", "latency")}

    assert ours == {("sqlite", "work")} | (
        on_postgresql if connection.vendor == "postgresql" else set()
    )


def test_the_exit_code_and_the_page_say_whether_the_bars_hold(
    ran: tuple[int, dict[str, Any], str],
) -> None:
    """Exit code 1 means that a bar of the page was missed."""
    code, figures, page = ran

    assert code == (0 if all(bar["holds"] for bar in figures["bars"]) else 1)
    assert all(bar["bar"] in page for bar in figures["bars"])
    assert page.count("**no**") == sum(not bar["holds"] for bar in figures["bars"])
    assert page.startswith("|  | ratio to the bare limit | this app |")


def test_the_page_names_the_machine(ran: tuple[int, dict[str, Any], str]) -> None:
    """Cores, versions and what a commit is worth stand below the figures."""
    _, figures, page = ran

    for name in ("cores", "Python", "Django", "SQLite"):
        assert f"| {name} | {figures['machine'][name]} |" in page
    assert ("fsync=" in page) == (connection.vendor == "postgresql")


@pytest.mark.postgresql
@pytest.mark.usefixtures("ran")
def test_no_database_is_left_behind(django_db_blocker: Any) -> None:
    """All databases that were made on the server are dropped."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'tseq_bench_%%'")

        assert cursor.fetchall() == []


@pytest.mark.sqlite
def test_a_part_that_needs_postgresql_is_refused_without_it(tmp_path: Path) -> None:
    """`--only throughput` on SQLite ends at once and says what is missing."""
    done = run_benchmarks(tmp_path, "--only", "throughput,bare")

    assert done.returncode == 2
    assert "throughput: DATABASE_URL names no PostgreSQL" in done.stderr


def test_an_unknown_part_is_refused(tmp_path: Path) -> None:
    """A mistyped part is named."""
    done = run_benchmarks(tmp_path, "--only", "sqlight")

    assert done.returncode == 2
    assert "sqlight: no such part" in done.stderr


def test_a_missing_outcome_fails_the_run() -> None:
    """One task row too few and the figure is not given."""
    found = {"jobs": 2, "outcomes": 9, "seconds": 1.0, "cpu_seconds": 1.0}

    with pytest.raises(RunFailedError, match="10 outcomes"):
        work_figures(found, 2, Cost())


def test_costs_are_given_for_each_task() -> None:
    """Transactions and WAL are divided by the number of tasks, not of jobs."""
    found = {"jobs": 2, "outcomes": 10, "seconds": 2.0, "cpu_seconds": 0.5}

    figures = work_figures(found, 2, Cost(transactions=20, wal_bytes=7000), memory=60_000_000)

    assert figures == {
        "tasks_per_second": 5.0,
        "cpu_ms_per_task": 50.0,
        "outcomes": 10.0,
        "wal_bytes_per_task": 700.0,
        "transactions_per_task": 2.0,
        "memory_mb": 60.0,
    }


@pytest.mark.parametrize(
    ("ours", "bare", "holds"),
    [
        pytest.param(4000, 100_000, True, id="fast enough, whatever the bare limit"),
        pytest.param(3999, 13_000, True, id="a slow machine, and a good share of it"),
        pytest.param(3999, 14_000, False, id="too slow for the machine"),
    ],
)
def test_the_bar_is_a_rate_or_a_share_of_the_bare_limit(
    ours: float, bare: float, holds: bool
) -> None:
    """The median counts; on a slow machine the share of the bare limit does."""
    judged = report(measured(APP, ours), measured(BARE, bare))

    assert judged.holds is holds
    assert [verdict.holds for verdict in judged.verdicts] == [holds]


def test_a_figure_is_the_median_of_its_runs() -> None:
    """One slow and one quick run change nothing."""
    runs = [{"tasks_per_second": value} for value in (5.0, 900.0, 7.0)]
    measurement = Measurement("part", APP, "sqlite", "work", dict)

    assert Measured(measurement, runs).medians == {"tasks_per_second": 7.0}


def test_systems_are_measured_in_turn() -> None:
    """Round by round, so that what slows the machine for a while slows all of them."""
    order: list[str] = []

    def note(system: str) -> dict[str, float]:
        order.append(system)
        return {"tasks_per_second": float(len(order))}

    both = [
        Measurement("part", name, "sqlite", "work", partial(note, name)) for name in (APP, BARE)
    ]
    found = run_in_turn(both, rounds=2, say=lambda _: None)

    assert order == [APP, BARE, APP, BARE]
    assert [one.medians["tasks_per_second"] for one in found] == [2.0, 3.0]


def test_without_the_bare_limit_the_rate_alone_counts() -> None:
    """`--only sqlite` judges by tasks a second, and shows no ratio."""
    judged = report(measured(APP, 1999, vendor="sqlite"))

    assert not judged.holds
    assert "| durable tasks/s, SQLite |  | 1,999 |  |  |" in judged.as_markdown()
