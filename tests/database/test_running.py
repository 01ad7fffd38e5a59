"""Promise G3: tasks run in order, and each receives exactly what the one before returned."""

import json
import math
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from django.db import connection

from django_tasks_seq import TaskSpec, executor
from django_tasks_seq.models import Job, TaskAttempt, TaskStatus
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Seen, count, nothing, same, statuses

pytestmark = pytest.mark.django_db


def test_tasks_run_in_order_on_each_others_results(declare: Declare) -> None:
    """The first task gets the payload, each next the result before, the job the last result."""
    order: list[str] = []

    def note(payload: Any, context: Any) -> Any:
        order.append(context.task_id)
        return count(payload)

    declare(*[(name, note) for name in "cab"])
    job = executor.start_sequence("probe", {"n": 0})

    assert drain() == 1
    assert order == ["c", "a", "b"]
    assert job.refresh().status == "SUCCESSFUL"
    assert job.result == {"n": 3}
    assert job.task_results() == {"c": {"n": 1}, "a": {"n": 2}, "b": {"n": 3}}


def test_rows_of_a_plain_run(declare: Declare) -> None:
    """A job that succeeds has one row for each task, with its times, and nothing else."""
    declare(same, same)
    job = executor.start_sequence("probe")
    drain()

    rows = list(job.task_statuses.order_by("position"))
    assert [(row.task_id, row.position, row.status, row.attempts) for row in rows] == [
        ("t1", 0, "SUCCESSFUL", 1),
        ("t2", 1, "SUCCESSFUL", 1),
    ]
    assert all(row.started_at <= row.finished_at for row in rows)
    job.refresh()
    assert job.created_at <= job.started_at <= job.finished_at
    assert not TaskAttempt.objects.exists()
    assert not job.events.exists()


def test_no_return_value_is_none(declare: Declare) -> None:
    """A task that returns nothing hands None to the next, and the results are NULL."""
    task = Seen()
    declare(nothing, task)
    job = executor.start_sequence("probe", {"n": 1})
    drain()

    assert task.payloads == [None]
    assert job.task_statuses.filter(result__isnull=True).count() == 2
    assert job.refresh().result is None


VERBATIM: list[Any] = [
    1e16,
    1.0,
    -0.0,
    5e-324,
    10**40,
    {"b": 1, "a": 2, "": 3},
    "żółć \U0001f40d \u2028 \x7f \\ \" '",
    [[], {}, "", 0, False, True, None],
    "%s %(x)s {x} ?",
]


@pytest.mark.parametrize("value", VERBATIM, ids=repr)
def test_json_is_kept_verbatim(declare: Declare, value: Any) -> None:
    """Types, signs, keys and their order are the same in the next task, in a straight run."""
    first, second = Seen(), Seen()
    declare(first, second)
    job = executor.start_sequence("probe", value)
    drain()

    for received in (first.payloads[0], second.payloads[0], job.refresh().result, job.payload):
        assert repr(received) == repr(value)
        assert json.dumps(received) == json.dumps(value)


@pytest.mark.parametrize("value", VERBATIM, ids=repr)
def test_json_is_kept_verbatim_over_another_claim(declare: Declare, value: Any) -> None:
    """A task that is tried again receives from the database what it received in the straight run."""
    failing = Failing(times=1)
    declare(same, failing)
    job = executor.start_sequence("probe", value)
    drain()
    executor.retry(job)
    drain()

    straight, again = (payload for payload, _ in failing.calls)
    assert repr(straight) == repr(again) == repr(value)


def test_the_sign_of_zero_is_kept(declare: Declare) -> None:
    """-0.0 comes out as -0.0 and not as 0."""
    task = Seen()
    declare(same, task)
    executor.start_sequence("probe", {"x": -0.0})
    drain()

    assert math.copysign(1, task.payloads[0]["x"]) == -1


def test_what_a_task_does_to_its_payload_stays_with_it(declare: Declare) -> None:
    """A task that changes its payload in place changes nothing that others see."""

    def spoil(payload: Any, context: Any) -> str:
        payload["n"] = "spoilt"
        context.job_payload["n"] = "spoilt"
        return "done"

    last = Seen()
    declare(spoil, last)
    job = executor.start_sequence("probe", {"n": 1})
    drain()

    assert job.refresh().payload == {"n": 1} == last.contexts[0].job_payload


