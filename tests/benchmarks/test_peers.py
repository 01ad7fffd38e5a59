"""The peers' part of the benchmark, as far as it goes without their environment: nothing is installed here."""

import ast
import inspect
import itertools
import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from tests.benchmarks import tasks_sequences
from tests.benchmarks.databases import Cost, PostgresDatabases
from tests.benchmarks.measurements import Sizes, run_in_turn
from tests.benchmarks.peers import DURABLE, PEERS, driving, environment, measurements, measuring
from tests.benchmarks.peers.environment import Environment
from tests.benchmarks.processes import RunFailedError

JOBS = 3
FOUND: dict[str, Any] = {
    "jobs": JOBS,
    "counts": {str(n): JOBS for n in range(1, 6)},
    "seconds": 0.5,
}
VERBS = {"prepare", "queue", "work", "outcome", "start", "latency", "serve"}
every_peer = pytest.mark.parametrize("name", PEERS)

# Of the three measurements, none runs anything but what the tests below make it fail with.
NO_SERVER = cast("PostgresDatabases", None)


def wheel(directory: Path, name: str) -> str:
    """Make the smallest package that pip installs."""
    path = directory / f"{name}-1.0-py3-none-any.whl"
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as made:
        made.writestr(f"{name}.py", "")
        made.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        made.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        made.writestr(
            f"{info}/RECORD", f"{name}.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n"
        )
    return str(path)


# Requirements


def test_each_requirement_is_a_name_and_one_version() -> None:
    """The file holds names with pins and nothing else: no address, no option, no range."""
    assert all(environment.pins())


@pytest.mark.parametrize(
    "line", ["dbos>=3", "dbos", "--index-url x", "dbos @ file:///dbos", "dbos==3.*", "-r other.txt"]
)
def test_what_is_no_pin_is_refused(line: str, tmp_path: Path, monkeypatch: Any) -> None:
    """A requirement without one version, or an option, is an error that shows the line."""
    path = tmp_path / "requirements.txt"
    path.write_text(f"celery[redis]==5.7.0\n{line}\n")
    monkeypatch.setattr(environment, "REQUIREMENTS", path)

    with pytest.raises(ValueError, match="not a name and its version") as refused:
        environment.pins()

    assert line in str(refused.value)


def test_each_requirement_is_needed_and_each_need_is_pinned() -> None:
    """What the peers need is what the file names."""
    needed = {name for peer in measuring.OF.values() for name in peer.needs}

    assert needed == {pin["name"] for pin in environment.pins()}


def test_this_project_does_not_depend_on_its_peers() -> None:
    """No requirement of a peer but Django, psycopg is one of this project's own."""
    text = (Path(__file__).resolve().parents[2] / "pyproject.toml").read_text()
    peers = {pin["name"] for pin in environment.pins()} - {"django", "psycopg"}

    assert [name for name in sorted(peers) if f'"{name}' in text] == []


# Drivers


def test_all_peers_are_known() -> None:
    """Names, drivers and what is durable speak of the same peers."""
    assert set(PEERS) == set(measuring.OF) == set(DURABLE)


@every_peer
def test_each_driver_has_all_verbs(name: str) -> None:
    """A driver compiles and has every verb, which takes what the measurement gives it."""
    path = Path(driving.__file__).with_name(f"{measuring.OF[name].driver}.py")
    tree = ast.parse(path.read_text())
    functions = {one.name: one for one in tree.body if isinstance(one, ast.FunctionDef)}
    given = {
        verb: [argument.arg for argument in functions[verb].args.args]
        for verb in VERBS & set(functions)
    }

    assert given == {
        "prepare": [],
        "queue": ["jobs"],
        "work": ["jobs"],
        "outcome": [],
        "start": ["starts"],
        "latency": ["jobs", "warm_up"],
        "serve": [],
    }


def test_drivers_share_only_what_their_environment_has() -> None:
    """What a driver imports of this repository imports neither Django nor this project."""
    code = (
        "import sys; sys.modules['django'] = sys.modules['django_tasks_seq'] = None\n"
        "import tests.benchmarks.peers.driving, tests.benchmarks.peers.asking, tests.servers.tied"
    )

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[2],
        env={"PATH": "", "DATABASE_URL": ""},
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 0, done.stderr


def test_the_peers_do_the_work_of_this_app() -> None:
    """Their task is ours: the same number of tasks, the same results."""
    payload = {"count": 0}
    for _ in range(driving.TASKS):
        assert driving.noop(payload) == tasks_sequences.noop(payload)
        payload = driving.noop(payload)

    assert driving.TASKS == tasks_sequences.TASKS == payload["count"]


def test_a_countdown_calls_once_when_the_last_job_has_ended() -> None:
    """Results of earlier tasks do not count, and those of eight threads are counted once each."""
    calls: list[int] = []
    countdown = driving.Countdown()
    countdown.expect(800, lambda: calls.append(1))

    def work() -> None:
        for count in itertools.islice(itertools.cycle(range(1, driving.TASKS + 1)), 500):
            assert countdown.note({"count": count}) == {"count": count}

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert calls == [1]


