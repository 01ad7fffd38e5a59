"""The benchmark runs, counts what was committed, and says what it found; never how fast."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from django.db import connection

from tests.benchmarks import charts
from tests.benchmarks.bars import BARS, Answer, Bar, Found, first_of, highest, judge, lowest
from tests.benchmarks.databases import Cost
from tests.benchmarks.measurements import (
    APP,
    BARE,
    MB,
    Figures,
    Measured,
    Measurement,
    run_in_turn,
    work_figures,
)
from tests.benchmarks.parts import ON_POSTGRESQL, ON_SQLITE
from tests.benchmarks.processes import RunFailedError, measure
from tests.benchmarks.report import Report
from tests.benchmarks.tasks_sequences import TASKS

ROOT = Path(__file__).resolve().parents[2]
JOBS = 20
# The peers have a file of tests of their own, and need an environment.
PARTS = tuple({*ON_POSTGRESQL, *ON_SQLITE} - {"peers"})
# As small as they may be: the parts are tried, not the machine.
SIZES = {
    "rounds": 1,
    "jobs": JOBS,
    "starts": 5,
    "many": 10,
    "writers": 2,
    "writer-seconds": 0.01,
    "latency-jobs": 2,
    "warm-up": 1,
    "settle-seconds": 0.0,
    "idle-seconds": 0.01,
    "history-tasks": 500,
    "claims": 2,
    "backlog-jobs": 300,
    "small-backlog-jobs": JOBS,
    "sqlite-jobs": JOBS,
    "process-jobs": JOBS,
    "idle-workers": 2,
    "memory-tasks": 50,
    "large-jobs": 3,
    "large-bytes": 2000,
    "atomic-jobs": 4,
    "async-tasks": 5,
    "async-seconds": 0.01,
    "threads": 10,
    "thread-seconds": 0.05,
    "waits": 1,
    "curve-jobs": 4,
    "curve-latency-jobs": 1,
    "curve-workers": 2,
    "curve-tasks": 2,
    "curve-bytes": 100,
    "size-jobs": 2 * JOBS,
    "size-turns": 2,
    "size-bytes": 2000,
    "failed-jobs": 3,
    "carried-jobs": 2,
}


def run_benchmarks(out: Path, *args: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.benchmarks", "--out", str(out), *args]
    return subprocess.run(
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=150
    )


def measured(system: str, work: str, failures: tuple[str, ...] = (), **figures: float) -> Measured:
    """Three runs, the middle one with these figures."""
    runs = [{name: value * factor for name, value in figures.items()} for factor in (9.0, 1.0, 0.1)]
    return Measured(Measurement("part", system, "postgresql", work, dict), runs, failures)


def report(*found: Measured, **peers: bool) -> Report:
    return Report(found, {"cores": "2"}, seconds=1.0, peers=peers)


Ran = tuple[int, dict[str, Any], str, Path]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Exit code, figures, page and charts of one small run of everything that this database allows."""
    out = tmp_path_factory.mktemp("bench")
    parts = PARTS if connection.vendor == "postgresql" else (*ON_SQLITE, "bare")
    options = [f"--{name}={size}" for name, size in SIZES.items()]
    done = run_benchmarks(out, f"--only={','.join(parts)}", f"--charts={out}", *options)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads((out / "figures.json").read_text()), done.stdout, out


# A run of everything


def test_nothing_fails_and_every_outcome_is_committed(ran: Ran) -> None:
    """Each run of each part gives figures: one outcome for each task of each job, in order."""
    _, figures, page, _ = ran

    work = [run for one in figures["measured"] if one["work"] == "work" for run in one["runs"]]

    assert [one for one in figures["measured"] if one["failures"] or not one["medians"]] == []
    assert len(work) == (6 if connection.vendor == "postgresql" else 3)
    assert {run["outcomes"] for run in work} == {JOBS * TASKS}
    assert "failed" not in page


def test_every_bar_is_judged_that_the_database_allows(ran: Ran) -> None:
    """With a PostgreSQL all bars but that of the peers are in the table, without one those of SQLite."""
    _, figures, _, _ = ran

    judged = [(one["bar"], one["what"]) for one in figures["bars"]]
    wanted = [bar for bar in BARS if "peer" not in bar.what]
    if connection.vendor == "sqlite":
        wanted = [bar for bar in wanted if bar.name == "P7"]

    assert judged == [(bar.name, bar.what) for bar in wanted]


def test_the_exit_code_and_the_page_say_whether_the_bars_hold(ran: Ran) -> None:
    """Exit code 1 means that a bar of the page was missed."""
    code, figures, page, _ = ran

    assert code == (0 if all(bar["holds"] for bar in figures["bars"]) else 1)
    assert all(bar["what"] in page for bar in figures["bars"])
    assert page.count("**no**") == sum(not bar["holds"] for bar in figures["bars"])
    assert page.startswith("| bar | what was measured | figure | needed | holds |")


