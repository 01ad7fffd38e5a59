"""What a worker still says of a job after its claim was taken or given up, though no other has begun."""

from typing import Any

import pytest
from django.db import transaction

from django_tasks_seq import BaseErrorHandler, executor
from django_tasks_seq.attempt import MANAGER
from django_tasks_seq.cache.changes import Claim, Failure, Held, Report, Write
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.errors_text import describe_exception
from django_tasks_seq.exceptions import ClaimLost
from django_tasks_seq.handlers import Complete
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from django_tasks_seq.verdicts import change_outcome
from tests.database.conftest import Declare
from tests.database.working import same
from tests.engines import STORE, claim_one, everything
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db

NO = describe_exception(ValueError("no"))


class OnError(BaseErrorHandler):
    def handle_error(self, error: Any, context: Any) -> None:
        pass


def consumed(declare: Declare, **options: Any) -> Claim:
    """A consumer's claim on a job of two tasks."""
    declare(same, same, **options)
    job = executor.start_sequence("probe", 1)
    claim = STORE.claim_job(job.pk, "t1", 60.0, "consumer")
    assert isinstance(claim, Claim)
    return claim


def success(claim: Claim, *, keep: bool = False) -> Write:
    return MANAGER.complete_task(claim, "1", Report(), handler="", keep=keep)


def failure(claim: Claim, handler: str = "") -> Write:
    why = Failure(NO, "FAILED", None)
    return MANAGER.fail_attempt(claim, why, Report(), handler=handler, keep=True)


def rescue() -> None:
    advance(61)
    assert len(STORE.rescue(lose)) == 1


def test_an_atomic_task_whose_job_was_rescued_commits_no_effect(declare: Declare) -> None:
    """The job is READY again, as its success would have left it: that success is refused all the same."""
    claim = consumed(declare)
    rescue()
    before = everything()

    with transaction.atomic():
        Effect.objects.create(job_id=claim.job_id)
        applied = STORE.apply_inside(success(claim), "late")
        transaction.set_rollback(claim.job_id not in applied.done)

    assert applied.lost == {claim.job_id}
    assert everything() == before
    assert not Effect.objects.exists()


@pytest.mark.parametrize("keep", [True, False])
def test_an_atomic_task_of_a_job_that_runs_commits(declare: Declare, keep: bool) -> None:
    """While the claim holds, a worker's and a consumer's success are written with the effect."""
    claim = consumed(declare)

    with transaction.atomic():
        applied = STORE.apply_inside(success(claim, keep=keep), "me")

    assert applied.done == {claim.job_id: ""}
    assert STORE.results(claim.job_id) == {"t1": "1"}


def test_a_success_that_was_not_written_is_not_taken_for_one_that_was(declare: Declare) -> None:
    """Cancelled by force and retried, the job stands as after the success, and without its result."""
    claim = consumed(declare)
    executor.cancel(claim.job_id, force=True)
    executor.retry(claim.job_id)
    before = everything()

    assert STORE.apply([success(claim)], "late").lost == {claim.job_id}
    assert everything() == before


def test_the_last_success_is_not_taken_for_a_skip(declare: Declare) -> None:
    """A person has ended the job with another result: the worker hears that its own is lost."""
    declare(same)
    job = executor.start_sequence("probe", 1)
    claim = claim_one()
    executor.cancel(job, force=True)
    executor.retry(job)
    executor.skip(job, "t1", "by hand")

    assert STORE.apply([success(claim, keep=True)], "late").lost == {job.pk}
    assert job.refresh().result == "by hand"


def test_a_failure_is_not_taken_for_the_loss_of_its_worker(declare: Declare) -> None:
    """The rescuer has failed the job, with a reason of its own."""
    claim = consumed(declare)
    shown = MANAGER.start_task(claim, Report(started=1.0, fails_when_lost=True))
    STORE.apply([shown], "me")
    rescue()

    assert STORE.apply([failure(claim)], "late").lost == {claim.job_id}


@pytest.mark.parametrize("is_last", [True, False])
def test_an_outcome_whose_answer_was_lost_is_done(declare: Declare, is_last: bool) -> None:
    """Sent again, the very same write is found to have been made."""
    claim = consumed(declare)
    write = failure(claim) if is_last else success(claim)
    STORE.apply([write], "me")
    before = everything()

    again = STORE.apply([write], "me")

    assert set(again.done) == {claim.job_id}
    assert everything() == before


def test_a_renewal_does_not_bring_a_claim_back_that_was_taken(declare: Declare) -> None:
    """The job has failed under a rescue and its handler is due: a worker that wakes up does not hold it up."""
    claim = consumed(declare, error_handler=OnError)
    shown = MANAGER.start_task(claim, Report(started=1.0, fails_when_lost=True))
    STORE.apply([shown], "me")
    rescue()
    assert Job.objects.get().handler_due == "error"

    assert STORE.tick([Held(claim.job_id, claim.token)], 60.0).lost == {claim.job_id}

    assert Job.objects.get().lease_until is None
    assert len(STORE.claim_handlers((), 1, 60.0, None)) == 1


def test_a_handler_that_gave_its_claim_up_decides_nothing(declare: Declare) -> None:
    """It was released at the end of a drain, and returns its verdict afterwards."""
    claim = consumed(declare, error_handler=OnError)
    STORE.apply([failure(claim, "error")], "me")
    claim.handler, claim.handler_attempts = "error", 1
    STORE.apply([MANAGER.release_handler(claim)], "me")
    before = everything()

    with pytest.raises(ClaimLost):
        STORE.amend(
            claim.job_id,
            lambda job: change_outcome(job, claim.token, Complete(1), text="1", handler=""),
        )

    assert everything() == before


def test_a_cancel_that_no_worker_lived_to_hear_is_still_done_after_a_skip(declare: Declare) -> None:
    """Who skips a task does not take back what another has asked for."""
    claim = consumed(declare)
    executor.cancel(claim.job_id)
    rescue()

    executor.skip(claim.job_id, "t1")
    drain()

    assert Job.objects.get().status == "CANCELLED"


def test_a_pause_that_no_worker_lived_to_hear_is_done_by_the_next(declare: Declare) -> None:
    """A job that is PAUSED is not asked to pause any more."""
    claim = consumed(declare)
    executor.pause(claim.job_id)
    rescue()

    job = executor.pause(claim.job_id)

    assert (job.status, job.requested) == ("PAUSED", "")


def test_a_consumer_heeds_what_is_asked_now_and_not_what_was_asked(
    declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pause is withdrawn between its claim and its answer: the job goes on."""
    claim = consumed(declare)
    executor.pause(claim.job_id)
    rescue()
    take = ModelTaskCacheHandler.claim_job

    def claim_and_withdraw(*args: Any) -> Claim | str:
        taken = take(*args)
        executor.resume(claim.job_id)
        return taken

    monkeypatch.setattr(ModelTaskCacheHandler, "claim_job", claim_and_withdraw)
    run = executor.execute_task(claim.job_id, "t1")

    assert (run.ran, run.reason) == (False, "not_due")
    assert Job.objects.get().status == "READY"
