"""R24: what differs on MariaDB: locks of InnoDB, isolation levels, its own deadlocks; R1 is in test_kills."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any, Self

import pytest
from django.db import Error, OperationalError, connection, connections, transaction

from django_tasks_seq import Retry, TaskSpec, TasksSeqError, executor, registry
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.cache.retention import Prunable
from django_tasks_seq.choices import DONE, FINAL
from django_tasks_seq.models import Job, TaskStatus
from django_tasks_seq.pruning import Pruner
from tests.chaos.checker import History, check
from tests.chaos.evidence import Audit
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.engines import STORE, claim, declare, engine
from tests.helpers import InThread, wait_until
from tests.testapp.models import Account, Effect

pytestmark = [pytest.mark.mariadb, pytest.mark.django_db(transaction=True)]

LEVELS = ("read committed", "repeatable read", "serializable")
DEADLOCK, LOCK_TIMEOUT = 1213, 1205
JOBS = 150


def plain(payload: Any) -> Any:
    return payload


@pytest.fixture(autouse=True)
def _sequences(transactional_db: None) -> Iterator[None]:
    with registry.isolated():
        declare("lines", ("only", plain))
        yield


@pytest.fixture
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """All connections that are opened in this test are at this isolation level."""
    options = {**connection.settings_dict["OPTIONS"], "isolation_level": request.param}
    monkeypatch.setitem(connections.settings["default"], "OPTIONS", options)
    monkeypatch.setitem(connection.settings_dict, "OPTIONS", options)
    connection.close()
    yield request.param
    connection.close()


every_level = pytest.mark.parametrize("level", LEVELS, indirect=True)


def isolation() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT @@tx_isolation")
        return str(cursor.fetchone()[0])


# --- the second claimer


@every_level
def test_a_second_claimer_gets_rows_while_the_first_holds_its_own(level: str) -> None:
    """At each isolation level: it neither waits nor finds the rest of the queue locked."""
    executor.start_many("lines", [{"n": n} for n in range(40)])
    with recorded("R24 second claimer") as run:
        with STORE.db.atomic():
            first = claim(4)
            second = InThread(claim, 40).result()
        run.faults, run.jobs = f"rows held at {isolation()}", 40

        assert len(first) == 4
        assert len(second) == 36
        assert {c.job_id for c in first}.isdisjoint(c.job_id for c in second)


def test_without_an_index_for_the_order_the_second_would_get_nothing() -> None:
    """The negative control: who sorts what it locks holds every candidate."""
    executor.start_many("lines", [{"n": n} for n in range(40)])
    sorts = (
        f"SELECT id FROM {Job._meta.db_table} WHERE status = 'READY' ORDER BY created_by, id"
        " LIMIT 4 FOR UPDATE SKIP LOCKED"
    )

    def take() -> int:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(sorts)
            return len(cursor.fetchall())

    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sorts)
        assert len(cursor.fetchall()) == 4
        assert InThread(take).result() == 0


# --- isolation


@every_level
def test_all_jobs_end_once_whatever_isolation_the_site_asks_for(level: str, audit: Audit) -> None:
    """Four workers: nothing lost, nothing done twice, and no error of isolation reaches anybody."""

    def effect(payload: Any, context: Any) -> Any:
        Effect.objects.create(job_id=context.job_id, task_id=context.task_id)
        return payload

    declare("moves", ("a", plain), TaskSpec("b", effect, atomic=True), ("c", plain))
    number = sizes().pick(cut=120, full=1000)
    complaints = Complaints()
    with recorded("R8") as run, ExitStack() as stack:
        stack.enter_context(complaints)
        executor.start_many("moves", [{"n": n} for n in range(number)])
        for each in range(4):
            stack.enter_context(engine(name=f"level:{each}", lease=5.0))
        done = Job.objects.filter(status="SUCCESSFUL")
        wait_until(lambda: done.count() == number, timeout=60, what="the end of all jobs")
        stack.close()
        effects = Counter(Effect.objects.values_list("job_id", flat=True))
        run.faults, run.jobs = f"4 workers at {isolation()}", number
        run.lost = number - done.count()
        run.doubled = sum(count > 1 for count in effects.values())

        assert isolation() == level.replace(" ", "-").upper()
        assert len(effects) == number
        assert run.doubled == 0
        assert complaints.lines == []
        history = History(job_steps=audit.job_steps(), task_steps=audit.task_steps())
        assert check(history).illegal == []


# --- deadlocks and lock waits


class Complaints(logging.Handler):
    """What the workers' log says of the database."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []
        self._loggers = [logging.getLogger(f"django_tasks_seq.{n}") for n in ("worker", "executor")]

    def emit(self, record: logging.LogRecord) -> None:
        if "database failed" in record.getMessage() or record.exc_info:
            self.lines.append(record.getMessage())

    def __enter__(self) -> Self:
        for logger in self._loggers:
            logger.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        for logger in self._loggers:
            logger.removeHandler(self)


