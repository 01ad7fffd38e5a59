"""R7: workers whose clocks are wrong, and one whose clock jumps: promise G7."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from django.db import connections
from django.utils.dateparse import parse_datetime

from django_tasks_seq import Retry, RetryLater, TaskSpec, executor, registry
from django_tasks_seq.cache.changes import Held
from django_tasks_seq.cache.retention import Prunable
from django_tasks_seq.conf import get_config
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.engine.options import EngineOptions
from django_tasks_seq.models import Job, Worker
from django_tasks_seq.testing import advance, drain
from tests.chaos.evidence import Audit
from tests.chaos.judging import judge, kill_while_it_holds
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.engines import STORE, claim_one, declare
from tests.helpers import WorkerProcess, wait_until
from tests.process.ledger import Ledger

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

LEASE, POLL = 2.0, 0.2
HOUR = 3600
AHEAD, BEHIND, JUMPS = str(HOUR), str(-HOUR), "jumps"
# `offset` seconds from the right time, or, when it jumps, ten minutes to either side, twice a second.
SITE = """
import datetime, os, sys, time
word = os.environ["TASKS_SEQ_TEST_CLOCK"]
real, real_ns, steady = time.time, time.time_ns, time.monotonic

def offset():
    if word == "jumps":
        return 600.0 if int(steady() * 2) % 2 else -600.0
    return float(word)

time.time = lambda: real() + offset()
time.time_ns = lambda: real_ns() + int(offset() * 10**9)

class Shifted(datetime.datetime):
    __slots__ = ()  # the size that extension modules expect

    @classmethod
    def now(cls, tz=None):
        return super().now(tz) + datetime.timedelta(seconds=offset())

datetime.datetime = Shifted
print("clock is off by", round(time.time() - real()), file=sys.stderr)
"""
CLOCKS = ("0", AHEAD, BEHIND, JUMPS)
OFFSETS = {"0": [0], AHEAD: [HOUR], BEHIND: [-HOUR], JUMPS: [-600, 600]}


@pytest.fixture
def workers(
    worker_process: Callable[..., WorkerProcess], ledger: Ledger, tmp_path: Path
) -> dict[str, WorkerProcess]:
    """A worker for each opinion on the time."""
    (tmp_path / "sitecustomize.py").write_text(SITE)
    env = ledger.environment(LEASE_SECONDS=LEASE, POLL_INTERVAL=POLL)
    env["PYTHONPATH"] = str(tmp_path)
    started = {
        clock: worker_process("--concurrency=4", env={**env, "TASKS_SEQ_TEST_CLOCK": clock})
        for clock in CLOCKS
    }
    wait_until(lambda: Worker.objects.count() == len(CLOCKS), what="all workers")
    for clock, worker in started.items():
        assert any(f"clock is off by {off}\n" in worker.output() for off in OFFSETS[clock])
    return started


def test_wrong_clocks_change_neither_results_nor_recovery(
    workers: dict[str, WorkerProcess], ledger: Ledger, audit: Audit
) -> None:
    """Workers of four opinions on the time, two of them killed: all jobs end as with right clocks."""
    count = sizes().pick(cut=150, full=1000)
    with recorded("R7") as run:
        jobs = executor.start_many("chain", [{"n": n, "seconds": 0.02} for n in range(count)])
        pids = {worker.pid for worker in workers.values()}
        wait_until(lambda: {line.pid for line in ledger.lines("call")} == pids, what="tasks in all")
        kills = [kill_while_it_holds(workers[clock]) for clock in (AHEAD, JUMPS)]
        active = Job.objects.active()
        wait_until(lambda: not active.exists(), timeout=60, what="the end of all jobs")

        run.faults = {"clocks": len(CLOCKS) - 1, "kills": len(kills)}
        verdict = judge(run, ledger, audit, jobs, faults=kills)
        assert verdict.losses >= len(kills)
        assert verdict.recovery_p99 <= LEASE + POLL + 1 + sizes().pick(cut=9, full=0)


class Sent(NamedTuple):
    """One statement as it was sent."""

    sql: str
    params: tuple[Any, ...]


@contextmanager
def all_statements() -> Iterator[list[Sent]]:
    """What goes to the jobs' database meanwhile."""
    found: list[Sent] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        for given in params if many else [params]:
            found.append(Sent(sql, tuple(_flat(given or ()))))
        return execute(sql, params, many, context)

    with connections[get_config().database].execute_wrapper(note):
        yield found


def _flat(values: Any) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


LITERAL = re.compile(r"'\d{4}-\d\d-\d\d[ T]\d\d:\d\d")


def is_time(value: Any) -> bool:
    """Whether it can only have come from this process's clock: a date, or seconds since 1970."""
    if isinstance(value, date | datetime):
        return True
    if isinstance(value, str):
        try:
            return parse_datetime(value) is not None
        except ValueError:
            return False
    if isinstance(value, int | float) and not isinstance(value, bool):
        return any(abs(value / unit - time.time()) < 30 * 86400 for unit in (1, 1e3, 1e6, 1e9))
    return False


def test_no_statement_of_ours_has_the_time_of_a_process() -> None:
    """From start to rescue, over retries, verbs, handlers and sweeps: "now" is always the database's."""
    with registry.isolated(), all_statements() as sent:
        a_whole_life()

    text = "\n".join(one.sql for one in sent)
    for column in ("lease_until", "run_after", "finished_at", "heartbeat_at", "unknown_since"):
        assert column in text, f"nothing was said of {column}"
    assert len(sent) > 100
    guilty = [one for one in sent if any(map(is_time, one.params)) or LITERAL.search(one.sql)]
    assert not guilty


def a_whole_life() -> None:
    """Every kind of statement that has to do with time."""
    fails: list[Exception] = [RetryLater(30), ValueError("the first")]

    def falter(payload: Any) -> Any:
        if fails:
            raise fails.pop()
        return payload

    def same(payload: Any) -> Any:
        return payload

    declare("skewed", ("a", same), TaskSpec("b", falter, retry=Retry(5, delay=10)), ("c", same))
    job = executor.start_sequence("skewed", 1, run_after=timedelta(seconds=5))
    executor.start_many("skewed", range(3), run_after=timedelta(hours=1))
    for _ in range(4):
        advance(61)
        drain()
    assert job.refresh().status == "SUCCESSFUL"
    other = executor.start_sequence("skewed", 2)
    executor.pause(other)
    executor.resume(other)
    worker = STORE.enter(EngineOptions().introduction())
    mine = claim_one()
    STORE.beat(worker, draining=False)
    advance(30)
    STORE.tick([Held(mine.job_id, mine.token)], 60.0)
    advance(90)
    (change,) = STORE.rescue(lose)
    assert change.job_id == mine.job_id == other.pk
    executor.cancel(other)
    executor.retry(job, from_task="b")
    registry._sequences.pop("skewed")
    drain()
    assert job.refresh().unknown_since is not None
    STORE.next_due()
    STORE.sweep(60.0)
    STORE.prune(Prunable(86400.0), 100)
    STORE.prune_workers(86400.0)
    STORE.leave(worker)
