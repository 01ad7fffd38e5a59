"""What every cache handler must keep, as one class of tests.

    class TestMine(JobStoreContract):
        def make_store(self):
            return as_store(MyCacheHandler())

Writes are those that `TaskStatusManager` and `repairs` compute, so that a store is tested with what the
engine and people really send it. Tests of what only a store with claims can do ask a store without them
to say so.
"""

import json
import math
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from django_tasks_seq import clock, repairs
from django_tasks_seq.cache.base import BaseJobStore, job_key, task_key
from django_tasks_seq.cache.changes import (
    NOW,
    Applied,
    Change,
    Claim,
    Failure,
    Held,
    Moment,
    NewJob,
    Report,
    Snapshot,
    WorkerInfo,
    Write,
)
from django_tasks_seq.errors_text import describe_exception
from django_tasks_seq.exceptions import (
    InvalidTransition,
    JobNotFound,
    JobNotPausable,
    StoreNotSupported,
)
from django_tasks_seq.ids import uuid7
from django_tasks_seq.status import TaskStatusManager

LEASE = 60.0
LATER = 100.0
# What a JSON column loses: an integer of it, the sign, the order of keys, the spelling.
VERBATIM = '{"b": 1e16, "a": -0.0, "ä": [1E5, 0.10, "x\\u00e9"], "n": null}'
STATUS = TaskStatusManager()
KINDS_OF_WORK = ("ready", "waiting", "expired", "handlers", "resend")
REPORT = Report(started=0.2, ended=0.1)
PERSON = repairs.Actor(by="ada", reason="a test")


def new_job(**values: Any) -> NewJob:
    """A job of three tasks to be added, with *values* in place of the defaults."""
    defaults: dict[str, Any] = {
        "id": uuid7(),
        "sequence": "contract",
        "version": 1,
        "plan": json.dumps(["first", "second", "third"]),
        "queue": "default",
        "priority": 0,
        "payload": '{"order": 7}',
        "carried": False,
    }
    return NewJob(**(defaults | values))


def look(store: BaseJobStore, job_id: UUID) -> Snapshot:
    """The job and its tasks as the store knows them; nothing is changed."""
    seen: list[Snapshot] = []

    def refuse(snapshot: Snapshot) -> Change:
        seen.append(snapshot)
        raise InvalidTransition("only looking")

    with pytest.raises(InvalidTransition, match="only looking"):
        store.amend(job_id, refuse)
    return seen[0]


def claim(store: BaseJobStore, job_id: UUID, task_id: str = "first", lease: float = LEASE) -> Claim:
    """Claim the job for a consumer, which must succeed."""
    claimed = store.claim_job(job_id, task_id, lease, "consumer")
    assert isinstance(claimed, Claim), claimed
    return claimed


def succeed(
    store: BaseJobStore,
    claim: Claim,
    result: str | None = None,
    *,
    handler: str = "",
    keep: bool = True,
) -> Applied:
    """Write the success of the task that *claim* stands before, and stand before the next."""
    write = STATUS.complete_task(claim, result, REPORT, handler=handler, keep=keep)
    applied = store.apply([write], "consumer")
    if not claim.is_last:
        claim.advance(result)
    return applied


def failed(delay: float | None, error: Exception | None = None) -> Failure:
    """An attempt that failed, the next due after *delay* seconds."""
    return Failure(describe_exception(error or ValueError("no stock")), "FAILED", delay)


def fail(store: BaseJobStore, claim: Claim, delay: float | None, handler: str = "") -> Applied:
    """Write the failure of the task that *claim* stands before, and give the claim up."""
    change = STATUS.fail_attempt(claim, failed(delay), REPORT, handler=handler, keep=False)
    return store.apply([change], "consumer")


def has_claims(store: BaseJobStore, verb: str, *args: Any) -> bool:
    """Whether the store has claims; one that has not must refuse *verb*."""
    if store.supports_claims:
        return True
    with pytest.raises(StoreNotSupported, match=f"{type(store).__name__} cannot"):
        getattr(store, verb)(*args)
    return False


def lose(snapshot: Snapshot) -> Change:
    """What a rescue decides of a job whose task may run again."""
    return STATUS.lose(snapshot, handler="")