def deadlocks() -> int:
    """Deadlocks that this server has seen."""
    with connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
        return int(cursor.fetchone()[1])


def test_a_deadlock_with_somebody_else_is_tried_again() -> None:
    """A person's verb that InnoDB chooses as the victim succeeds all the same, and says nothing."""
    job, _ = executor.start_many("lines", [{}, {}])
    account = Account.objects.create(name="theirs", balance=0)
    before, met, gate = deadlocks(), threading.Event(), threading.Event()
    tried: list[int] = []

    def cancel() -> Any:
        def decide(snapshot: Any) -> Any:
            tried.append(len(tried))
            if len(tried) == 1:
                # What a site's signal or trigger might do under the job's lock.
                met.set()
                assert gate.wait(30)
                list(Account.objects.select_for_update().filter(pk=account.pk))
            return _cancelled(snapshot)

        return STORE.amend(job.pk, decide)

    with recorded("R24 1213") as run:
        thread = InThread(cancel)
        assert met.wait(30)
        with transaction.atomic():
            # The more it has written, the less InnoDB likes to roll it back.
            Account.objects.filter(pk=account.pk).update(balance=1)
            Account.objects.bulk_create(Account(name="more", balance=n) for n in range(100))
            gate.set()
            list(Job.objects.select_for_update().filter(pk=job.pk))
        thread.result()
        run.faults = {"deadlocks": deadlocks() - before}

        assert run.faults == {"deadlocks": 1}
        assert tried == [0, 1]
        assert Job.objects.get(pk=job.pk).status == "CANCELLED"


def _cancelled(snapshot: Any) -> Any:
    from django_tasks_seq.cache.changes import NOW, Change

    values = {"status": "CANCELLED", "finished_at": NOW}
    return Change("cancel", snapshot.job_id, snapshot.token, (snapshot.status,), values=values)