def test_latencies_are_those_after_the_warm_up(monkeypatch: Any) -> None:
    """A job that has not ended yet is asked for again, and jobs of the warm-up are left out."""
    monkeypatch.setattr(driving, "GAPS", (0.0, 0.0))
    jobs = itertools.count(1)
    asked: dict[int, Iterator[int]] = {}

    def ended_at(job: int) -> float | None:
        times = asked.setdefault(job, itertools.count(1))
        return None if next(times) < 3 else 1000.0 * job

    found = driving.latencies(lambda: next(jobs), ended_at, jobs=2, warm_up=1)

    assert {job: next(times) for job, times in asked.items()} == {1: 4, 2: 4, 3: 4}
    assert [len(times) for times in found.values()] == [2, 2]
    assert 999.0 < found["finished"][1] - found["finished"][0] <= 1000.0


def test_a_job_that_never_ends_is_an_error(monkeypatch: Any) -> None:
    """The wait for a job has a deadline, and the message names the job."""
    monkeypatch.setattr(driving, "JOB_DEADLINE", 0.01)

    with pytest.raises(TimeoutError, match="job 7 has not ended"):
        driving.latencies(lambda: 7, lambda _: None, jobs=1, warm_up=0)


# Verification


def test_a_complete_run_has_the_figures_of_this_app() -> None:
    """Figures have the names of ours, for each task."""
    cost = Cost(transactions=30, wal_bytes=15_000)

    figures = measuring.figures_of({"cpu_seconds": 0.03}, FOUND, JOBS, cost)

    assert figures == {
        "tasks_per_second": 30.0,
        "outcomes": 15.0,
        "cpu_ms_per_task": 2.0,
        "wal_bytes_per_task": 1000.0,
        "transactions_per_task": 2.0,
    }


def test_a_peer_that_keeps_no_beginning_is_timed_from_when_it_was_up() -> None:
    """Where only ends are recorded, the driver says when its worker was up."""
    found = driving.outcome(1, [{"count": n} for n in range(1, 6)], 0.0, 1002.5)

    figures = measuring.figures_of({"began": 1000.0}, found, 1, Cost())

    assert figures == {"tasks_per_second": 2.0, "outcomes": 5.0}


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"jobs": JOBS - 1}, id="a job has not ended"),
        pytest.param({"jobs": JOBS + 1}, id="a job too many"),
        pytest.param({"counts": {**FOUND["counts"], "5": JOBS - 1}}, id="a last result is missing"),
        pytest.param({"counts": {**FOUND["counts"], "3": JOBS + 1}}, id="a task ran twice"),
        pytest.param({"counts": {**FOUND["counts"], "6": 1}}, id="a task too many"),
        pytest.param({"counts": {"1": 5 * JOBS}}, id="no task got the result before"),
        pytest.param({"counts": {}}, id="no results"),
    ],
)
def test_a_run_whose_results_are_wrong_fails(wrong: dict[str, Any]) -> None:
    """Whatever is missing, doubled or wrong in a peer's records leaves the run without a figure."""
    with pytest.raises(RunFailedError, match="3 jobs were to end"):
        measuring.figures_of({"cpu_seconds": 1.0}, {**FOUND, **wrong}, JOBS, Cost())


# Environment


def test_a_peer_that_cannot_be_installed_is_named_and_the_others_are_there(tmp_path: Path) -> None:
    """Its reason is pip's; whoever else could be installed can run; only a whole environment is kept."""
    missing = str(tmp_path / "bad-1.0-py3-none-any.whl")
    directory = tmp_path / "environment"
    wanted = {"good": [wheel(tmp_path, "good")], "bad": [missing]}
    made = Environment(directory, wanted)

    made.check("good")
    with pytest.raises(RunFailedError, match="bad-1"):
        made.check("bad")
    assert made.find("good.py").is_file()

    # Once it can be installed, all is made anew; and then kept.
    wheel(tmp_path, "bad")
    mark = directory / "mark"
    mark.touch()
    Environment(directory, wanted).check("bad")
    assert not mark.exists(), "what was not whole is kept"

    mark.touch()
    Environment(directory, wanted).check("bad")
    assert mark.exists(), "what had all requirements was made anew"


def test_what_is_no_environment_is_never_cleared(tmp_path: Path) -> None:
    """A directory with anything else in it stays as it is, and the run says so."""
    (tmp_path / "thesis.txt").write_text("text")

    with pytest.raises(RunFailedError, match="left as it is"):
        Environment(tmp_path, {"good": []}).check("good")

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_peer_that_failed_is_named_and_stops_no_other(tmp_path: Path) -> None:
    """Each measurement of each peer is tried, reported with its reason, and not tried a second time."""
    (tmp_path / "thesis.txt").write_text("text")
    said: list[str] = []

    found = run_in_turn(measurements(NO_SERVER, Sizes(), tmp_path), 2, said.append)

    assert [one.of.system for one in found] == [name for name in PEERS for _ in range(3)]
    assert {one.of.part for one in found} == {"peers"}
    assert [one.of.work for one in found[:3]] == ["work", "start", "latency"]
    for one in found:
        assert one.medians == {}
        first, second = one.failures
        assert "left as it is" in first
        assert "failed before" in second
        assert "left as it is" in second
        assert any(one.of.system in line and "left as it is" in line for line in said)


def test_the_interface_is_what_the_benchmark_calls() -> None:
    """`measurements` takes databases, sizes and the environment's directory."""
    assert list(inspect.signature(measurements).parameters) == ["databases", "sizes", "directory"]
