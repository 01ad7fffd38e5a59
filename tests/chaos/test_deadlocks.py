"""R9: workers and people on the same few jobs, all at once: no deadlock, nothing illegal, nothing lost."""

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from django.db import Error, OperationalError, connection, transaction

from django_tasks_seq import Retry, TaskSpec, TasksSeqError, executor, registry
from django_tasks_seq.admin.actions import VERBS, in_bulk
from django_tasks_seq.cache.retention import Prunable
from django_tasks_seq.choices import DONE, FINAL
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from django_tasks_seq.pruning import Pruner
from tests.chaos.checker import History, check
from tests.chaos.evidence import Audit
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.engines import STORE, declare, engine
from tests.helpers import InThread, own_connection, wait_until
from tests.testapp.models import Effect

pytestmark = pytest.mark.postgresql

JOBS = 200
KEYS = [f"key-{number}" for number in range(40)]


def plain(payload: Any) -> Any:
    return payload


def flaky(payload: Any) -> Any:
    if random.random() < 0.3:
        raise ValueError("now and then")
    return payload


def atomic(payload: Any, context: Any) -> Any:
    Effect.objects.create(job_id=context.job_id, task_id=context.task_id, attempt=context.attempt)
    return payload


@pytest.fixture(autouse=True)
def _sequences(transactional_db: None) -> Iterator[None]:
    with registry.isolated():
        declare(
            "storm",
            ("first", plain),
            TaskSpec("second", flaky, retry=Retry(2, delay=0.05)),
            TaskSpec("third", atomic, atomic=True),
        )
        yield


class Storm:
    """Threads of people who do one thing again and again, and what came of it."""

    def __init__(self, seed: int) -> None:
        self.over = threading.Event()
        self.done: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.failures: list[str] = []
        self._seed = seed
        self._threads: list[InThread[None]] = []

    def begin(self, act: Callable[[random.Random], Any]) -> None:
        self._threads.append(InThread(self._again, act))

    def _again(self, act: Callable[[random.Random], Any]) -> None:
        name, source = act.__name__, random.Random(f"{self._seed} {act.__name__}")
        while not self.over.is_set():
            try:
                act(source)
            except TasksSeqError:
                self.refused[name] += 1
            except Error as error:
                self.failures.append(f"{name}: {getattr(error.__cause__, 'sqlstate', '')} {error}")
            else:
                self.done[name] += 1

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.result()


def some(source: random.Random, count: int) -> list[Any]:
    """Ids of some jobs, in an order of chance."""
    ids = list(Job.objects.values_list("id", flat=True))
    return source.sample(ids, min(count, len(ids)))


def bulk(name: str) -> Callable[[random.Random], Any]:
    """A bulk action of the admin, in one transaction, as with ATOMIC_REQUESTS."""

    def act(source: random.Random) -> None:
        with transaction.atomic():
            in_bulk(VERBS[name], some(source, 10), by="storm")

    act.__name__ = f"bulk {name}"
    return act


def force_cancel(source: random.Random) -> None:
    for job_id in some(source, 3):
        executor.cancel(job_id, force=True)


def skip(source: random.Random) -> None:
    for job_id in some(source, 3):
        with suppress(TasksSeqError):
            executor.skip(job_id, source.choice(["first", "second", "third"]), {})


def prune(source: random.Random) -> None:
    pruner = Pruner(STORE, Prunable(source.choice([0.0, 0.2])))
    while pruner.batch() and not pruner.is_contended:
        pass


def delete_rows(source: random.Random) -> None:
    """As the admin's "delete selected" does, and any view."""
    Job.objects.filter(pk__in=some(source, 5)).delete()


def delete_row(source: random.Random) -> None:
    for job in Job.objects.filter(pk__in=some(source, 2)):
        job.delete()


def delete_key(source: random.Random) -> None:
    for job_id in some(source, 2):
        STORE.delete(f"job:{job_id}")


def set_document(source: random.Random) -> None:
    for job_id in some(source, 3):
        STORE.set(f"job:{job_id}:first", {"status": "SUCCESSFUL", "result": {}, "position": 0})


def start_with_keys(source: random.Random) -> None:
    """Several jobs in one statement, whose keys others start at the same moment in another order."""
    keys = source.sample(KEYS, 12)
    executor.start_many("storm", [{}] * len(keys), idempotency_keys=keys)


def keep_up(source: random.Random) -> None:
    missing = JOBS - Job.objects.count()
    if missing > 0:
        executor.start_many("storm", [{}] * missing)


