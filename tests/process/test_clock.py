"""A worker whose clock is wrong: promise G7."""

import os
import signal
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from django_tasks_seq import executor
from django_tasks_seq.models import JobEvent, Worker
from tests.helpers import wait_until
from tests.process.conftest import Start
from tests.process.ledger import Ledger, database_time

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

HOUR = 3600
SITE = """
import datetime, os, time
offset = float(os.environ["TASKS_SEQ_TEST_CLOCK"])
real, real_ns = time.time, time.time_ns
time.time = lambda: real() + offset
time.time_ns = lambda: real_ns() + int(offset * 10**9)

class Shifted(datetime.datetime):
    __slots__ = ()  # the size that extension modules expect

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=offset)

datetime.datetime = Shifted
"""


@pytest.fixture
def wrong_clocks(start: Start, tmp_path: Path) -> None:
    """Two workers, one an hour ahead and one an hour behind."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    for offset in (HOUR, -HOUR):
        env = {"PYTHONPATH": str(tmp_path), "TASKS_SEQ_TEST_CLOCK": str(offset)}
        start("--concurrency=2", env=env, LEASE_SECONDS=2)
    wait_until(lambda: Worker.objects.count() == 2, what="two workers")


def test_a_wrong_clock_starts_nothing_early(wrong_clocks: None) -> None:
    """What is due in two seconds begins in two seconds, by the database's clock."""
    executor.start_sequence("short", {}, run_after=timedelta(hours=1))
    begun_at = database_time()
    job = executor.start_sequence("short", {}, run_after=timedelta(seconds=2))

    wait_until(lambda: job.refresh().status == "SUCCESSFUL", what="the job")

    assert timedelta(seconds=2) <= job.started_at - begun_at < timedelta(seconds=60)
    assert job.run_after <= job.started_at <= job.finished_at


def test_a_wrong_clock_loses_no_lease(wrong_clocks: None, ledger: Ledger, tmp_path: Path) -> None:
    """Tasks that take longer than a lease run once, and leases end when the database says so."""
    jobs = executor.start_many("until_file", [{"until": str(tmp_path / "go")}] * 4)
    wait_until(lambda: len({line.pid for line in ledger.lines("call")}) == 2, what="both work")
    first = {job.pk: job.refresh().lease_until for job in jobs}

    def renewed(job: Any) -> bool:
        return bool(job.refresh().lease_until - first[job.pk] > timedelta(seconds=2.5))

    for job in jobs:
        wait_until(partial(renewed, job), what="renewals beyond a lease")
        assert abs(job.lease_until - database_time()) < timedelta(seconds=60)
    (tmp_path / "go").touch()
    wait_until(lambda: {job.refresh().status for job in jobs} == {"SUCCESSFUL"}, what="the end")

    assert len(ledger.lines("call")) == 4 * 2
    assert not JobEvent.objects.exists()


def test_a_wrong_clock_rescues_what_is_lost(
    wrong_clocks: None, start: Start, ledger: Ledger, tmp_path: Path
) -> None:
    """A killed worker's job goes on when its lease has ended, not an hour before or after."""
    job = executor.start_sequence("until_file", {"until": str(tmp_path / "go")}, queue="mine")
    wait_until(lambda: ledger.lines("call", job), what="a running task")
    (holder,) = {line.pid for line in ledger.lines("call", job)}
    lease = job.refresh().lease_until

    os.kill(holder, signal.SIGKILL)
    (tmp_path / "go").touch()
    wait_until(lambda: job.refresh().status == "SUCCESSFUL", what="the end elsewhere")

    lost = JobEvent.objects.get(kind="lost")
    assert lease <= lost.created_at < lease + timedelta(seconds=60)
