"""S11, S12: keys and ids of one do not reach another's jobs; a role can start jobs and not decide them."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import ProgrammingError, connection, transaction

from django_tasks_seq import IdempotencyConflict, JobNotFound, executor
from django_tasks_seq.ids import uuid7
from django_tasks_seq.models import Job, JobEvent, TaskStatus
from tests.database.conftest import Declare
from tests.database.working import same
from tests.engines import STORE

pytestmark = pytest.mark.django_db


# --- S11


def test_the_same_key_in_two_sequences_is_two_jobs(declare: Declare) -> None:
    """A tenant's sequence, or a caller's, finds no job of another through a key that both use."""
    declare(same, name="a")
    declare(same, name="b")
    mine = executor.start_sequence("a", {"secret": 1}, idempotency_key="order-7")
    theirs = executor.start_sequence("b", {"other": 2}, idempotency_key="order-7")

    assert mine.pk != theirs.pk
    assert theirs.was_started
    assert theirs.payload == {"other": 2}


def test_a_key_with_another_payload_tells_nothing_of_the_first(declare: Declare) -> None:
    """Who guesses a key learns that it is taken, and which job has it; not what that was given."""
    declare(same)
    first = executor.start_sequence("probe", {"secret": "swordfish"}, idempotency_key="order-7")

    with pytest.raises(IdempotencyConflict) as refused:
        executor.start_sequence("probe", {}, idempotency_key="order-7")

    assert str(first.id) in str(refused.value)
    assert "swordfish" not in str(refused.value)
    assert "swordfish" not in repr(vars(refused.value))


@pytest.mark.parametrize(
    "key", ["order-7 ", " order-7", "Order-7", "order\u20117", "order-7\u200b"]
)
def test_keys_are_compared_exactly(declare: Declare, key: str) -> None:
    """A look-alike of a key is another key."""
    declare(same)
    first = executor.start_sequence("probe", 1, idempotency_key="order-7")

    assert executor.start_sequence("probe", 1, idempotency_key=key).pk != first.pk


def test_many_with_one_key_are_one_job(declare: Declare) -> None:
    """Within one call as well: what is doubled there is started once, or refused as a whole."""
    declare(same)
    jobs = executor.start_many("probe", [1, 1], idempotency_keys=["k", "k"])
    assert len({job.pk for job in jobs}) == Job.objects.count() == 1

    with pytest.raises(IdempotencyConflict), transaction.atomic():
        executor.start_many("probe", [1, 2, 3], idempotency_keys=["x", "y", "y"])
    assert Job.objects.count() == 1


def test_ids_cannot_be_guessed() -> None:
    """Behind the milliseconds each id has 74 random bits: none is the next of another."""
    ids = [uuid7() for _ in range(2000)]
    tails = {one.int & (2**62 - 1) for one in ids}

    assert len(set(ids)) == len(tails) == 2000
    assert all(one.version == 7 and one.variant == "specified in RFC 4122" for one in ids)
    for bit in range(62):
        share = sum(tail >> bit & 1 for tail in tails) / len(tails)
        assert 0.4 < share < 0.6


@pytest.mark.parametrize(
    "text", ["", "x", "%", "0" * 31, "{}", "../1", "1 OR 1=1", "\0", "a" * 10_000]
)
def test_what_is_no_id_finds_no_job(declare: Declare, text: str) -> None:
    """An id is an id or nothing: no part, no pattern, no SQL."""
    declare(same)
    executor.start_sequence("probe")

    for call in (executor.get_job, executor.cancel, executor.retry, executor.pause):
        with pytest.raises(JobNotFound):
            call(text)
    with pytest.raises(JobNotFound):
        executor.get_job(uuid4())


# --- S12

ROLE = "tasks_seq_starter"


@contextmanager
def role() -> Iterator[None]:
    """As a role of docs/explanation/security.md: it may add jobs and read them."""
    job = Job._meta.db_table
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {ROLE}")
        cursor.execute(f"GRANT SELECT, INSERT ON {job} TO {ROLE}")
        cursor.execute(f"SET LOCAL ROLE {ROLE}")
        yield
        cursor.execute("RESET ROLE")


@pytest.mark.postgresql
def test_a_role_can_start_jobs_and_decide_none(declare: Declare) -> None:
    """With INSERT and SELECT on the table of jobs it starts them; it can neither claim, end nor change any."""
    declare(same)
    theirs = executor.start_sequence("probe", "theirs")
    attempts: list[Callable[[], Any]] = [
        lambda: STORE.claim((), 1, 60.0, None),
        lambda: STORE.claim_job(theirs.pk, "t1", 60.0, "evil"),
        lambda: executor.execute_task(theirs, "t1"),
        lambda: executor.cancel(theirs),
        lambda: executor.pause(theirs),
        lambda: executor.skip(theirs, "t1"),
        lambda: Job.objects.update(requested="cancel"),
        lambda: Job.objects.all()._raw_delete("default"),
    ]
    with role():
        mine = executor.start_sequence("probe", "mine", idempotency_key="k")
        again = executor.start_sequence("probe", "mine", idempotency_key="k")
        many = executor.start_many("probe", [1, 2, 3])
        for attempt in attempts:
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                attempt()

    assert isinstance(mine.pk, UUID)
    assert (again.pk, len(many)) == (mine.pk, 3)
    assert set(Job.objects.values_list("status", "claim_token")) == {("READY", 0)}
    assert TaskStatus.objects.count() == JobEvent.objects.count() == 0


@pytest.mark.parametrize("token", [0, 2, -1, 2**62])
def test_an_outcome_needs_the_token_of_the_claim(declare: Declare, token: int) -> None:
    """Who guesses a job's token, or held an earlier one, ends nothing."""
    from django_tasks_seq.attempt import MANAGER

    declare(same)
    job = executor.start_sequence("probe")
    (claim,) = STORE.claim((), 1, 60.0, None)
    claim.token = token
    before = Job.objects.values().get()
    forged = MANAGER.end_job(claim, handler="")
    applied = STORE.apply([forged], "evil")

    assert applied.lost == {job.pk}
    assert Job.objects.values().get() == before
