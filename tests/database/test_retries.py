"""Attempts that fail: when the next is due, and when there is none."""

from collections.abc import Callable
from typing import Any

import pytest

from django_tasks_seq import DontRetry, Retry, RetryLater, TaskSpec, executor
from django_tasks_seq.clock import Now
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, count, same, statuses

pytestmark = pytest.mark.django_db


def due_in(job: Job) -> float:
    """Seconds until the job is due, by the database's clock."""
    row = Job.objects.annotate(now=Now()).get(pk=job.pk)
    return (row.run_after - row.now).total_seconds()


def test_one_attempt_is_the_default(declare: Declare) -> None:
    """Nothing is tried twice because nobody said otherwise."""
    failing = Failing()
    declare(failing, same)
    job = executor.start_sequence("probe")
    drain()

    assert failing.attempts == [1]
    assert job.refresh().status == "FAILED"
    assert job.error == "t1: ValueError: no stock"
    assert statuses(job) == {"t1": "FAILED"}


def test_max_attempts_of_the_settings_hold_where_a_task_says_nothing(
    declare: Declare, configure: Callable[..., None]
) -> None:
    """`MAX_ATTEMPTS` is the default of tasks without `retry`."""
    configure(MAX_ATTEMPTS=2)
    failing, once = Failing(times=1), Failing()
    declare(failing, TaskSpec("t2", once, retry=Retry(1)))
    job = executor.start_sequence("probe")
    drain()
    advance(minutes=1)
    drain()

    assert failing.attempts == [1, 2]
    assert once.attempts == [1]
    assert job.refresh().status == "FAILED"


def test_a_failed_attempt_is_due_again_later(declare: Declare) -> None:
    """The job WAITS for its delay; earlier results are kept, and the attempt is recorded."""
    failing = Failing(times=1)
    declare(count, TaskSpec("t2", failing, retry=Retry(3, delay=100, jitter=False)), count)
    job = executor.start_sequence("probe", {"n": 0})
    drain()

    assert job.refresh().status == "WAITING"
    assert due_in(job) == pytest.approx(100, abs=5)
    assert statuses(job) == {"t1": "SUCCESSFUL", "t2": "WAITING"}
    attempt = job.attempts.get()
    assert (attempt.task_id, attempt.attempt, attempt.outcome) == ("t2", 1, "FAILED")
    assert (attempt.exception_class, attempt.message) == ("builtins.ValueError", "no stock")
    assert "raise self.error" in attempt.traceback

    advance(90)
    assert drain() == 0
    advance(15)
    drain()

    assert failing.attempts == [1, 2]
    assert [payload for payload, _ in failing.calls] == [{"n": 1}] * 2
    assert job.refresh().status == "SUCCESSFUL"
    assert job.result == {"n": 2}
    row = job.task_statuses.get(task_id="t2")
    assert (row.status, row.attempts, row.error) == ("SUCCESSFUL", 2, "")


def test_delays_grow_up_to_a_limit(declare: Declare) -> None:
    """Without jitter the delays are delay * factor ** n, at most max_delay."""
    retry = Retry(5, delay=10, factor=3, max_delay=50, jitter=False)
    declare(TaskSpec("t1", Failing(), retry=retry))
    job = executor.start_sequence("probe")
    delays = []
    for _ in range(4):
        drain()
        delays.append(due_in(job))
        advance(delays[-1] + 1)
    drain()

    assert delays == pytest.approx([10, 30, 50, 50], abs=5)
    assert job.refresh().status == "FAILED"
    assert job.attempts.count() == 5


def test_jitter_spreads_retries(declare: Declare) -> None:
    """Jobs that failed together are due at different times within the delay."""
    declare(TaskSpec("t1", Failing(), retry=Retry(2, delay=1000)))
    jobs = executor.start_many("probe", range(20))
    drain()

    delays = [due_in(job) for job in jobs]
    assert len({round(delay, 1) for delay in delays}) > 10
    assert all(delay <= 1000 for delay in delays)


def test_backoff_gives_seconds_or_none(declare: Declare) -> None:
    """`backoff(exception, attempt)` decides the delay; None from it means no further attempt."""
    asked: list[tuple[str, int]] = []

    def backoff(exception: BaseException, attempt: int) -> float | None:
        asked.append((str(exception), attempt))
        return None if attempt == 2 else 70.0

    declare(TaskSpec("t1", Failing(), retry=Retry(9, backoff=backoff)))
    job = executor.start_sequence("probe")
    drain()
    assert due_in(job) == pytest.approx(70, abs=5)
    advance(71)
    drain()

    assert asked == [("no stock", 1), ("no stock", 2)]
    assert job.refresh().status == "FAILED"