PEOPLE: list[Callable[[random.Random], Any]] = [
    *(bulk(name) for name in ("cancel", "retry", "retry-all", "pause", "resume")),
    *(force_cancel, skip, prune, delete_rows, delete_row, delete_key, set_document),
    *(start_with_keys, start_with_keys, keep_up),
]


def deadlocks() -> int:
    """Deadlocks that this database has seen."""
    with own_connection() as other, other.cursor() as cursor:
        cursor.execute("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
        ((count,),) = cursor.fetchall()
        return int(count)


class Complaints(logging.Handler):
    """What the workers' log says of the database."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if "database failed" in record.getMessage() or record.exc_info:
            self.lines.append(record.getMessage())


def finish_all() -> None:
    """Nobody meddles any more: what is paused goes on, and the workers end all."""
    for job_id in Job.objects.filter(status="PAUSED").values_list("id", flat=True):
        executor.resume(job_id)
    open_jobs = Job.objects.exclude(status__in=FINAL)
    wait_until(lambda: not open_jobs.filter(requested="pause").exists(), what="pauses are heard")
    for job_id in Job.objects.filter(status="PAUSED").values_list("id", flat=True):
        executor.resume(job_id)
    wait_until(lambda: not open_jobs.exists(), what="the end of all jobs")


def test_workers_and_people_never_lock_each_other_out(audit: Audit, seed: int) -> None:
    """Claims, commits, verbs in bulk, pruning and deletion for seconds: one lock order, and legal moves only."""
    seconds = sizes().pick(cut=4.0, full=15.0)
    random.seed(seed)
    complaints, storm = Complaints(), Storm(seed)
    before = deadlocks()
    loggers = [logging.getLogger(f"django_tasks_seq.{name}") for name in ("worker", "executor")]
    with recorded("R9", seed=seed) as run, ExitStack() as stack:
        for logger in loggers:
            logger.addHandler(complaints)
            stack.callback(logger.removeHandler, complaints)
        executor.start_many("storm", [{}] * JOBS)
        for number in range(4):
            stack.enter_context(engine(name=f"storm:{number}", concurrency=4, lease=5.0))
        for act in PEOPLE:
            storm.begin(act)
        storm.over.wait(seconds)
        storm.end()
        run.faults = dict(storm.done)
        finish_all()
        stack.close()
        run.figures = {"refused": dict(storm.refused), "deadlocks": deadlocks() - before}
        run.jobs, run.lost = Job.objects.count(), len(broken_jobs())
        print(run.faults, run.figures, sep="\n")
        assert storm.failures == []
        assert complaints.lines == []
        assert run.figures["deadlocks"] == 0
        assert {act.__name__ for act in PEOPLE} == set(storm.done)
        history = History(job_steps=audit.job_steps(), task_steps=audit.task_steps())
        assert check(history).illegal == []
        assert run.lost == 0, broken_jobs()
        assert orphans() == {}


def broken_jobs() -> list[str]:
    """Jobs that say they have succeeded, and whose tasks say otherwise."""
    done = Counter(TaskStatus.objects.filter(status__in=DONE).values_list("job_id", flat=True))
    return [
        str(job.id)
        for job in Job.objects.all()
        if job.status not in FINAL or (job.status == "SUCCESSFUL" and done[job.id] != 3)
    ]


def orphans() -> dict[str, int]:
    """Rows about jobs that are no more."""
    jobs = Job.objects.values("id")
    found = {
        model.__name__: model._default_manager.exclude(job_id__in=jobs).count()
        for model in (TaskStatus, TaskAttempt, JobEvent)
    }
    return {name: count for name, count in found.items() if count}


def test_a_deadlock_would_be_seen() -> None:
    """The measure is not blind: two transactions that cross each other are counted."""
    before = deadlocks()
    one, other = executor.start_many("storm", [{}] * 2)
    barrier = threading.Barrier(2, timeout=10)

    def cross(first: Any, second: Any) -> None:
        with suppress(OperationalError), transaction.atomic():
            Job.objects.select_for_update().get(pk=first)
            barrier.wait()
            Job.objects.select_for_update().get(pk=second)

    threads = [InThread(cross, one.pk, other.pk), InThread(cross, other.pk, one.pk)]
    for thread in threads:
        thread.result()
    connection.close()
    wait_until(lambda: deadlocks() == before + 1, what="the deadlock is counted")
