"""R21: what failed together does not return together, and idle workers do not all run at each call."""

import random
import time
from collections import Counter
from typing import Any

import pytest
from django.db import OperationalError, connection

from django_tasks_seq import Retry, TaskSpec, executor, registry
from django_tasks_seq.cache.changes import Claim
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.cache.model.notifying import CHANNEL
from django_tasks_seq.engine import EngineOptions, build_inline_engine
from django_tasks_seq.engine.loop import LONGEST_BACKOFF
from django_tasks_seq.handler_call import HANDLER_RETRY
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from django_tasks_seq.unknown import UNKNOWN_DELAY
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.engines import EngineThread, declare
from tests.helpers import wait_until

NOTIFICATIONS = 200
WORKERS = 3
EXTRA = 5


def fails(payload: Any) -> None:
    raise ValueError("the warehouse is down")


def busiest(delays: list[float], span: float) -> float:
    """How many times the mean the busiest of *span* seconds has."""
    counts = Counter(int(delay) for delay in delays)
    assert set(counts) <= set(range(int(span) + 1))
    return max(counts.values()) * span / len(delays)


def test_jobs_that_failed_together_do_not_return_together(db: None, seed: int) -> None:
    """Through engine and database: no second of the delay has more than twice the mean of retries."""
    jobs = sizes().pick(cut=500, full=2000)
    span = sizes().pick(cut=15, full=60)
    random.seed(seed)
    with recorded("R21 retries", seed=seed) as run, registry.isolated():
        declare("herd", TaskSpec("fails", fails, retry=Retry(2, delay=span)))
        executor.start_many("herd", [None] * jobs)
        began = time.monotonic()
        drain()
        took = time.monotonic() - began
        rows = Job.objects.filter(status="WAITING").values_list("run_after", flat=True)
        first = min(Job.objects.values_list("created_at", flat=True))
        delays = sorted((due - first).total_seconds() for due in rows)
        # Those whose delay was over before all had failed have been tried again already.
        peak = busiest(delays, span + took)
        run.jobs, run.faults, run.figures = jobs, {"failures": jobs}, {"peak to mean": peak}
        print(f"{len(delays)} wait, busiest second {peak:.2f} times the mean")
        assert len(delays) > 0.6 * jobs
        assert peak <= 2


@pytest.mark.parametrize("attempt", [1, 2, 3, 6])
def test_each_further_attempt_is_spread_over_its_whole_delay(attempt: int, seed: int) -> None:
    """The default formula, and that of handlers, whichever attempt it is."""
    source = random.Random(seed)
    for retry in (Retry(9, delay=30), HANDLER_RETRY):
        most = retry.next_delay(ValueError(), attempt, lambda: 1.0) or 0.0
        found = [retry.next_delay(ValueError(), attempt, source.random) for _ in range(2000)]
        shares = [20 * delay / most for delay in found if delay is not None]
        assert len(shares) == 2000
        assert busiest(shares, 20) <= 2


def test_jobs_that_nobody_here_knows_come_back_one_by_one(db: None, seed: int) -> None:
    """In a deploy all jobs of a new sequence are deferred by old workers: within 30 s, not at once."""
    random.seed(seed)
    with registry.isolated():
        declare("new", ("only", fails))
        executor.start_many("new", [None] * 500)
    drain()
    rows = Job.objects.filter(status="WAITING").values_list("run_after", "created_at")
    delays = [(due - created).total_seconds() for due, created in rows]
    counts = Counter(int(delay) for delay in delays)
    assert len(delays) == 500
    assert max(delays) < UNKNOWN_DELAY + 10
    assert max(counts.values()) <= 2 * 500 / (0.7 * UNKNOWN_DELAY)


class Counting(ModelTaskCacheHandler):
    """The store of one worker, which counts the statements that reach the database from its thread."""

    def __init__(self) -> None:
        super().__init__()
        self.statements: list[str] = []

    def enter(self, worker: Any) -> int | None:
        self.db.connection.execute_wrappers.append(self._count)
        return super().enter(worker)

    def _count(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        self.statements.append(sql)
        return execute(sql, params, many, context)

    @property
    def fetches(self) -> int:
        """Statements so far that looked for something to do."""
        return sum("heartbeat_at" not in sql for sql in self.statements)


@pytest.mark.postgresql
@pytest.mark.parametrize("queues", [(), ("default",)])
def test_a_storm_of_notifications_is_no_storm_of_fetches(
    transactional_db: None, queues: tuple[str, ...]
) -> None:
    """200 notifications in a second, and nothing to do: each idle worker looks five times at most."""
    with recorded(f"R21 notifications, queues {queues or 'all'}") as run, registry.isolated():
        declare("herd", ("only", lambda payload: payload))
        workers = [_listening(number, queues) for number in range(WORKERS)]
        try:
            before = [store.fetches for store, _ in workers]
            with connection.cursor() as cursor:
                end = time.monotonic() + 1.0
                for number in range(NOTIFICATIONS):
                    cursor.execute(f"NOTIFY {CHANNEL}")
                    time.sleep(max(0.0, (end - time.monotonic()) / (NOTIFICATIONS - number)))
            extra = [s.fetches - one for (s, _), one in zip(workers, before, strict=True)]
            run.faults = {"notifications": NOTIFICATIONS}
            run.figures = {"fetches": extra}
            print(f"fetches: {extra}")
            assert max(extra) <= EXTRA
            # What is started in the middle of a storm is not left to the next poll.
            job = executor.start_sequence("herd", 1)
            wait_until(lambda: job.refresh().is_final, what="the job")
            run.jobs = 1
        finally:
            for _, worker in workers:
                worker.stop()


def _listening(number: int, queues: tuple[str, ...]) -> tuple[Counting, EngineThread]:
    store = Counting()
    worker = EngineThread(name=f"herd:{number}", queues=queues, poll=600.0, store=store)
    wait_until(lambda: worker.engine.listener and worker.engine.listener._raw, what="LISTEN")
    wait_until(lambda: not (worker.engine.listener.has_heard or worker.engine.claiming.is_due))
    return store, worker


class Down(ModelTaskCacheHandler):
    """A store that cannot be asked for jobs."""

    asked = 0

    def claim(self, *args: Any) -> list[Claim]:
        self.asked += 1
        raise OperationalError("canceling statement due to statement timeout")


def test_a_fetch_that_fails_is_tried_again_ever_later(transactional_db: None) -> None:
    """The engine waits twice as long after each error, for more than a second at last, and no longer than it says."""
    with recorded("R21 errors") as run:
        store = Down()
        one = build_inline_engine(store, EngineOptions(name="down:1", poll=0.05))
        pauses = []
        for _ in range(12):
            one.claiming.is_due = True
            one.wakeup.set()  # its pause ends at once
            one.turn()
            pauses.append(one._backoff)
        one.wakeup.close()
        run.faults, run.figures = {"errors": store.asked}, {"pauses": pauses}
        assert store.asked == 12
        assert pauses == sorted(pauses)
        assert next(pause for pause in pauses if pause >= 1) <= 2
        assert max(pauses) == LONGEST_BACKOFF
