"""The harness itself: sizes, records and the table, the zygote."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from django.db import connection

from django_tasks_seq import executor
from django_tasks_seq.models import Worker
from tests.chaos import report, zygote as zygote_module
from tests.chaos.monkey import Storm
from tests.chaos.report import Run, read_all, record, recorded, table
from tests.chaos.sizes import new_seed, sizes
from tests.chaos.zygote import Zygote
from tests.helpers import wait_until
from tests.process.ledger import Ledger


@pytest.fixture
def records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for records, and none in the table of the session."""
    monkeypatch.setattr(report, "FOLDER", tmp_path)
    monkeypatch.setattr(report, "RECORDED", [])
    return tmp_path


def test_sizes_and_seeds_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """`CHAOS` chooses one of two sizes, `CHAOS_SEED` replays a run."""
    for name in ("CHAOS", "CHAOS_SEED"):
        monkeypatch.delenv(name, raising=False)
    assert sizes().pick(cut=1, full=2) == 1
    assert new_seed() != new_seed()

    monkeypatch.setenv("CHAOS", "full")
    monkeypatch.setenv("CHAOS_SEED", "7")
    assert sizes().pick(cut=1, full=2) == 2
    assert new_seed() == 7

    monkeypatch.setenv("CHAOS", "huge")
    with pytest.raises(ValueError, match="huge"):
        sizes()


def test_a_run_is_recorded_whatever_becomes_of_it(records: Path) -> None:
    """A block that ends well has passed, one that raises has not; each leaves a JSON file."""
    with recorded("R10", seed=1) as good:
        good.faults = {"kills": 3}
    with pytest.raises(AssertionError), recorded("R2", seed=2):
        raise AssertionError

    runs = {run.test: run for run in read_all(records)}
    assert {name: run.passed for name, run in runs.items()} == {"R10": True, "R2": False}
    assert runs["R10"].database == connection.vendor
    assert all(json.loads(path.read_text())["seed"] in (1, 2) for path in records.iterdir())


def test_the_table_has_a_row_for_each_run(records: Path) -> None:
    """In the order of the tests' numbers, with what was done to how many jobs."""
    record(Run("R10", faults="a flood", jobs=5, passed=True, database="sqlite"))
    record(Run("R2", faults={"kills": 4, "stops": 1}, recovery_p99=1.234, database="sqlite"))

    heading, *rows = table(report.RECORDED).splitlines()

    assert heading.split()[:2] == ["test", "database"]
    assert [row.split()[0] for row in rows] == ["R2", "R10"]
    assert "4 kills, 1 stops" in rows[0]
    assert "1.23 s" in rows[0]
    assert " NO" in rows[0]
    assert " yes" in rows[1]


@pytest.mark.parametrize(
    ("kills", "stops", "expected"),
    [(2, 0, "kk"), (0, 2, "ss"), (4, 2, "kskksk"), (1, 3, "ksss")],
)
def test_faults_and_jobs_are_spread_evenly(kills: int, stops: int, expected: str) -> None:
    """Each storm has all its faults and all its jobs."""
    storm = Storm(jobs=101, kills=kills, stops=stops)

    assert "".join(kind[0] for kind in storm.faults()) == expected
    assert [n for portion in storm.portions() for n in portion] == list(range(101))
    assert len(storm.portions()) == kills + stops + 1


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_a_forked_worker_works_and_ends(zygotes: Callable[..., Zygote], ledger: Ledger) -> None:
    """It signs on under its own pid, runs jobs, and ends by SIGTERM; a second one by SIGKILL."""
    zygote = zygotes()
    first, second = zygote.fork("--concurrency=1"), zygote.fork("--concurrency=2")
    wait_until(lambda: Worker.objects.count() == 2, what="two workers")
    job = executor.start_sequence("short", {})
    wait_until(lambda: job.refresh().status == "SUCCESSFUL", what="the job")
    (line,) = ledger.lines("call")

    assert set(Worker.objects.values_list("pid", "concurrency")) == {
        (first.pid, 1),
        (second.pid, 2),
    }
    assert line.pid in (first.pid, second.pid)
    assert first.running
    first.terminate()
    assert first.wait() == 0
    assert "bye: " in first.output()
    second.kill()
    assert second.wait() == -signal.SIGKILL


@pytest.mark.django_db(transaction=True, databases="__all__")
def test_workers_die_with_their_zygote(zygotes: Callable[..., Zygote]) -> None:
    """However the test ends, nothing of it is left: not even a worker that stands still."""
    zygote = zygotes()
    worker = zygote.fork()
    wait_until(Worker.objects.exists, what="the worker")
    worker.stop()

    os.kill(zygote._process.pid, signal.SIGKILL)

    wait_until(lambda: not is_alive(worker.pid), what="the end of the worker")


def is_alive(pid: int) -> bool:
    """Whether this process runs; one that nobody has reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.mark.django_db
def test_who_has_a_connection_forks_nobody() -> None:
    """A fork would share it: the zygote refuses."""
    connection.ensure_connection()

    with pytest.raises(RuntimeError, match="no zygote any more"):
        zygote_module._check_that_it_can_be_forked()
