"""A worker deletes what is older than RETENTION_DAYS, beside its work and never in its way."""

import logging
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.utils import timezone

from django_tasks_seq import executor
from django_tasks_seq.cache.retention import Prunable, Pruned
from django_tasks_seq.engine import EngineOptions, build_inline_engine
from django_tasks_seq.engine.pruning import Pruning
from django_tasks_seq.models import Job, TaskStatus, Worker
from django_tasks_seq.pruning import DAY
from tests.engines import STORE, EngineThread, declare, engine
from tests.factories import JobFactory, WorkerFactory
from tests.helpers import wait_until


def nothing(payload: Any) -> Any:
    return payload


def old(number: int = 30) -> None:
    """Jobs that ended long ago, and a worker that has not been seen since."""
    for _ in range(number):
        JobFactory.create(age=40 * DAY, took=0, successful=True, history=2)
    WorkerFactory.create(heartbeat_at=timezone.now() - timedelta(days=40))


def pruning_of(worker: EngineThread) -> Pruning:
    return worker.engine.maintenance.pruning


def is_time(pruning: Pruning) -> None:
    """Let the next tick be that of its next look."""
    pruning._at = 0.0


def has_looked(pruning: Pruning) -> bool:
    return pruning._thread is not None and not pruning.is_running


def test_a_worker_deletes_what_is_old() -> None:
    """Jobs with their rows, and workers; what is younger stays, and jobs go on being run."""
    declare("lines", ("a", nothing), ("b", nothing))
    old()
    young = JobFactory.create(age=29 * DAY, took=0, successful=True, history=2)
    with engine(name="one:1") as one:
        is_time(pruning_of(one))
        job = executor.start_sequence("lines", {})
        assert executor.wait(job, 30).status == "SUCCESSFUL"
        wait_until(lambda: has_looked(pruning_of(one)), what="the end of its pruning")
        assert set(Job.objects.all()) == {young, job}
        assert Worker.objects.get().name == "one:1"

    assert TaskStatus.objects.count() == 4


def test_it_looks_again_later() -> None:
    """After a look the next one is minutes away, at a time of its own."""
    with engine(name="one:1") as one, engine(name="two:2") as two:
        times = []
        for pruning in (pruning_of(one), pruning_of(two)):
            is_time(pruning)
            wait_until(lambda: has_looked(pruning), what="its look")  # noqa: B023
            times.append(pruning._at - time.monotonic())

    assert all(100 < seconds < 500 for seconds in times)
    assert times[0] != times[1]


def test_its_first_look_is_not_at_once() -> None:
    """Many workers that are started together do not begin with it."""
    pruning = Pruning(STORE, EngineOptions())

    pruning.begin_if_due()

    assert not pruning.is_running
    assert 10 < pruning._at - time.monotonic() < 50


@pytest.mark.parametrize("option", ["burst", "until_empty"])
def test_a_worker_that_ends_by_itself_deletes_nothing(option: str) -> None:
    """It is to end when its work is done."""
    old(1)
    chosen: dict[str, Any] = {option: True}
    one = EngineThread(**chosen)
    is_time(pruning_of(one))

    assert one.thread.result() == 0
    assert not has_looked(pruning_of(one))
    assert Job.objects.count() == 1


def test_without_a_retention_nothing_is_deleted(settings: Any) -> None:
    """None keeps jobs for ever."""
    settings.TASKS_SEQ = {"RETENTION_DAYS": None}
    old(1)
    pruning = Pruning(STORE, EngineOptions())
    is_time(pruning)

    pruning.begin_if_due()

    assert pruning._thread is None
    assert Job.objects.count() == 1


def test_a_store_that_cannot_be_pruned_is_left_alone() -> None:
    """A store of documents is not even asked."""

    class Documents(type(STORE)):  # type: ignore[misc]
        supports_pruning = False

    pruning = Pruning(Documents(), EngineOptions())
    is_time(pruning)

    pruning.begin_if_due()

    assert pruning._thread is None


