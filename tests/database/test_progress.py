"""What a task says while it runs, and what it is told: progress, cursor, renewals, results."""

from typing import Any

import pytest

from django_tasks_seq import InvalidPayload, Retry, TaskSpec, consuming, executor
from django_tasks_seq.consuming import renew
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Inbox, same

pytestmark = pytest.mark.django_db


def test_progress_is_kept_when_the_attempt_fails(declare: Declare) -> None:
    """What was reported last is kept with a failed attempt, and cleared by success."""

    def work(payload: Any, context: Any) -> None:
        context.report_progress(1, 3)
        context.report_progress(2, 3, "x" * 300)
        if context.attempt == 1:
            raise ValueError

    declare(work)
    job = executor.start_sequence("probe")
    drain()
    row = job.task_statuses.get()
    assert row.progress == {"done": 2, "total": 3, "message": "x" * 200}

    executor.retry(job)
    drain()
    row.refresh_from_db()
    assert (row.status, row.progress) == ("SUCCESSFUL", None)


def test_a_cursor_lets_the_next_attempt_go_on(declare: Declare) -> None:
    """The next attempt finds what `save_cursor` noted last; the next task finds none."""
    seen: list[Any] = []

    def work(payload: Any, context: Any) -> None:
        seen.append(context.cursor)
        for number in range(context.cursor or 0, 10):
            context.save_cursor(number + 1)
            if number == 5 and context.attempt == 1:
                raise ConnectionError
        assert context.cursor == 10

    def after(payload: Any, context: Any) -> None:
        seen.append(context.cursor)

    declare(TaskSpec("t1", work, retry=Retry(2, delay=0)), after)
    job = executor.start_sequence("probe")
    drain()

    assert seen == [None, 6, None]
    assert not job.task_statuses.filter(cursor__isnull=False).exists()


@pytest.mark.parametrize("verb", ["save_cursor", "report_progress"])
def test_what_is_no_json_is_refused_in_the_task(declare: Declare, verb: str) -> None:
    """A cursor or progress that JSON cannot hold raises where it is given."""
    refused = []

    def work(payload: Any, context: Any) -> None:
        args = [object()] if verb == "save_cursor" else [object(), 1]
        try:
            getattr(context, verb)(*args)
        except InvalidPayload as error:
            refused.append(error.path)

    declare(work)
    job = executor.start_sequence("probe")
    drain()

    assert len(refused) == 1
    assert job.refresh().status == "SUCCESSFUL"


def test_a_renewal_shows_what_runs(declare: Declare, inbox: Inbox) -> None:
    """A renewal writes the RUNNING row with progress and cursor, and keeps the lease alive."""
    seen: list[Any] = []

    def work(payload: Any, context: Any) -> None:
        context.report_progress(1, 2)
        context.save_cursor("here")
        before = Job.objects.get().lease_until
        advance(40)
        renew([call])
        row = Job.objects.get().task_statuses.get()
        seen.append((row.status, row.attempts, row.progress["done"], row.cursor))
        seen.append(Job.objects.get().lease_until > before)

    declare(work)
    job = executor.start_sequence("probe")
    store = executor.store()
    claim: Any = store.claim_job(job.id, "t1", 60, "me")
    call: Any = consuming._call(store, claim)
    call.run()

    assert call.outcome.text is None
    assert seen == [("RUNNING", 1, 1, "here"), True]


def test_a_lost_claim_is_told_to_the_task(declare: Declare, inbox: Inbox) -> None:
    """A renewal that finds the claim gone says so by `stop_reason`, and nothing is recorded."""

    def work(payload: Any, context: Any) -> None:
        executor.cancel(context.job_id, force=True)
        renew([call])
        context.raise_if_stopping()

    declare(work)
    job = executor.start_sequence("probe")
    store = executor.store()
    claim: Any = store.claim_job(job.id, "t1", 60, "me")
    call: Any = consuming._call(store, claim)
    call.run()

    assert call.context.stop_reason == "claim_lost"
    write = call.write()
    assert write is None or store.apply([write]).lost == {job.id}
    assert not job.task_statuses.exists()


def test_results_of_earlier_tasks_by_id(declare: Declare) -> None:
    """`context.results` has the results of all tasks before this one, and no others."""
    seen: list[Any] = []

    def look(payload: Any, context: Any) -> None:
        seen.append((dict(context.results), list(context.results), len(context.results)))
        seen.append((repr(context.results), "c" in context.results, "d" in context.results))
        seen.append((context.sequence, context.task_id, context.attempt, context.job_payload))

    declare(("a", lambda payload: 1), ("b", lambda payload: None), ("c", look), ("d", same))
    executor.start_sequence("probe", {"n": 0})
    drain()

    assert seen == [
        ({"a": 1, "b": None}, ["a", "b"], 2),
        ("<Results of a, b>", False, False),
        ("probe", "c", 1, {"n": 0}),
    ]
