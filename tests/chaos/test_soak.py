"""R22: thousands of tasks in one worker: its memory, threads, files and sessions stay what they were."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from django.db import connection

from django_tasks_seq import executor
from django_tasks_seq.hygiene import REST
from django_tasks_seq.models import Job, TaskStatus
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.zygote import Zygote
from tests.helpers import wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

CONCURRENCY = 8
# What the table allows: a megabyte in 10,000 tasks. A short run cannot tell pages from a leak.
KILOBYTES_IN_10_000 = 1024
# SQLite's page cache of one connection fills while the tables grow, and then stays.
KILOBYTES_OF_A_CACHE = 2000
# A socket, or SQLite's three files.
FILES_OF_A_THREAD = 3
SESSIONS = (
    "SELECT count(*) FROM pg_stat_activity"
    " WHERE datname = current_database() AND backend_type = 'client backend'"
)


class State(NamedTuple):
    """What a worker has at one moment."""

    kilobytes: int
    threads: int
    files: int
    sessions: int


def state(pid: int) -> State:
    """Read from /proc, and asked of the database."""
    status = Path(f"/proc/{pid}/status").read_text()
    (resident,) = [line.split()[1] for line in status.splitlines() if line.startswith("VmRSS:")]
    threads, files = (len(list(Path(f"/proc/{pid}/{what}").iterdir())) for what in ("task", "fd"))
    return State(int(resident), threads, files, sessions())


def sessions() -> int:
    if connection.vendor != "postgresql":
        return 0
    with connection.cursor() as cursor:
        cursor.execute(SESSIONS)
        return int(cursor.fetchone()[0])


def test_nothing_grows_with_the_number_of_tasks(zygotes: Callable[..., Zygote]) -> None:
    """Plain, failing and atomic tasks, wave after wave: at rest the worker has what it had at first."""
    waves = sizes().pick(cut=6, full=20)
    each = sizes().pick(cut=700, full=1000)
    before = sessions()
    zygote = zygotes(RETENTION_DAYS=None)
    worker = zygote.fork(f"--concurrency={CONCURRENCY}", "--verbosity=0")
    with recorded("R22") as run:
        wave(each)
        first = at_rest(worker.pid)
        busy = []
        for _ in range(waves - 1):
            wave(each)
            busy.append(state(worker.pid))
        last = at_rest(worker.pid)
        warm = [one.kilobytes for one in busy[waves // 4 :]]
        grown = slope(warm) * 10_000 / each
        failures = Job.objects.filter(status="FAILED").count()
        run.jobs = Job.objects.count()
        run.faults = {"failures": failures}
        run.figures = {
            "tasks": TaskStatus.objects.count(),
            "KB in 10,000 tasks": round(grown),
            "threads": last.threads,
            "files": last.files,
            "sessions": last.sessions - before,
        }
        assert failures == waves * (each // 50)
        most_files = first.files + FILES_OF_A_THREAD * CONCURRENCY
        assert (last.threads, last.sessions) == (first.threads, first.sessions)
        # SQLite keeps files of closed connections for the next that opens.
        assert last.files <= (most_files if connection.vendor == "sqlite" else first.files)
        assert max(one.threads for one in busy) <= first.threads
        assert max(one.files for one in busy) <= most_files
        assert max(one.sessions for one in busy) <= before + CONCURRENCY + 3
        if connection.vendor == "sqlite":
            caches = KILOBYTES_OF_A_CACHE * (CONCURRENCY + 1)
            assert last.kilobytes - first.kilobytes < caches, busy
        else:
            assert grown < KILOBYTES_IN_10_000 * sizes().pick(cut=4, full=1), busy
        assert worker.running


def wave(tasks: int) -> None:
    """About so many tasks, and wait for their end."""
    executor.start_many("short", [{"n": n} for n in range(tasks - tasks // 10)])
    executor.start_many("chain", [{"n": n} for n in range(tasks // 100)])
    executor.start_many("fails", [{}] * (tasks // 50))
    active = Job.objects.active()
    wait_until(lambda: not active.exists(), timeout=90, what="the end of a wave")


def at_rest(pid: int) -> State:
    """The worker's state once its threads have closed their sessions: nothing has changed for a while."""
    latest, since = state(pid), time.monotonic()

    def is_level() -> bool:
        nonlocal latest, since
        now = state(pid)
        if now[1:] != latest[1:]:
            since = time.monotonic()
        latest = now
        return time.monotonic() - since > REST + 0.3

    wait_until(is_level, what="a worker at rest")
    return latest


def slope(values: list[int]) -> float:
    """By how much a value rises from one to the next, by least squares."""
    count = len(values)
    middle, mean = (count - 1) / 2, sum(values) / count
    above = sum((i - middle) * (value - mean) for i, value in enumerate(values))
    return above / sum((i - middle) ** 2 for i in range(count))