def test_a_lock_that_was_not_to_be_had_in_time_is_tried_again() -> None:
    """A person's verb that has waited for `innodb_lock_wait_timeout` waits on."""
    job = executor.start_sequence("lines", {})
    refused, codes = threading.Event(), []

    def count(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        try:
            return execute(sql, params, many, context)
        except OperationalError as error:
            codes.append(error.args[0])
            refused.set()
            raise

    def cancel() -> None:
        here = connections["default"]
        with here.cursor() as cursor:
            cursor.execute("SET innodb_lock_wait_timeout = 1")
        with here.execute_wrapper(count):
            executor.cancel(job)

    with recorded("R24 1205") as run:
        with transaction.atomic():
            Job.objects.select_for_update().get(pk=job.pk)
            thread = InThread(cancel)
            assert refused.wait(30)
        thread.result()
        run.faults = dict(Counter(map(str, codes)))

        assert set(codes) == {LOCK_TIMEOUT}
        assert Job.objects.get(pk=job.pk).status == "CANCELLED"


def flaky(payload: Any, context: Any) -> Any:
    if (context.attempt + payload["n"]) % 3 == 0:
        raise ValueError("now and then")
    return payload


class Crowd:
    """Threads of people who do one thing again and again."""

    def __init__(self) -> None:
        self.over = threading.Event()
        self.done: Counter[str] = Counter()
        self.failures: list[tuple[str, int]] = []
        self._threads: list[InThread[None]] = []

    def begin(self, act: Callable[[int], Any]) -> None:
        self._threads.append(InThread(self._again, act))

    def _again(self, act: Callable[[int], Any]) -> None:
        turn = 0
        while not self.over.is_set():
            turn += 1
            try:
                act(turn)
            except TasksSeqError:
                continue
            except Error as error:
                self.failures.append((act.__name__, error.args[0]))
            else:
                self.done[act.__name__] += 1

    def end(self) -> None:
        self.over.set()
        for thread in self._threads:
            thread.result()


def some(turn: int, number: int = 5) -> list[Any]:
    ids = list(Job.objects.order_by("id").values_list("id", flat=True))
    start = turn * 7 % max(1, len(ids))
    return ids[start : start + number][:: 1 if turn % 2 else -1]


def cancel(turn: int) -> None:
    for job_id in some(turn, 1):
        executor.cancel(job_id)


def pause(turn: int) -> None:
    for job_id in some(turn, 1):
        executor.pause(job_id)


def resume(turn: int) -> None:
    for job in Job.objects.filter(status="PAUSED")[:5]:
        executor.resume(job)


def retry(turn: int) -> None:
    for job in Job.objects.filter(status__in=("FAILED", "CANCELLED"))[:5]:
        executor.retry(job)


def skip(turn: int) -> None:
    for job_id in some(turn, 1):
        executor.skip(job_id, "second", {})


def keep_up(turn: int) -> None:
    missing = JOBS - Job.objects.count()
    if missing > 0:
        executor.start_many("storm", [{"n": n} for n in range(missing)])


def prune(turn: int) -> None:
    pruner = Pruner(STORE, Prunable(0.2))
    while pruner.batch() and not pruner.is_contended:
        pass


def start_with_keys(turn: int) -> None:
    keys = [f"key-{number % 40}" for number in range(turn, turn + 12)]
    executor.start_many(
        "storm", [{"n": turn}] * 12, idempotency_keys=keys[:: 1 if turn % 2 else -1]
    )


def delete_rows(turn: int) -> None:
    """One statement of the site's own, that locks job after job."""
    Job.objects.filter(pk__in=some(turn)).delete()


# Who deletes with a query of his own has no second try of ours, as little as on any table.
THEIR_OWN = {"delete_rows"}
PEOPLE = (cancel, pause, resume, retry, skip, keep_up, prune, start_with_keys, delete_rows)


def test_workers_and_people_on_the_same_rows(audit: Audit) -> None:
    """Deadlocks reach no worker and no verb; every move is a legal one, and all jobs end."""
    retries = Retry(2, delay=0.05)
    declare("storm", ("first", plain), TaskSpec("second", flaky, retry=retries), ("third", plain))
    crowd, complaints, before = Crowd(), Complaints(), deadlocks()
    with recorded("R9") as run, ExitStack() as stack:
        stack.enter_context(complaints)
        executor.start_many("storm", [{"n": n} for n in range(JOBS)])
        for number in range(4):
            stack.enter_context(engine(name=f"storm:{number}", lease=5.0))
        for act in PEOPLE:
            crowd.begin(act)
        crowd.over.wait(sizes().pick(cut=4.0, full=15.0))
        crowd.end()
        finish_all()
        stack.close()
        run.faults = dict(crowd.done)
        run.figures = {"deadlocks": deadlocks() - before, "theirs": len(crowd.failures)}
        run.jobs, broken = Job.objects.count(), broken_jobs()
        run.lost = len(broken)
        print(run.faults, run.figures, crowd.failures)

        assert {act.__name__ for act in PEOPLE} == set(crowd.done)
        assert {name for name, _ in crowd.failures} <= THEIR_OWN
        assert {code for _, code in crowd.failures} <= {DEADLOCK}
        assert complaints.lines == []
        history = History(job_steps=audit.job_steps(), task_steps=audit.task_steps())
        assert check(history).illegal == []
        assert broken == []


def finish_all() -> None:
    """Nobody meddles any more: what is paused goes on, and the workers end all."""

    def all_have_ended() -> bool:
        for job_id in Job.objects.filter(status="PAUSED").values_list("id", flat=True):
            executor.resume(job_id)
        return not Job.objects.exclude(status__in=FINAL).exists()

    wait_until(all_have_ended, what="the end of all jobs")


def broken_jobs() -> list[str]:
    """Jobs that say they have succeeded, and whose tasks say otherwise."""
    done = Counter(TaskStatus.objects.filter(status__in=DONE).values_list("job_id", flat=True))
    return [str(job.id) for job in Job.objects.filter(status="SUCCESSFUL") if done[job.id] != 3]


# --- time


def test_a_statement_that_is_not_answered_ends_by_its_deadline() -> None:
    """The engine's connection has time-outs of the driver, so that no statement hangs for ever."""

    def ask() -> None:
        store = ModelTaskCacheHandler()
        with store.bookkeeping(3.0):
            store.db.query("SELECT SLEEP(60)", ())

    with pytest.raises(OperationalError):
        InThread(ask).result()