class JobStoreContract:
    """Subclass it, give `make_store`, and the store is tested."""

    def make_store(self) -> BaseJobStore:
        """Return an empty store."""
        raise NotImplementedError

    @pytest.fixture
    def store(self) -> BaseJobStore:
        return self.make_store()

    @pytest.fixture
    def pass_time(self) -> Iterator[Callable[[float], None]]:
        """Move the stores' clock forward by so many seconds."""
        yield lambda seconds: clock.set_offset(clock.offset() + seconds)
        clock.set_offset(0)

    @pytest.fixture
    def start(self, store: BaseJobStore) -> Callable[..., UUID]:
        """Add a job and return its id."""

        def start(**values: Any) -> UUID:
            job = new_job(**values)
            store.add([job])
            return job.id

        return start

    # --- documents

    def test_the_document_of_a_job_tells_its_status(self, store, start):
        """`get` of a job's key gives a document with its id, sequence and status."""
        job_id = start()

        document = store.get(job_key(job_id))

        assert document is not None
        assert (document["id"], document["sequence"]) == (str(job_id), "contract")
        assert document["status"] == "READY"

    def test_the_document_of_a_task_tells_its_status(self, store, start):
        """`get` of a task's key gives its document once the task has ended, before that None."""
        job_id = start()
        assert store.get(task_key(job_id, "first")) is None

        succeed(store, claim(store, job_id))

        document = store.get(task_key(job_id, "first"))
        assert document is not None
        assert (document["task_id"], document["status"], document["attempts"]) == (
            "first",
            "SUCCESSFUL",
            1,
        )

    def test_documents_are_json_data(self, store, start):
        """A document has nothing in it that JSON has not."""
        job_id = start()
        succeed(store, claim(store, job_id), VERBATIM)

        for key in (job_key(job_id), task_key(job_id, "first")):
            document = store.get(key)
            assert json.loads(json.dumps(document)) == document

    def test_what_was_set_is_got(self, store, start):
        """`set` of a document that was got, with another text in it, keeps that text."""
        job_id = start()
        document = dict(store.get(job_key(job_id)))

        store.set(job_key(job_id), {**document, "error": "odd"})

        assert store.get(job_key(job_id)) == {**document, "error": "odd"}

    def test_unknown_keys_have_no_document(self, store):
        """`get` of a job or a task that does not exist is None."""
        assert store.get(job_key(uuid4())) is None
        assert store.get(task_key(uuid4(), "first")) is None

    def test_a_deleted_job_is_gone(self, store, start):
        """After `delete` there is no job; deleting it again is no error."""
        job_id = start()

        store.delete(job_key(job_id))
        store.delete(job_key(job_id))

        assert store.get(job_key(job_id)) is None
        with pytest.raises(JobNotFound):
            store.load(job_id)
        assert store.claim_job(job_id, "first", LEASE, "consumer") == "unknown_job"

    # --- starting

    def test_started_jobs_are_returned_in_order(self, store):
        """`add` returns a READY job for each that was given, with the attributes of a Job."""
        jobs = [
            new_job(payload=str(n), priority=n, subject_type="shop.order", subject_id=str(n))
            for n in range(3)
        ]

        added = store.add(jobs)

        assert [job.id for job in added] == [job.id for job in jobs]
        assert [job.payload for job in added] == [0, 1, 2]
        assert [(job.status, job.was_started, job.is_final) for job in added] == [
            ("READY", True, False)
        ] * 3
        assert [(job.priority, job.subject_id) for job in added] == [(0, "0"), (1, "1"), (2, "2")]
        assert added[0].plan == ["first", "second", "third"]
        assert added[0].run_after <= added[0].created_at

    def test_a_loaded_job_has_what_it_was_started_with(self, store, start):
        """`load` gives the job with all that `add` was told."""
        given = {
            "queue": "mail",
            "priority": -5,
            "version": 3,
            "idempotency_key": "order-7",
            "subject_type": "shop.order",
            "subject_id": "7",
            "subject_label": "Order 7",
            "created_by": "ada",
            "carried": True,
        }
        job = store.load(start(**given))

        assert {name: getattr(job, name) for name in given} == given
        assert str(job) == "Order 7"
        assert (job.result, job.error, job.requested, job.started_at) == (None, "", "", None)

    def test_a_job_due_later_waits(self, store, start, pass_time):
        """A job that is due later is WAITING, whether the time is a duration or a point in time."""
        tomorrow = datetime.now(UTC) + timedelta(days=1)
        job_ids = [start(due=due) for due in (Moment(LATER), tomorrow)]

        for job_id in job_ids:
            assert store.load(job_id).status == "WAITING"
            assert store.claim_job(job_id, "first", LEASE, "") == "not_due"
        assert abs(store.load(job_ids[1]).run_after - tomorrow) < timedelta(milliseconds=10)

    def test_a_job_due_in_the_past_is_ready(self, store, start):
        """A job whose time has passed at its start is READY."""
        assert store.load(start(due=datetime(2020, 1, 1, tzinfo=UTC))).status == "READY"
        assert store.load(start(due=NOW)).status == "READY"

    def test_an_idempotency_key_starts_one_job(self, store):
        """A second start with the key returns the first job as it is, `was_started` false."""
        first = new_job(idempotency_key="order-7", payload='{"order": 7}')
        store.add([first])
        claim(store, first.id)

        (again,) = store.add([new_job(idempotency_key="order-7", payload='{"order": 8}')])

        assert (again.id, again.was_started, again.status) == (first.id, False, "RUNNING")
        assert again.payload == {"order": 7}

    def test_idempotency_keys_belong_to_a_sequence(self, store):
        """The same key starts one job of each sequence, and no key starts as many as are asked for."""
        jobs = store.add([new_job(idempotency_key="k"), new_job(), new_job()])
        jobs += store.add([new_job(idempotency_key="k", sequence="other")])

        assert len({job.id for job in jobs}) == 4
        assert all(job.was_started for job in jobs)

    def test_one_batch_may_name_a_key_twice(self, store):
        """Two jobs of one batch with one key are one job."""
        one, other = store.add([new_job(idempotency_key="k"), new_job(idempotency_key="k")])

        assert one.id == other.id

    def test_the_key_of_a_deleted_job_is_free(self, store):
        """The key of a job that was deleted starts a new one."""
        job = new_job(idempotency_key="k")
        store.add([job])
        store.delete(job_key(job.id))

        (again,) = store.add([new_job(idempotency_key="k")])

        assert again.was_started
        assert again.id != job.id

    def test_what_is_added_together_is_there_as_a_whole(self, store):
        """A block that raises leaves none of its jobs and no key taken; one that ends leaves all."""
        jobs = [new_job(), new_job(idempotency_key="k")]

        def add_and_fail() -> None:
            with store.together():
                store.add(jobs)
                raise ValueError("conflict")

        with pytest.raises(ValueError, match="conflict"):
            add_and_fail()
        for job in jobs:
            with pytest.raises(JobNotFound):
                store.load(job.id)

        with store.together():
            again = store.add([new_job(), new_job(idempotency_key="k")])

        assert [store.load(job.id).status for job in again] == ["READY", "READY"]
        assert all(job.was_started for job in again)

    def test_unknown_jobs_are_an_error(self, store):
        """`load` and `amend` of a job that is not there raise JobNotFound."""
        with pytest.raises(JobNotFound):
            store.load(uuid4())
        with pytest.raises(JobNotFound):
            store.amend(uuid4(), lambda snapshot: repairs.cancel(snapshot, PERSON))

    # --- claiming one job

    def test_a_claim_stands_before_the_first_task(self, store, start):
        """The claim of a new job has token 1, its first task and the job's payload as text."""
        job_id = start(payload=VERBATIM, subject_label="Order 7", carried=True)

        claimed = claim(store, job_id)

        assert (claimed.job_id, claimed.token, claimed.position) == (job_id, 1, 0)
        assert (claimed.task_id, claimed.attempt, claimed.row) == ("first", 1, None)
        assert claimed.payload == claimed.job_payload == VERBATIM
        assert claimed.plan == ("first", "second", "third")
        assert (claimed.suspect, claimed.requested, claimed.carried) == (False, "", True)
        assert (claimed.handler, claimed.subject_label) == ("", "Order 7")
        job = store.load(job_id)
        assert job.status == "RUNNING"
        assert job.started_at is not None

    def test_the_token_rises_with_each_claim(self, store, start):
        """A job that was released and is claimed again has a new token and the same start."""
        job_id = start()
        first = claim(store, job_id)
        started = store.load(job_id).started_at
        store.apply([STATUS.release(first)])

        assert claim(store, job_id).token == 2
        assert store.load(job_id).started_at == started

    def test_a_waiting_job_whose_time_has_come_is_due(self, store, start, pass_time):
        """A WAITING job can be claimed from the moment it is due, promoted or not."""
        job_id = start(due=Moment(LATER))
        pass_time(LATER + 1)

        assert claim(store, job_id).task_id == "first"

    def test_refusals_are_words(self, store, start):
        """A call that is early, late, doubled or for nobody is answered by a word; nothing changes."""

        def refusal(job_id: UUID, task_id: str) -> Claim | str:
            return store.claim_job(job_id, task_id, LEASE, "consumer")

        job_id = start()
        assert refusal(uuid4(), "first") == "unknown_job"
        assert refusal(job_id, "second") == "not_next"
        assert refusal(job_id, "nonsense") == "not_next"
        assert refusal(job_id, "@success") == "not_next"
        held = claim(store, job_id)
        assert refusal(job_id, "first") == "running"
        succeed(store, held, keep=False)
        assert refusal(job_id, "first") == "done"
        store.amend(job_id, lambda snapshot: repairs.pause(snapshot, PERSON))
        assert refusal(job_id, "second") == "paused"
        store.amend(job_id, lambda snapshot: repairs.cancel(snapshot, PERSON))
        assert refusal(job_id, "second") == "final"
        assert refusal(job_id, "@error") == "done"
        assert look(store, job_id).token == 1

    # --- the fence

    @pytest.mark.parametrize("kind", ["checkpoint", "change"])
    def test_an_old_claim_writes_nothing(self, store, start, pass_time, kind):
        """A write under a token that is not the job's any more is lost, and nothing of it is written."""
        job_id = start()
        old = claim(store, job_id)
        store.apply([STATUS.release(old)])
        claim(store, job_id)
        write: Write = STATUS.complete_task(old, '"late"', REPORT, handler="", keep=True)
        if kind == "change":
            write = STATUS.fail_attempt(old, failed(None), REPORT, handler="error", keep=False)

        applied = store.apply([write], "zombie")

        assert applied.lost == {job_id}
        assert not applied.done
        snapshot = look(store, job_id)
        assert (snapshot.status, snapshot.token, snapshot.rows) == ("RUNNING", 2, {})
        assert (store.results(job_id), store.failure(job_id)) == ({}, {})

    def test_a_job_that_was_ended_refuses_its_outcome(self, store, start):
        """The outcome of a task whose job was cancelled by force is lost, the token being the same."""
        job_id = start()
        held = claim(store, job_id)
        store.amend(job_id, lambda snapshot: repairs.cancel(snapshot, PERSON, force=True))

        assert succeed(store, held, '"late"').lost == {job_id}
        assert store.results(job_id) == {}
        assert store.load(job_id).status == "CANCELLED"

    def test_each_write_of_a_batch_is_judged_alone(self, store, start):
        """In one batch the writes of held claims are done, those of lost ones and of no job are not."""
        mine, lost, gone = claim(store, start()), claim(store, start()), claim(store, start())
        store.apply([STATUS.release(lost)])
        store.delete(job_key(gone.job_id))
        writes = [
            STATUS.complete_task(one, '"yes"', REPORT, handler="", keep=True)
            for one in (lost, mine, gone)
        ]

        applied = store.apply(writes, "worker")

        assert applied.done == {mine.job_id: ""}
        assert applied.lost == {lost.job_id, gone.job_id}
        assert store.results(mine.job_id) == {"first": '"yes"'}
        assert store.results(lost.job_id) == {}

    def test_a_write_tells_what_was_requested(self, store, start):
        """The answer to a write is what a person has asked of the running job in the meantime."""
        held = claim(store, start())
        store.amend(held.job_id, lambda snapshot: repairs.cancel(snapshot, PERSON))

        assert succeed(store, held).done == {held.job_id: "cancel"}
        store.apply([STATUS.stop(held, "cancel")])
        assert store.load(held.job_id).status == "CANCELLED"
        assert store.load(held.job_id).requested == ""

    # --- outcomes

    def test_results_are_kept_to_the_letter(self, store, start):
        """The next task gets the text that the task before it left, and a reader the exact values."""
        job_id = start(payload=VERBATIM)
        succeed(store, claim(store, job_id), VERBATIM, keep=False)

        assert claim(store, job_id, "second").payload == VERBATIM
        assert store.results(job_id) == {"first": VERBATIM}
        for value in (store.load(job_id).payload, store.load(job_id).task_results()["first"]):
            assert math.copysign(1, value["a"]) == -1
            assert type(value["b"]) is float
            assert list(value) == ["b", "a", "ä", "n"]

    def test_no_result_is_none(self, store, start):
        """A task that returns nothing leaves nothing, and nothing is what the next one gets."""
        job_id = start()
        succeed(store, claim(store, job_id), None, keep=False)

        assert claim(store, job_id, "second").payload is None
        assert store.results(job_id) == {"first": None}

    def test_a_job_goes_through_its_tasks_in_order(self, store, start):
        """Checkpoints under one claim bring the job to its end, whose result is that of the last task."""
        job_id = start()
        held = claim(store, job_id)

        for n in range(3):
            assert succeed(store, held, str(n)).done == {job_id: ""}

        job = store.load(job_id)
        assert (job.status, job.result, job.is_settled) == ("SUCCESSFUL", 2, True)
        assert job.finished_at is not None
        assert store.results(job_id) == {"first": "0", "second": "1", "third": "2"}
        snapshot = look(store, job_id)
        assert snapshot.lease_left is None
        assert snapshot.next_position == 3
        assert store.claim_job(job_id, "third", LEASE, "") == "final"

    def test_a_claim_is_taken_up_where_it_was_given_up(self, store, start):
        """After a checkpoint that gives the claim up, the next claim stands before the next task."""
        job_id = start()
        for n, task_id in enumerate(("first", "second", "third")):
            held = claim(store, job_id, task_id)
            assert (held.position, held.token) == (n, n + 1)
            succeed(store, held, str(n), keep=False)

        assert (store.load(job_id).status, store.load(job_id).result) == ("SUCCESSFUL", 2)

    def test_a_checkpoint_may_be_sent_again(self, store, start):
        """A checkpoint whose answer was lost is accepted again and changes nothing."""
        held = claim(store, start())
        write = STATUS.complete_task(held, '"once"', REPORT, handler="", keep=True)

        answers = [store.apply([write], "worker").done for _ in range(2)]

        assert answers == [{held.job_id: ""}] * 2
        assert store.results(held.job_id) == {"first": '"once"'}
        assert look(store, held.job_id).rows["first"].attempts == 1

    def test_a_task_that_is_done_is_not_written_over(self, store, start):
        """A change writes a task only over the statuses it names."""
        held = claim(store, start())
        late = STATUS.start_task(held, REPORT)
        succeed(store, held, '"kept"')

        store.apply([late], "worker")

        assert look(store, held.job_id).rows["first"].status == "SUCCESSFUL"
        assert store.results(held.job_id) == {"first": '"kept"'}

    def test_a_running_row_is_replaced_by_its_outcome(self, store, start):
        """A long task has a RUNNING row, which its checkpoint completes."""
        held = claim(store, start())
        progress = Report(started=2, progress='{"done": 1, "total": 4, "message": ""}', cursor="5")
        store.apply([STATUS.start_task(held, progress)], "worker")
        row = look(store, held.job_id).rows["first"]
        assert (row.status, row.attempts, row.cursor) == ("RUNNING", 1, "5")

        succeed(store, held, '"done"')

        row = look(store, held.job_id).rows["first"]
        assert (row.status, row.attempts, row.cursor) == ("SUCCESSFUL", 1, None)
        document = store.get(task_key(held.job_id, "first"))
        assert document["progress"] is None
        assert document["started_at"] < document["finished_at"]

    def test_a_failed_attempt_waits_and_is_tried_again(self, store, start, pass_time):
        """A job whose attempt failed is due after the delay, with the next attempt and the cursor."""
        job_id = start()
        held = claim(store, job_id)
        report = Report(started=1, cursor='{"page": 3}')
        change = STATUS.fail_attempt(held, failed(LATER), report, handler="error", keep=False)
        store.apply([change], "worker")

        assert store.load(job_id).status == "WAITING"
        assert store.claim_job(job_id, "first", LEASE, "") == "not_due"
        pass_time(LATER + 1)
        again = claim(store, job_id)
        assert (again.attempt, again.payload) == (2, '{"order": 7}')
        assert again.row is not None
        assert (again.row.status, again.row.cursor) == ("WAITING", '{"page": 3}')
        document = store.get(task_key(job_id, "first"))
        assert (document["status"], document["error"]) == ("WAITING", "ValueError: no stock")

    def test_the_last_failure_ends_the_job(self, store, start):
        """A job that fails says why, and tells the facts of the failure that ended it."""
        job_id = start()
        held = claim(store, job_id)
        succeed(store, held, "1")
        change = STATUS.fail_attempt(
            held, failed(None, KeyError("sku")), REPORT, handler="", keep=False
        )
        store.apply([change], "worker")

        job = store.load(job_id)
        assert (job.status, job.error, job.is_settled) == (
            "FAILED",
            "second: KeyError: 'sku'",
            True,
        )
        facts = store.failure(job_id)
        assert (facts["task_id"], facts["attempt"]) == ("second", 1)
        assert facts["exception_class"] == "builtins.KeyError"
        assert "builtins.LookupError" in facts["exception_bases"]
        assert facts["message"] == "'sku'"
        assert "KeyError" in facts["traceback"]

    def test_a_job_that_never_failed_has_no_failure(self, store, start):
        """`failure` of a job without one has no facts."""
        assert store.failure(start()) == {}

    def test_a_released_attempt_costs_nothing(self, store, start):
        """A claim that is given up leaves the job READY, the attempt uncounted and the cursor kept."""
        job_id = start()
        held = claim(store, job_id)
        store.apply([STATUS.start_task(held, Report(started=2))], "worker")
        held.begun = True

        store.apply([STATUS.release(held, Report(cursor="17"))], "worker")

        assert store.load(job_id).status == "READY"
        again = claim(store, job_id)
        assert again.attempt == 1
        assert again.row is not None
        assert again.row.cursor == "17"

    # --- handlers

    def test_a_handler_is_due_by_the_commit_that_ends_the_job(self, store, start):
        """The last checkpoint may keep the claim for a handler, which then ends the claim."""
        job_id = start()
        held = claim(store, job_id)
        for n in range(3):
            succeed(store, held, str(n), handler="success")

        job = store.load(job_id)
        assert (job.status, job.is_final, job.is_settled) == ("SUCCESSFUL", True, False)
        assert store.claim_job(job_id, "@success", LEASE, "") == "not_due"
        held.handler = "success"
        assert store.apply([STATUS.finish_handler(held)]).done == {job_id: ""}
        assert store.load(job_id).is_settled
        assert store.claim_job(job_id, "@success", LEASE, "") == "done"

    def test_a_handler_is_claimed_like_a_task(self, store, start):
        """A due handler's claim has a new token, counts its attempts and carries the result."""
        job_id = start(plan='["only"]', payload='"given"')
        succeed(store, claim(store, job_id, "only"), '"made"', handler="success", keep=False)

        handler = claim(store, job_id, "@success")

        assert (handler.handler, handler.handler_attempts, handler.token) == ("success", 1, 2)
        assert (handler.payload, handler.job_payload) == ('"made"', '"given"')
        assert store.claim_job(job_id, "@error", LEASE, "") == "done"
        assert store.load(job_id).status == "SUCCESSFUL"

    def test_a_handler_that_raised_is_due_again_later(self, store, start, pass_time):
        """A handler's retry waits its delay; its failure is not the job's."""
        job_id = start()
        fail(store, claim(store, job_id), None, handler="error")
        handler = claim(store, job_id, "@error")

        store.apply([STATUS.retry_handler(handler, failed(LATER, OSError("down")))])

        assert store.claim_job(job_id, "@error", LEASE, "") == "not_due"
        pass_time(LATER + 1)
        again = claim(store, job_id, "@error")
        assert (again.handler_attempts, again.token) == (2, 3)
        assert store.failure(job_id)["exception_class"] == "builtins.ValueError"
        store.apply([STATUS.finish_handler(again, result='{"alerted": true}')])
        job = store.load(job_id)
        assert (job.error_result, job.handler_error) == ({"alerted": True}, "")
        assert (job.status, job.is_settled) == ("FAILED", True)

    def test_an_old_claim_cannot_finish_a_handler(self, store, start, pass_time):
        """A handler whose lease ended can be claimed anew; its first holder writes nothing."""
        job_id = start()
        fail(store, claim(store, job_id), None, handler="error")
        old = claim(store, job_id, "@error")
        pass_time(LEASE + 1)
        claim(store, job_id, "@error")

        applied = store.apply([STATUS.finish_handler(old, result='"late"')])

        assert applied.lost == {job_id}
        assert store.load(job_id).error_result is None
        assert not store.load(job_id).is_settled

    # --- people's verbs

    def test_what_a_person_may_not_do_changes_nothing(self, store, start):
        """A verb that is refused raises out of `amend`, and the job is as it was."""
        job_id = start()
        store.amend(job_id, lambda snapshot: repairs.cancel(snapshot, PERSON))
        before = store.get(job_key(job_id))

        with pytest.raises(JobNotPausable):
            store.amend(job_id, lambda snapshot: repairs.pause(snapshot, PERSON))

        assert store.get(job_key(job_id)) == before

    def test_amend_returns_what_was_written(self, store, start):
        """`amend` returns the change that it wrote."""
        job_id = start()

        change = store.amend(job_id, lambda snapshot: repairs.pause(snapshot, PERSON))

        assert (change.verb, change.job_id) == ("pause", job_id)
        assert store.load(job_id).status == "PAUSED"
        store.amend(job_id, lambda snapshot: repairs.resume(snapshot, PERSON))
        assert claim(store, job_id).task_id == "first"

    def test_a_decision_sees_results(self, store, start):
        """What `amend` computes from has the tasks' results, which a repair may set aside."""
        job_id = start(plan='["only"]')
        succeed(store, claim(store, job_id, "only"), VERBATIM)

        assert look(store, job_id).rows["only"].result == VERBATIM

    def test_retry_goes_on_from_the_failed_task(self, store, start):
        """A retried job keeps earlier results and stands before the failed task, its number rising."""
        job_id = start()
        held = claim(store, job_id)
        succeed(store, held, '"one"')
        fail(store, held, None, handler="error")

        store.amend(job_id, lambda snapshot: repairs.retry(snapshot, PERSON))

        job = store.load(job_id)
        assert (job.status, job.error, job.finished_at, job.handler_due) == ("READY", "", None, "")
        again = claim(store, job_id, "second")
        assert (again.attempt, again.spent, again.payload) == (2, 1, '"one"')

    def test_retry_from_a_task_sets_later_results_aside(self, store, start):
        """A job run again from a task stands there; later results are not its results any more."""
        job_id = start()
        held = claim(store, job_id)
        for n in range(3):
            succeed(store, held, str(n))

        store.amend(job_id, lambda snapshot: repairs.retry_from(snapshot, PERSON, "second"))

        assert store.results(job_id) == {"first": "0"}
        assert store.load(job_id).result is None
        again = claim(store, job_id, "second")
        assert (again.attempt, again.position, again.payload) == (2, 1, "0")
        assert store.failure(job_id) == {}

    def test_a_skipped_task_passes_on_the_result_it_was_given(self, store, start):
        """The task after a skipped one receives what the person gave as its result."""
        job_id = start()

        store.amend(
            job_id,
            lambda snapshot: repairs.skip(snapshot, PERSON, "first", '"by hand"', handler=""),
        )

        held = claim(store, job_id, "second")
        assert (held.position, held.payload) == (1, '"by hand"')
        assert store.results(job_id) == {"first": '"by hand"'}

    def test_a_payload_given_to_a_task_replaces_the_result_before_it(self, store, start):
        """A task row with a payload of its own is run with that."""
        job_id = start()
        held = claim(store, job_id)
        succeed(store, held, '"one"')
        fail(store, held, None)

        def give(snapshot: Snapshot) -> Change:
            change = repairs.retry(snapshot, PERSON)
            change.tasks[0].values["payload"] = '"another"'
            return change

        store.amend(job_id, give)

        assert claim(store, job_id, "second").payload == '"another"'

    # --- what is due, and ticks

    def test_due_names_carried_jobs_and_their_next_task(self, store, start):
        """Of the jobs asked for, those are due that are carried and may begin now."""
        job_id, later = start(carried=True), start(carried=True, due=Moment(LATER))
        not_carried, running = start(), start(carried=True)
        claim(store, running)
        asked = [job_id, later, not_carried, running, uuid4()]

        (due,) = store.due(asked)
        assert (due.job_id, due.sequence) == (job_id, "contract")
        assert (due.task_id, due.payload) == ("first", '{"order": 7}')

        succeed(store, claim(store, job_id), '"next"', keep=False)
        (due,) = store.due([job_id])
        assert (due.task_id, due.payload) == ("second", '"next"')

    def test_due_names_handlers(self, store, start, pass_time):
        """A carried job's handler is due under a task id of its own, until it is through."""
        job_id = start(carried=True, plan='["only"]')
        held = claim(store, job_id, "only")
        succeed(store, held, '"made"', handler="success", keep=False)

        (due,) = store.due([job_id])
        assert (due.task_id, due.payload) == ("@success", '"made"')

        store.apply([STATUS.finish_handler(claim(store, job_id, "@success"))])
        assert store.due([job_id]) == []

    def test_a_waiting_carried_job_is_due_in_time(self, store, start, pass_time):
        """A carried job that waits is due when its time has come."""
        job_id = start(carried=True, due=Moment(LATER))
        pass_time(LATER + 1)

        assert [due.task_id for due in store.due([job_id])] == ["first"]

    def test_a_tick_reads_requests_and_losses(self, store, start):
        """A tick tells what is requested of each job still held, and which are lost."""
        plain, asked, lost = (claim(store, start()) for _ in range(3))
        store.amend(asked.job_id, lambda snapshot: repairs.pause(snapshot, PERSON))
        store.apply([STATUS.release(lost)])
        claim(store, lost.job_id)
        held = [Held(one.job_id, one.token) for one in (plain, asked, lost)]

        tick = store.tick([*held, Held(uuid4(), 1)], LEASE)

        assert tick.requested == {plain.job_id: "", asked.job_id: "pause"}
        assert lost.job_id in tick.lost
        assert len(tick.lost) == 2

    def test_a_tick_tells_that_a_job_was_ended(self, store, start):
        """A job that was ended by force is lost to its holder, the token being the same."""
        held = claim(store, start())
        store.amend(held.job_id, lambda snapshot: repairs.cancel(snapshot, PERSON, force=True))

        assert store.tick([Held(held.job_id, held.token)], LEASE).lost == {held.job_id}

    def test_a_tick_renews_leases_in_time(self, store, start, pass_time):
        """A lease is renewed when a third of it has passed, not before, and also when it has ended."""
        held = claim(store, start())
        for passed, left in ((10, LEASE - 10), (15, LEASE), (LEASE + 5, LEASE)):
            pass_time(passed)
            store.tick([Held(held.job_id, held.token)], LEASE)
            assert look(store, held.job_id).lease_left == pytest.approx(left, abs=1)

    def test_a_tick_renews_the_lease_of_a_handler(self, store, start, pass_time):
        """A handler that runs long keeps its job."""
        job_id = start()
        fail(store, claim(store, job_id), None, handler="error")
        handler = claim(store, job_id, "@error")
        pass_time(LEASE / 2)

        tick = store.tick([Held(job_id, handler.token)], LEASE)

        assert tick.requested == {job_id: ""}
        pass_time(LEASE / 2 + 1)
        assert store.claim_job(job_id, "@error", LEASE, "") == "not_due"

    def test_a_tick_of_nothing_is_nothing(self, store):
        """A worker with nothing in hand ticks as well."""
        tick = store.tick([], LEASE)

        assert (tick.requested, tick.lost) == ({}, set())

    # --- a store with claims

    def test_the_most_urgent_jobs_are_claimed_first(self, store, start):
        """Claims go by priority, then by due time; no more than the limit, none that is carried."""
        if not has_claims(store, "claim", [], 1, LEASE, None):
            return
        low, high = start(priority=-1), start(priority=50)
        early = start(due=Moment(-LATER))
        start(carried=True, priority=99)
        start(due=Moment(LATER), priority=99)

        claims = store.claim([], 3, LEASE, None)

        assert [one.job_id for one in claims] == [high, early, low]
        assert {one.token for one in claims} == {1}
        assert store.claim([], 10, LEASE, None) == []

    def test_queues_are_served_in_the_order_given(self, store, start):
        """A claim from named queues takes all of the first before any of the second, no others."""
        if not has_claims(store, "claim", ["mail"], 1, LEASE, None):
            return
        slow, mail = start(queue="slow", priority=90), start(queue="mail")
        start(queue="other", priority=99)
        more = start(queue="mail", priority=-3)

        claims = store.claim(["mail", "slow"], 10, LEASE, None)

        assert [one.job_id for one in claims] == [mail, more, slow]
        assert store.claim(["mail", "slow"], 0, LEASE, None) == []

    def test_a_claim_stops_at_the_weight_it_may_take(self, store, start):
        """Once the payloads come to the bound no further job is taken, of no queue; the first always."""
        if not has_claims(store, "claim", [], 1, LEASE, None):
            return
        heavy = json.dumps("é" * 50, ensure_ascii=False)
        mail = [start(queue="mail", payload=heavy) for _ in range(4)]
        slow = [start(queue="slow", payload=text) for text in (None, heavy)]
        weight = len(heavy.encode())

        def claimed(most_bytes: int) -> list[UUID]:
            claims = store.claim(["mail", "slow"], 10, LEASE, None, most_bytes)
            return [one.job_id for one in claims]

        assert claimed(2 * weight) == mail[:2]
        assert claimed(0) == mail[2:3]
        assert claimed(weight + 1) == [mail[3], *slow]
        assert claimed(10 * weight) == []

    def test_a_claimed_job_stands_where_it_was_left(self, store, start):
        """A batch claim gives each job's next task, payload and row, as a claim of one job does."""
        if not has_claims(store, "claim", [], 1, LEASE, None):
            return
        job_id = start()
        held = claim(store, job_id)
        succeed(store, held, VERBATIM)
        store.apply([STATUS.release(held, Report(cursor="4"))])

        (again,) = store.claim([], 10, LEASE, None)

        assert (again.task_id, again.payload, again.token) == ("second", VERBATIM, 2)
        assert again.row is not None
        assert again.row.cursor == "4"

    def test_handlers_are_claimed_when_due_and_free(self, store, start, pass_time):
        """Final jobs with a handler due are claimed once, by queue, and again when the lease has ended."""
        if not has_claims(store, "claim_handlers", [], 1, LEASE, None):
            return
        job_id, carried = start(queue="mail"), start(carried=True)
        for one in (job_id, carried):
            fail(store, claim(store, one), None, handler="error")

        assert store.claim_handlers(["other"], 10, LEASE, None) == []
        (handler,) = store.claim_handlers(["mail"], 10, LEASE, None)
        assert (handler.job_id, handler.handler, handler.handler_attempts) == (job_id, "error", 1)
        assert store.claim_handlers([], 10, LEASE, None) == []
        assert store.claim([], 10, LEASE, None) == []
        pass_time(LEASE + 1)
        assert [one.handler_attempts for one in store.claim_handlers([], 10, LEASE, None)] == [2]

    def test_waiting_jobs_are_promoted_when_due(self, store, start, pass_time):
        """`promote` makes due jobs READY and returns those that are carried; others go on waiting."""
        if not has_claims(store, "promote"):
            return
        plain, carried = start(due=Moment(50)), start(due=Moment(50), carried=True)
        later = start(due=Moment(500))
        assert store.promote() == []
        pass_time(60)

        assert store.promote() == [carried]

        statuses = [store.load(one).status for one in (plain, carried, later)]
        assert statuses == ["READY", "READY", "WAITING"]
        assert [one.job_id for one in store.claim([], 10, LEASE, None)] == [plain]

    def test_jobs_of_a_dead_worker_are_rescued(self, store, start, pass_time):
        """A job whose lease has ended is decided upon, with its worker's name; a held one is not."""
        if not has_claims(store, "rescue", lose):
            return
        worker = store.enter(WorkerInfo("w1", "host", 1, (), 4))
        job_id = start()
        (held,) = store.claim([], 10, LEASE, worker)
        store.beat(worker, draining=False)
        assert store.rescue(lose) == []
        pass_time(LEASE + 1)
        fresh = claim(store, start())
        seen: list[Snapshot] = []

        def decide(snapshot: Snapshot) -> Change:
            seen.append(snapshot)
            return lose(snapshot)

        (change,) = store.rescue(decide)

        assert (change.job_id, change.verb) == (job_id, "rescue")
        assert seen[0].worker_name == "w1"
        assert seen[0].worker_seen == pytest.approx(LEASE + 1, abs=2)
        assert look(store, fresh.job_id).status == "RUNNING"
        snapshot = look(store, job_id)
        assert (snapshot.status, snapshot.suspect, snapshot.lease_left) == ("READY", True, None)
        assert succeed(store, held).lost == {job_id}

    def test_a_rescued_job_is_a_suspect_until_its_checkpoint(self, store, start, pass_time):
        """The next claim of a rescued job is a suspect's, whose first checkpoint clears it."""
        if not has_claims(store, "rescue", lose):
            return
        job_id = start()
        held = claim(store, job_id)
        store.apply([STATUS.start_task(held, Report(started=1))], "w1")
        pass_time(LEASE + 1)
        store.rescue(lose)

        (again,) = store.claim([], 10, LEASE, None)

        assert again.suspect
        assert (again.attempt, again.spent) == (2, 1)
        assert store.failure(job_id)["task_id"] == "first"
        assert list(store.failure(job_id)["exception_bases"] or []) == []
        succeed(store, again, "1")
        assert not look(store, job_id).suspect

    def test_a_worker_that_ends_in_order_needs_no_rescue(self, store):
        """A worker enters, beats and leaves; what is unknown is no error."""
        worker = store.enter(WorkerInfo("w1", "host", 1, ("mail",), 4))
        store.beat(worker, draining=True)
        store.leave(worker)
        store.beat(None, draining=False)
        store.leave(None)

        assert (worker is not None) == store.supports_claims

    def test_carried_jobs_that_nobody_began_are_swept(self, store, start, pass_time):
        """A carried job is announced again after its time, then after twice that; a begun one is not."""
        if not has_claims(store, "sweep", 60):
            return
        silent, begun = start(carried=True, resend_after=60), start(carried=True, resend_after=60)
        start(carried=True)
        claim(store, begun)
        assert store.sweep(60) == []
        swept = []
        for _ in range(3):
            pass_time(61)
            swept.append(store.sweep(60))
        assert swept == [[silent], [], [silent]]

    def test_a_look_tells_what_there_is_to_do(self, store, start, pass_time):
        """`look` tells each kind of work that is due, for the queues of a worker, and nothing else."""
        if not has_claims(store, "look", []):
            return

        def seen(*queues: str) -> set[str]:
            outlook = store.look(queues)
            found = {kind for kind in KINDS_OF_WORK if getattr(outlook, kind)}
            assert outlook.is_empty == (not found)
            return found

        start(due=Moment(LATER))
        assert seen() == set()
        start(queue="mail")
        assert (seen(), seen("mail"), seen("other")) == ({"ready"}, {"ready"}, set())
        (held,) = store.claim([], 10, LEASE, None)
        start(carried=True, resend_after=50)
        assert seen() == set()
        pass_time(LEASE - 1)
        assert seen("other") == {"resend"}
        fail(store, held, None, handler="error")
        claim(store, start(), lease=10)
        assert (seen("mail"), seen("other")) == ({"handlers", "resend"}, {"resend"})
        pass_time(LATER)
        assert seen("other") == {"waiting", "expired", "resend"}

    def test_next_due_looks_at_waiting_jobs_and_handlers(self, store, start):
        """`next_due` is the time until the first of them; None when nothing waits."""
        if not has_claims(store, "next_due"):
            return
        start()
        assert store.next_due() is None
        start(due=Moment(300))
        assert store.next_due() == pytest.approx(300, abs=2)
        job_id = start()
        fail(store, claim(store, job_id), None, handler="error")
        handler = claim(store, job_id, "@error")
        store.apply([STATUS.retry_handler(handler, failed(20))])
        assert store.next_due() == pytest.approx(20, abs=2)
