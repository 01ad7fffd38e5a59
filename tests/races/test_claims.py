"""Who gets a job, and what a claim that is lost is worth: promise G4."""

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection, transaction

from django_tasks_seq import executor
from django_tasks_seq.attempt import MANAGER
from django_tasks_seq.cache.changes import Claim, Failure, Held, Report, Write
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.errors_text import describe_exception
from django_tasks_seq.models import Job
from tests.engines import STORE, claim, claim_one, declare, everything, on_threads
from tests.helpers import InThread


def nothing(payload: Any) -> Any:
    return payload


def end_leases() -> None:
    """Let the leases of all jobs end, by the database's clock."""
    with connection.cursor() as cursor:
        past = "'2000-01-01 00:00:00.000000'"
        cursor.execute(f"UPDATE {Job._meta.db_table} SET lease_until = {past}")


def claimed_twice() -> tuple[Claim, Claim]:
    """A claim that was lost, and the one that followed it."""
    declare("lines", ("only", nothing), ("next", nothing))
    executor.start_sequence("lines", {"n": 1})
    first = claim_one()
    end_leases()
    assert len(STORE.rescue(lose)) == 1
    return first, claim_one()


def test_jobs_are_shared_out_among_claimers_at_once() -> None:
    """Many claimers together get each job once, and all of them."""
    declare("lines", ("only", nothing))
    jobs = executor.start_many("lines", [{"n": n} for n in range(60)])

    def take_all() -> list[Any]:
        mine = []
        while got := claim(3):
            mine += [one.job_id for one in got]
        return mine

    taken = [job_id for mine in on_threads(4, take_all) for job_id in mine]

    assert len(taken) == len(jobs)
    assert set(taken) == {job.id for job in jobs}


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_claimer_does_not_wait_for_another() -> None:
    """While one claim is not committed yet, a second takes other jobs at once."""
    declare("lines", ("only", nothing))
    executor.start_many("lines", [{"n": n} for n in range(4)])

    with transaction.atomic():
        first = claim(2)
        second = InThread(claim, 4).result()

    assert len(first) == len(second) == 2
    assert {c.job_id for c in first}.isdisjoint(c.job_id for c in second)


def _complete(stale: Claim) -> Write:
    return MANAGER.complete_task(stale, '{"late": 1}', Report(), handler="", keep=True)


def _complete_as_consumer(stale: Claim) -> Write:
    return MANAGER.complete_task(stale, '{"late": 1}', Report(), handler="", keep=False)


def _fail(stale: Claim) -> Write:
    failure = Failure(describe_exception(ValueError("late")), "FAILED", None)
    return MANAGER.fail_attempt(stale, failure, Report(), handler="error", keep=True)


def _retry(stale: Claim) -> Write:
    failure = Failure(describe_exception(ValueError("late")), "FAILED", 5.0)
    return MANAGER.fail_attempt(stale, failure, Report(), handler="", keep=True)


def _release(stale: Claim) -> Write:
    return MANAGER.release(stale, Report(cursor="7"))


def _start(stale: Claim) -> Write:
    return MANAGER.start_task(stale, Report(started=1.0, progress='{"done": 1}'))


def _defer(stale: Claim) -> Write:
    return MANAGER.defer(stale, 30.0)


@pytest.mark.parametrize(
    "late", [_complete, _complete_as_consumer, _fail, _retry, _release, _start, _defer]
)
def test_a_late_write_is_refused_as_a_whole(late: Callable[[Claim], Write]) -> None:
    """Under a token that is not the job's any more, no verb writes anything."""
    stale, _ = claimed_twice()
    before = everything()

    applied = STORE.apply([late(stale)], "late")

    assert applied.lost == {stale.job_id}
    assert everything() == before


def test_a_late_write_does_not_hinder_its_neighbours() -> None:
    """In a batch, the refused outcome alone is left out."""
    stale, fresh = claimed_twice()
    executor.start_sequence("lines", {"n": 2})
    other = claim_one()

    applied = STORE.apply([_complete(stale), _complete(other)], "late")

    assert applied.lost == {stale.job_id}
    assert set(applied.done) == {other.job_id}
    assert STORE.results(fresh.job_id) == {}
    assert STORE.results(other.job_id) == {"only": '{"late": 1}'}


def test_a_late_renewal_renews_nothing() -> None:
    """Who lost a claim learns it by the tick, and lengthens nobody's lease."""
    stale, fresh = claimed_twice()
    end_leases()
    before = everything()

    result = STORE.tick([Held(stale.job_id, stale.token)], 60.0)

    assert result.lost == {fresh.job_id}
    assert everything() == before


def test_a_renewal_comes_before_the_rescue() -> None:
    """A lease that has ended and is renewed before anybody looks is not rescued."""
    declare("lines", ("only", nothing))
    executor.start_sequence("lines", {"n": 1})
    mine = claim_one()
    end_leases()

    result = STORE.tick([Held(mine.job_id, mine.token)], 60.0)

    assert result.lost == set()
    assert STORE.rescue(lose) == []
    assert STORE.apply([_complete(mine)], "me").lost == set()


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_a_late_renewal_does_not_wait_for_the_rescue() -> None:
    """While a rescue is not committed yet the renewal passes by, and finds out afterwards."""
    declare("lines", ("only", nothing))
    executor.start_sequence("lines", {"n": 1})
    mine = claim_one()
    end_leases()
    held = [Held(mine.job_id, mine.token)]

    with transaction.atomic():
        assert len(STORE.rescue(lose)) == 1
        during = InThread(STORE.tick, held, 60.0).result()
    after = STORE.tick(held, 60.0)

    assert during.lost == set()
    assert after.lost == {mine.job_id}
    assert Job.objects.get().lease_until is None


@pytest.mark.mariadb
@pytest.mark.postgresql
def test_the_rescue_does_not_wait_for_a_renewal() -> None:
    """While a renewal is not committed yet the rescue passes by, and afterwards has nothing to do."""
    declare("lines", ("only", nothing))
    executor.start_sequence("lines", {"n": 1})
    mine = claim_one()
    end_leases()

    with transaction.atomic():
        STORE.tick([Held(mine.job_id, mine.token)], 60.0)
        during = InThread(STORE.rescue, lose).result()
    after = STORE.rescue(lose)

    assert during == after == []
    assert Job.objects.get().claim_token == mine.token