def test_the_page_names_the_machine(ran: Ran) -> None:
    """Cores, versions and what a commit is worth stand below the figures."""
    _, figures, page, _ = ran

    for name in ("cores", "Python", "Django", "SQLite"):
        assert f"| {name} | {figures['machine'][name]} |" in page
    assert ("fsync=" in page) == (connection.vendor == "postgresql")


def test_the_curves_are_drawn_from_the_figures(ran: Ran) -> None:
    """Each curve is an SVG file with a mark for each point of both panels; without curves none is."""
    _, _, _, out = ran

    marks = {
        path.name: sum(1 for node in ET.parse(path).iter() if node.tag.endswith("circle"))
        for path in out.glob("*.svg")
    }

    assert marks == (
        {"bench-workers.svg": 2, "bench-tasks.svg": 2, "bench-results.svg": 2}
        if connection.vendor == "postgresql"
        else {}
    )


@pytest.mark.postgresql
def test_the_bytes_of_each_kind_of_row_are_given(ran: Ran) -> None:
    """A row takes what its parts take; large results are kept beside their rows."""
    _, figures, _, _ = ran

    sized = {one["work"]: one["medians"] for one in figures["measured"]}
    kept, large = sized["rows kept"], sized["rows with results of 2,000 bytes"]
    parts = [kept[f"task_{part}_bytes"] for part in ("heap", "toast", "index")]

    assert kept["task_bytes"] == pytest.approx(sum(parts))
    assert kept["task_heap_bytes"] > 0
    assert large["task_toast_bytes"] > kept["task_toast_bytes"]
    assert sized["rows of what went wrong"]["traceback_bytes"] > 0


@pytest.mark.postgresql
@pytest.mark.usefixtures("ran")
def test_no_database_is_left_behind(django_db_blocker: Any) -> None:
    """All databases that were made on the server are dropped."""
    with django_db_blocker.unblock(), connection.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database WHERE datname LIKE 'tseq_bench_%%'")

        assert cursor.fetchall() == []


# Parts


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


def test_a_part_brings_what_its_bars_compare_with() -> None:
    """A measurement is run for its own part and for those that compare with it."""
    one = Measurement("throughput", APP, "postgresql", "work", dict, ("history",))

    assert one.belongs_to(["throughput"])
    assert one.belongs_to(["sqlite", "history"])
    assert not one.belongs_to(["sqlite"])


# Runs


def test_a_missing_outcome_fails_the_run() -> None:
    """One task row too few and the figure is not given."""
    found = {"jobs": 2, "outcomes": 9, "seconds": 1.0, "cpu_seconds": 1.0}

    with pytest.raises(RunFailedError, match="10 outcomes"):
        work_figures(found, 2)


@pytest.mark.parametrize("wrong", [{"results": [5, 4]}, {"out_of_order": 1}])
def test_a_wrong_order_fails_the_run(wrong: dict[str, Any]) -> None:
    """A last result that did not count to five, or a task that began before the last had ended."""
    found = {"jobs": 2, "outcomes": 10, "seconds": 1.0, "cpu_seconds": 1.0, **wrong}

    with pytest.raises(RunFailedError, match="in order"):
        work_figures(found, 2)


def test_costs_are_given_for_each_task() -> None:
    """Transactions and WAL are divided by the number of tasks, not of jobs."""
    found = {"jobs": 2, "outcomes": 10, "seconds": 2.0, "cpu_seconds": 0.5}

    figures = work_figures(found, 2, Cost(transactions=20, wal_bytes=7000), memory=60 * MB)

    assert figures == {
        "tasks_per_second": 5.0,
        "cpu_ms_per_task": 50.0,
        "outcomes": 10.0,
        "wal_bytes_per_task": 700.0,
        "transactions_per_task": 2.0,
        "memory_mb": 60.0,
    }


def test_a_process_that_fails_fails_the_run() -> None:
    """What the process complained of is the message."""
    with pytest.raises(RunFailedError, match=r"(?s)app fly: exit code 1.*KeyError: 'fly'"):
        measure("app", "fly", "sqlite:////nowhere/else.sqlite3")


def test_a_figure_is_the_median_of_its_runs() -> None:
    """One slow and one quick run change nothing."""
    runs = [{"tasks_per_second": value} for value in (5.0, 900.0, 7.0)]
    measurement = Measurement("part", APP, "sqlite", "work", dict)

    assert Measured(measurement, runs).medians == {"tasks_per_second": 7.0}


