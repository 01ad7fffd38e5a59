"""What the options of `run_task_worker` promise, each with a process of its own."""

import re
from pathlib import Path

import pytest

from django_tasks_seq import executor
from django_tasks_seq.models import Job, TaskAttempt
from tests.helpers import WorkerProcess, wait_until
from tests.process.conftest import Start
from tests.process.ledger import Ledger

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


def statuses() -> list[str]:
    return sorted(Job.objects.values_list("status", flat=True))


def ended(worker: WorkerProcess) -> str:
    """The output of a worker that ends by itself with exit code 0."""
    assert worker.wait() == 0, worker.output()
    return worker.output()


def test_burst_ends_when_nothing_is_due(start: Start) -> None:
    """What is due is run to its end, what is due later stays."""
    executor.start_many("chain", [{"n": n} for n in range(20)])
    executor.start_sequence("second_try", {})

    ended(start("--burst"))

    assert statuses() == ["SUCCESSFUL"] * 20 + ["WAITING"]


def test_burst_ends_when_there_was_nothing(start: Start) -> None:
    """An empty database is a burst done."""
    assert "bye: 0 successful, 0 failed" in ended(start("--burst"))


def test_until_empty_waits_for_a_later_retry(start: Start, ledger: Ledger) -> None:
    """It ends when nothing is due and nothing waits."""
    executor.start_sequence("second_try", {})

    ended(start("--until-empty"))

    assert statuses() == ["SUCCESSFUL"]
    assert [line.attempt for line in ledger.lines("call")] == [1, 2]


def test_max_jobs_ends_after_so_many(start: Start) -> None:
    """So many jobs are run to their end, no other is touched."""
    executor.start_many("chain", [{"n": n} for n in range(9)])

    ended(start("--max-jobs=4", "--concurrency=2"))

    assert statuses() == ["READY"] * 5 + ["SUCCESSFUL"] * 4


def test_queues_are_served_in_their_order(start: Start, ledger: Ledger) -> None:
    """The first queue named goes first, a queue not named is left alone."""
    for queue in ("slow", "fast", "other"):
        executor.start_many("short", [{}] * 3, queue=queue)
    queue_of = {str(job.pk): job.queue for job in Job.objects.all()}

    ended(start("--queues=fast,slow", "--concurrency=1", "--burst"))

    assert [queue_of[line.job_id] for line in ledger.lines("call")] == ["fast"] * 3 + ["slow"] * 3
    assert set(Job.objects.filter(status="READY").values_list("queue", flat=True)) == {"other"}


def test_a_health_file_is_fresh_while_the_worker_lives(start: Start, tmp_path: Path) -> None:
    """It is written again and again, and gone when the worker has ended."""
    path = tmp_path / "worker.health"
    worker = start(f"--health-file={path}")
    wait_until(path.exists, what="the file")
    first = path.stat().st_mtime_ns

    wait_until(lambda: path.stat().st_mtime_ns > first, what="a second beat")
    assert path.read_text().strip() == str(worker.pid)
    worker.terminate()

    ended(worker)
    assert not path.exists()
    assert not list(tmp_path.glob(".worker.health*"))


def test_a_health_file_that_is_a_link_is_replaced(start: Start, tmp_path: Path) -> None:
    """What a link in its place points to is left alone."""
    path, precious = tmp_path / "worker.health", tmp_path / "precious"
    precious.write_text("keep me")
    path.symlink_to(precious)
    worker = start(f"--health-file={path}")

    wait_until(lambda: not path.is_symlink(), what="the file in place of the link")
    worker.terminate()

    ended(worker)
    assert precious.read_text() == "keep me"


def test_a_health_file_that_cannot_be_written_is_said_at_the_start(
    start: Start, tmp_path: Path
) -> None:
    """A mistyped path ends the command with a sentence, not with a traceback."""
    worker = start(f"--health-file={tmp_path}/nowhere/worker.health")

    assert worker.wait() == 1
    assert "CommandError" in worker.output()
    assert "worker.health" in worker.output()
    assert "Traceback" not in worker.output()


def test_too_many_abandoned_tasks_end_the_process_with_75(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """When as many tasks hang as there are threads, a supervisor has to start the worker anew."""
    executor.start_many("abandoned", [{"until": str(tmp_path / "never")}] * 2)
    worker = start("--concurrency=2", "--drain-timeout=5", STOP_GRACE=0.2)

    assert worker.wait() == 75, worker.output()
    assert statuses() == ["FAILED"] * 2
    assert set(TaskAttempt.objects.values_list("outcome", flat=True)) == {"TIMED_OUT"}
    assert len(ledger.lines("call")) == 2


def test_abandoned_tasks_that_end_after_all_are_forgiven(
    start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """Threads that are left behind count as long as they hang, and no longer."""
    worker = start("--concurrency=2", STOP_GRACE=0.2)
    for n in range(3):
        go = tmp_path / f"go-{n}"
        job = executor.start_sequence("abandoned", {"until": str(go)})
        assert executor.wait(job, 30).status == "FAILED"
        go.touch()
        wait_until(lambda: len(ledger.lines("end")) > n, what="the end of its thread")  # noqa: B023

    done = executor.start_sequence("short", {})
    wait_until(lambda: done.refresh().status == "SUCCESSFUL", what="a job after them")
    assert worker.running


def test_verbosity_0_prints_nothing(start: Start) -> None:
    """Not a line, whatever happens to jobs."""
    executor.start_sequence("chain", {"n": 1})
    executor.start_sequence("abandoned", {"until": "/nowhere/never"})

    assert ended(start("--burst", "-v", "0", STOP_GRACE=0.1)) == ""


SCREEN = r"""django-tasks-seq \S+ · worker \S+:\d+ · queues: all · 1 thread · (SQLite|PostgreSQL) · lease 60 s · Django \S+
\d+ sequences registered · Ctrl\+C stops after the tasks that run
\d\d:\d\d:\d\d ✓ short [0-9a-f]{8}         short 1/1  \d+(\.\d+)? m?s
\d\d:\d\d:\d\d ↻ second_try [0-9a-f]{8}    second_try  tries \(1/1\), attempt 1: ValueError: the first attempt fails  again in 1\.5 s
\d\d:\d\d:\d\d ✗ fails [0-9a-f]{8}         fails  always \(1/1\), attempt 1: ValueError: it always fails
bye: 1 successful, 1 failed
"""


def test_what_people_read(start: Start) -> None:
    """A greeting, one line for each job that ends or is to be tried again, and a goodbye."""
    executor.start_sequence("short", {}, priority=3)
    executor.start_sequence("second_try", {}, priority=2)
    executor.start_sequence("fails", {}, priority=1)

    lines = ended(start("--burst", "--concurrency=1", "--no-color")).splitlines()

    expected = SCREEN.splitlines()
    for line, pattern in zip(lines, expected, strict=True):
        assert re.fullmatch(pattern, line), (line, pattern)


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--concurrency=0", "no whole number from 1"),
        ("--processes=two", "no whole number from 1"),
        ("--drain-timeout=-1", "no number of seconds from 0"),
        ("--drain-timeout=nan", "no number of seconds from 0"),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(start: Start, option: str, words: str) -> None:
    """Nothing is run, the message names the value."""
    worker = start(option)

    assert worker.wait() == 2
    assert words in worker.output()