@pytest.mark.parametrize("broken", [lambda *_: 1 / 0, lambda *_: -1, lambda *_: "soon"])
def test_a_broken_backoff_fails_the_task_and_says_so(declare: Declare, broken: Any) -> None:
    """A backoff that raises, or gives no seconds, ends the job with that error."""
    declare(TaskSpec("t1", Failing(), retry=Retry(9, backoff=broken)))
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().status == "FAILED"
    assert "no stock" not in job.error
    assert "no stock" in job.attempts.get().traceback


def test_dont_retry_ends_at_once(declare: Declare) -> None:
    """`DontRetry` is the last attempt, whatever `retry` says."""
    failing = Failing(error=DontRetry("card declined"))
    declare(TaskSpec("t1", failing, retry=Retry(5)))
    job = executor.start_sequence("probe")
    drain()

    assert failing.attempts == [1]
    assert job.refresh().error == "t1: DontRetry: card declined"


def test_retry_later_sets_the_delay(declare: Declare) -> None:
    """`RetryLater(seconds)` sets the delay as long as an attempt is left."""
    failing = Failing(error=RetryLater(500, "HTTP 429"))
    declare(TaskSpec("t1", failing, retry=Retry(2)))
    job = executor.start_sequence("probe")
    drain()
    assert due_in(job) == pytest.approx(500, abs=5)
    advance(501)
    drain()

    assert failing.attempts == [1, 2]
    assert job.refresh().error == "t1: RetryLater: HTTP 429"


def test_only_some_exceptions_are_retried(declare: Declare) -> None:
    """`retry_on` and `dont_retry_on` choose by class."""
    retry = Retry(3, delay=0, retry_on=(OSError,), dont_retry_on=(FileNotFoundError,))
    tasks = {
        "connection": Failing(error=ConnectionError()),
        "value": Failing(error=ValueError()),
        "missing": Failing(error=FileNotFoundError()),
    }
    for name, task in tasks.items():
        declare(TaskSpec("t1", task, retry=retry), name=name)
        executor.start_sequence(name)
    drain()

    assert {name: len(task.calls) for name, task in tasks.items()} == {
        "connection": 3,
        "value": 1,
        "missing": 1,
    }


def test_no_delay_is_at_once(declare: Declare) -> None:
    """A delay of nothing is tried again by the same `drain()`."""
    failing = Failing(times=2)
    declare(TaskSpec("t1", failing, retry=Retry(3, delay=0)))
    job = executor.start_sequence("probe")
    drain()

    assert failing.attempts == [1, 2, 3]
    assert job.refresh().status == "SUCCESSFUL"


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit()])
def test_an_exception_that_is_no_exception_fails_the_task(declare: Declare, error: Any) -> None:
    """`sys.exit()` in a task fails it, for good, and not the worker."""
    after = Failing(times=0)
    declare(TaskSpec("t1", Failing(error=error), retry=Retry(3, delay=0)), name="bad")
    declare(after, name="good")
    job = executor.start_sequence("bad", priority=1)
    executor.start_sequence("good")
    drain()

    assert job.refresh().status == "FAILED"
    assert job.error == f"t1: {type(error).__name__}" + (": 3" if error.args else "")
    assert after.attempts == [1]


def test_a_manual_retry_grants_new_attempts(declare: Declare) -> None:
    """After the last attempt a person's retry grants `max_attempts` more; the numbers go on."""
    failing = Failing()
    declare(TaskSpec("t1", failing, retry=Retry(2, delay=0)))
    job = executor.start_sequence("probe")
    drain()
    executor.retry(job)
    drain()

    assert failing.attempts == [1, 2, 3, 4]
    assert list(job.attempts.order_by("id").values_list("attempt", flat=True)) == [1, 2, 3, 4]


def test_the_idempotency_key_is_the_same_in_every_attempt(declare: Declare) -> None:
    """Retries of both kinds carry one key for a task of a job, and another for another."""
    failing, other = Failing(times=3), Failing(times=0)
    declare(TaskSpec("t1", failing, retry=Retry(2, delay=0)), other)
    job = executor.start_sequence("probe")
    drain()
    executor.retry(job, from_task="t1")
    drain()

    keys = {context.idempotency_key for _, context in failing.calls}
    assert keys == {f"{job.id}:t1"}
    assert other.calls[0][1].idempotency_key == f"{job.id}:t2"