def test_systems_are_measured_in_turn() -> None:
    """Round by round, so that what slows the machine for a while slows all of them."""
    order: list[str] = []

    def note(system: str) -> Figures:
        order.append(system)
        return {"tasks_per_second": float(len(order))}

    both = [
        Measurement("part", name, "sqlite", "work", partial(note, name)) for name in (APP, BARE)
    ]
    found = run_in_turn(both, rounds=2, say=lambda _: None)

    assert order == [APP, BARE, APP, BARE]
    assert [one.medians["tasks_per_second"] for one in found] == [2.0, 3.0]


def test_a_run_that_fails_leaves_no_figure_and_stops_no_other() -> None:
    """One failure of three and the measurement has no median; the report names it and does not hold."""
    outcomes = iter([None, RunFailedError("one outcome is missing"), None])

    def fail_once() -> Figures:
        if (error := next(outcomes)) is not None:
            raise error
        return {"tasks_per_second": 1.0}

    of = partial(Measurement, "part", vendor="postgresql", work="work")
    both = [of(APP, run=fail_once), of(BARE, run=lambda: {"tasks_per_second": 1.0})]
    found = run_in_turn(both, rounds=3, say=lambda _: None)

    assert [(len(one.runs), one.medians) for one in found] == [
        (2, {}),
        (3, {"tasks_per_second": 1.0}),
    ]
    assert not report(*found).holds
    assert "one outcome is missing" in report(*found).as_markdown()


# Bars


def rates(ours: float, bare: float) -> list[Measured]:
    return [
        measured(APP, "work", tasks_per_second=ours),
        measured(BARE, "work", tasks_per_second=bare),
    ]


@pytest.mark.parametrize(("ours", "holds"), [(8000.0, True), (7999.0, False)])
def test_the_first_bar_is_a_share_of_the_bare_limit(ours: float, holds: bool) -> None:
    """The medians are compared, and the ratio stands before what it is made of."""
    judged = report(*rates(ours, 10_000))

    assert [(one.bar, one.holds) for one in judged.verdicts] == [("P1", holds)]
    assert f"| 0.8 ({ours:,.0f} / 10,000) | ≥ 0.8 | {'yes' if holds else '**no**'} |" in (
        judged.as_markdown()
    )


def test_only_durable_peers_are_beaten_tenfold() -> None:
    """The best of them counts; one that may lose jobs is shown and not compared with."""
    peers = [
        measured(name, "work", tasks_per_second=rate)
        for name, rate in (("slow", 200.0), ("best", 400.0), ("loose", 900.0))
    ]
    judged = report(
        measured(APP, "work", tasks_per_second=4000.0), *peers, slow=True, best=True, loose=False
    )

    assert [(one.figure, one.holds) for one in judged.verdicts] == [(10.0, True)]
    assert "| loose (not durable) | 900 (4.44) |" in judged.as_markdown()


@pytest.mark.parametrize(
    ("sign", "figure", "holds"),
    [("≥", 5.0, True), ("≥", 4.9, False), ("≤", 5.0, True), ("≤", 5.1, False), ("<", 5.0, False)],
)
def test_a_bar_is_reached_from_its_own_side(sign: str, figure: float, holds: bool) -> None:
    """At least, at most and less than mean what they say."""
    (verdict,) = [
        one
        for bar in [Bar("P0", "something", sign, 5, lambda _: Answer(figure))]
        if (one := bar.judge(Found([], {})))
    ]

    assert verdict.holds is holds


def test_what_was_not_measured_is_not_judged() -> None:
    """No figure, or one of several that is missing, gives no verdict."""

    def there(_: Found) -> Answer:
        return Answer(2.0)

    def missing(_: Found) -> None:
        return None

    nothing = Found([], {})

    assert judge(nothing) == []
    assert highest(there, missing)(nothing) is None
    assert lowest(there, there)(nothing) == Answer(2.0)
    assert first_of(missing, there)(nothing) == Answer(2.0)


def test_each_bar_of_the_issue_is_asked_for() -> None:
    """P1 to P11 are there, in order; P12 is drawn."""
    assert list(dict.fromkeys(bar.name for bar in BARS)) == [f"P{n}" for n in range(1, 12)]


# Charts


def test_a_point_that_failed_is_not_drawn(tmp_path: Path) -> None:
    """A curve whose points all failed makes no file."""
    found = [
        measured(APP, "workers: 1", tasks_per_second=10.0, latency_p50_ms=5.0),
        measured(APP, "workers: 2", ("lost",)),
        measured(APP, "tasks a job: 1", ("lost",)),
    ]
    figures = Report(found, {"cores": "2", "Python": "3", "Django": "6"}, seconds=1.0).as_dict()

    (drawn,) = charts.draw(figures, tmp_path)

    assert drawn.name == "bench-workers.svg"
    assert drawn.read_text().count("<circle") == 2