def test_a_worker_that_drains_begins_none() -> None:
    """It has other things to do in the time that it is given."""
    old(1)
    engine_ = build_inline_engine(STORE, EngineOptions(name="one:1"))
    is_time(engine_.maintenance.pruning)
    engine_.stop(5.0)

    engine_._tick()

    assert engine_.maintenance.pruning._thread is None
    engine_.wakeup.close()


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_worker_that_meets_another_at_it_leaves() -> None:
    """All rows of its batch are held: it goes away and looks again minutes later."""
    old(30)
    with engine(name="one:1") as one:
        with transaction.atomic():
            assert STORE.prune(Prunable(30 * DAY), 25).jobs == 25
            is_time(pruning_of(one))
            wait_until(lambda: has_looked(pruning_of(one)), what="the end of its look")
            transaction.set_rollback(True)
        assert Job.objects.count() == 30
        assert pruning_of(one)._at > time.monotonic() + 100


class Scripted(type(STORE)):  # type: ignore[misc]
    """A store whose batches are what the test says."""

    def __init__(self, answer: Callable[[], Pruned]) -> None:
        super().__init__()
        self.answer = answer
        self.calls = 0
        self.threads: set[str] = set()

    def prune(self, what: Prunable, limit: int, **options: Any) -> Pruned:
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        return self.answer()


def test_a_failing_database_ends_the_look_and_not_the_worker(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The worker runs on, and the log says that it was tried."""

    def fail() -> Pruned:
        raise OperationalError("the disk is full")

    declare("lines", ("a", nothing))
    with engine(name="one:1") as one:
        pruning_of(one)._store = store = Scripted(fail)
        is_time(pruning_of(one))
        wait_until(lambda: store.calls and has_looked(pruning_of(one)), what="its look")
        assert executor.wait(executor.start_sequence("lines", {}), 30).status == "SUCCESSFUL"

    assert "pruning stopped, to be tried again: the disk is full" in caplog.text
    assert store.threads == {"tasks-seq-pruning"}


def test_a_mistake_ends_the_look_and_not_the_worker(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged with its traceback."""

    def fail() -> Pruned:
        raise ZeroDivisionError

    with engine(name="one:1") as one:
        pruning_of(one)._store = store = Scripted(fail)
        is_time(pruning_of(one))
        wait_until(lambda: store.calls and has_looked(pruning_of(one)), what="its look")

    assert "pruning failed" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_a_stop_does_not_wait_for_the_next_batch() -> None:
    """A worker that rests between two batches ends at once when it is told to."""
    with engine(name="one:1") as one:
        pruning_of(one)._store = store = Scripted(
            lambda: Pruned(found=20, jobs=20, seconds=1000.0, reached=("then", "there"))
        )
        is_time(pruning_of(one))
        wait_until(lambda: store.calls, what="its first batch")
        assert one.stop() == 0

    assert store.calls == 1
    assert not pruning_of(one).is_running


def test_what_cannot_be_deleted_is_said_and_not_tried_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A hundred refusals end a look: the database's words are in the log."""
    refused = Pruned(found=1, refusal="still referenced", reached=("then", "there"))
    with engine(name="one:1") as one:
        pruning_of(one)._store = store = Scripted(lambda: refused)
        is_time(pruning_of(one))
        wait_until(lambda: store.calls and has_looked(pruning_of(one)), what="its look")

    assert store.calls == 100
    assert "100 old jobs cannot be deleted: still referenced" in caplog.text


def test_what_was_deleted_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """One line for a look that deleted something, none for one that did not."""
    old()
    with caplog.at_level(logging.INFO, "django_tasks_seq.worker"), engine(name="one:1") as one:
        for _ in range(2):
            pruning = pruning_of(one)
            pruning._thread = None
            is_time(pruning)
            wait_until(lambda: has_looked(pruning), what="its look")  # noqa: B023

    lines = [record.getMessage() for record in caplog.records if "pruned" in record.getMessage()]
    assert [line.partition(";")[0] for line in lines] == ["pruned 30 jobs (60 tasks)"]
