"""Jobs that a dead worker held: what is evidence against their tasks, and what is not (promise G9)."""

from typing import Any

from django.db import connection

from django_tasks_seq import BaseSuccessHandler, executor
from django_tasks_seq.cache.changes import Change
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.models import Job, JobEvent, TaskStatus
from tests.engines import STORE, Gate, claim, claim_one, declare, engine
from tests.helpers import wait_until


def nothing(payload: Any) -> Any:
    return payload


def lose_all() -> list[Change]:
    """Every lease ends, and a worker looks."""
    with connection.cursor() as cursor:
        past = "'2000-01-01 00:00:00.000000'"
        cursor.execute(
            f"UPDATE {Job._meta.db_table} SET lease_until = {past} WHERE lease_until IS NOT NULL"
        )
    return STORE.rescue(lose, 1000)


def shown() -> set[Any]:
    """Jobs with a RUNNING row."""
    return set(TaskStatus.objects.filter(status="RUNNING").values_list("job_id", flat=True))


def test_a_suspect_is_shown_before_its_code_runs() -> None:
    """The row that would be evidence is committed when the task begins, not a second later."""
    seen = []

    def looks(payload: Any, context: Any) -> None:
        seen.append(context.job_id in shown())

    declare("lines", ("a", looks), ("b", looks))
    executor.start_sequence("lines", {})
    claim_one()
    assert len(lose_all()) == 1
    with engine(name="one:1"):
        executor.wait(Job.objects.get(), 30)

    assert seen == [True, False], "its first task is watched; after a checkpoint it is no suspect"
    assert not Job.objects.get().suspect


def test_suspects_that_wait_for_a_thread_are_not_shown() -> None:
    """If the process dies now, only the task that ran is suspected of it."""
    gate = Gate()

    def waits(payload: Any) -> None:
        gate()

    declare("lines", ("a", waits))
    executor.start_many("lines", [{"n": n} for n in range(6)])
    claim(6)
    assert len(lose_all()) == 6
    with engine(name="one:1", concurrency=2) as one:
        # As if short tasks had made the window wide.
        one.engine.claiming._rate = 24.0
        one.engine.claiming._measure = lambda: None  # type: ignore[method-assign]
        gate.wait_for(2)
        wait_until(lambda: len(one.engine.hands) > 2, what="suspects that wait for a thread")
        assert len(shown()) == 2
        gate.open()
        wait_until(lambda: not Job.objects.exclude(status="SUCCESSFUL").exists(), what="all")

    assert set(TaskStatus.objects.values_list("crashes", flat=True)) == {0}


def test_suspects_are_not_hoarded() -> None:
    """Threads look idle while rows are shown: still no more is claimed than threads and window hold."""
    gate = Gate()

    def waits(payload: Any) -> None:
        gate()

    declare("lines", ("a", waits))
    executor.start_many("lines", [{"n": n} for n in range(200)])
    claim(200)
    assert len(lose_all()) == 200
    with engine(name="one:1", concurrency=2) as one:
        gate.wait_for(2)
        assert len(one.engine.hands) <= 4
        gate.open()
        wait_until(lambda: not Job.objects.exclude(status="SUCCESSFUL").exists(), what="all")


def test_a_loss_without_a_row_costs_nothing() -> None:
    """However often workers die with a job in hand whose task has not begun, it is not blamed."""
    declare("lines", ("a", nothing))
    job = executor.start_sequence("lines", {})
    for _ in range(10):
        claim_one()
        assert len(lose_all()) == 1
    with engine(name="one:1"):
        executor.wait(job, 30)

    assert job.refresh().status == "SUCCESSFUL"
    assert TaskStatus.objects.get().attempts == 1
    assert JobEvent.objects.filter(kind="lost").count() == 10


def test_hundreds_of_lost_jobs_are_rescued_at_once() -> None:
    """A rescue takes batches, and the next batch follows at once, not a poll interval later."""
    declare("lines", ("a", nothing))
    executor.start_many("lines", [{"n": n} for n in range(450)])
    claim(450)
    with connection.cursor() as cursor:
        past = "'2000-01-01 00:00:00.000000'"
        cursor.execute(f"UPDATE {Job._meta.db_table} SET lease_until = {past}")
    with engine(name="one:1", poll=600.0):
        wait_until(lambda: not Job.objects.exclude(status="SUCCESSFUL").exists(), what="all")

    assert JobEvent.objects.filter(kind="lost").count() == 450


def test_hundreds_of_handlers_of_a_dead_worker_run_at_once() -> None:
    """Jobs whose worker died before their handlers: all are run by one look after the other."""
    done = []

    class Notes(BaseSuccessHandler):
        def handle_success(self, result: Any, context: Any) -> None:
            done.append(context.job_id)

    declare("lines", ("a", nothing), success_handler=Notes)
    jobs = executor.start_many("lines", [{"n": n} for n in range(100)])
    Job.objects.update(
        status="SUCCESSFUL", finished_at="2000-01-01T00:00:00Z", handler_due="success"
    )
    with engine(name="one:1", poll=600.0, concurrency=2):
        wait_until(lambda: not Job.objects.exclude(handler_due="").exists(), what="all handlers")

    assert sorted(done) == sorted(job.pk for job in jobs)