def test_a_returned_object_is_not_shared_with_the_next_task(declare: Declare) -> None:
    """The next task receives a copy, so that what the first keeps of it cannot change it."""
    kept = {"n": 1}
    task = Seen()
    declare(lambda payload: kept, task)
    executor.start_sequence("probe")
    drain()

    assert task.payloads == [kept]
    assert task.payloads[0] is not kept


class Upper:
    """Not JSON."""


@pytest.mark.parametrize(
    ("result", "path"),
    [
        (Upper(), "result"),
        ({"price": Decimal(1)}, "result['price']"),
        ([float("nan")], "result[0]"),
        ("a\0b", "result"),
        ("\ud800", "result"),
        ("x" * (1024 * 1024 + 1), "result"),
    ],
    ids=["object", "decimal", "nan", "nul", "surrogate", "large"],
)
def test_a_result_that_is_no_json_fails_for_good(
    declare: Declare, configure: Callable[..., None], result: Any, path: str
) -> None:
    """The task ran, so it is failed and never tried again, whatever MAX_ATTEMPTS says."""
    configure(MAX_ATTEMPTS=5)
    task = Seen(result)
    declare(task, same)
    job = executor.start_sequence("probe")
    drain()
    advance(hours=2)
    drain()

    assert len(task.payloads) == 1
    assert job.refresh().status == "FAILED"
    assert statuses(job) == {"t1": "FAILED"}
    assert job.error.startswith("t1: TaskResultError: 't1' returned")
    attempt = job.attempts.get()
    assert attempt.exception_class == "django_tasks_seq.exceptions.TaskResultError"
    assert path in attempt.message or "returned an" in attempt.message


def test_urgent_jobs_first_then_the_oldest(declare: Declare) -> None:
    """Within a queue jobs are claimed by priority, then by due time."""
    task = Seen()
    declare(task)
    for name, priority in (("old", 0), ("new", 0), ("urgent", 10), ("idle", -10)):
        executor.start_sequence("probe", name, priority=priority)

    drain()

    assert task.payloads == ["urgent", "old", "new", "idle"]


def test_drain_keeps_to_its_queues(declare: Declare) -> None:
    """`drain(queues=…)` runs jobs of these queues, in that order, and no others."""
    task = Seen()
    declare(task)
    for queue in ("a", "b", "c"):
        executor.start_sequence("probe", queue, queue=queue)

    assert drain(queues=["c", "b"]) == 2
    assert task.payloads == ["c", "b"]
    assert drain() == 1


def test_drain_stops_after_so_many_jobs(declare: Declare) -> None:
    """`drain(max_jobs=…)` claims no more jobs than that."""
    task = Seen()
    declare(task)
    executor.start_many("probe", range(5))

    assert drain(max_jobs=2) == 2
    assert task.payloads == [0, 1]
    assert Job.objects.filter(status="READY").count() == 3


def test_many_jobs_of_many_tasks_end(declare: Declare) -> None:
    """A hundred jobs of five tasks all end with the right result and one row a task."""
    declare(*[count] * 5)
    jobs = executor.start_many("probe", ({"n": n} for n in range(100)))

    assert drain() == 100
    assert [job.refresh().result["n"] for job in jobs] == [n + 5 for n in range(100)]
    assert TaskStatus.objects.filter(status="SUCCESSFUL").count() == 500


def test_tasks_start_jobs(declare: Declare) -> None:
    """A job that a task starts is run by the same `drain()`."""
    inner = Seen()
    declare(inner, name="inner")
    declare(lambda payload: str(executor.start_sequence("inner", payload).id))
    job = executor.start_sequence("probe", 7)

    assert drain() == 2
    assert inner.payloads == [7]
    assert Job.objects.get(sequence="inner").pk.hex == job.refresh().result.replace("-", "")


def test_the_tasks_of_a_plain_job_run_outside_of_our_transactions(declare: Declare) -> None:
    """No savepoint of the engine is open while a task runs."""
    depth: list[int] = []
    declare(lambda payload: depth.append(len(connection.savepoint_ids)))
    depth.append(len(connection.savepoint_ids))
    executor.start_sequence("probe")
    drain()

    assert depth[0] == depth[1]


def test_a_sequence_may_hold_one_task_twice(declare: Declare) -> None:
    """The same callable under two ids runs twice."""
    task = Seen()
    declare(TaskSpec("first", task), ("second", task))
    executor.start_sequence("probe", 1)
    drain()

    assert [context.task_id for context in task.contexts] == ["first", "second"]
