"""The contract of stores, kept by what wraps a third party's `get`, `set` and `delete`."""

import json
import threading
from typing import Any

import pytest

from django_tasks_seq import repairs
from django_tasks_seq.cache import (
    BaseTaskCacheHandler,
    DocumentJobStore,
    InMemoryTaskCacheHandler,
    JobRecord,
    as_store,
    job_key,
    task_key,
)
from django_tasks_seq.cache.base import BaseJobStore
from django_tasks_seq.cache.changes import Change, Claim, Snapshot
from django_tasks_seq.exceptions import InvalidTransition, JobNotFound, StoreNotSupported
from tests.contracts.store_contract import (
    LEASE,
    PERSON,
    REPORT,
    STATUS,
    JobStoreContract,
    claim,
    fail,
    look,
    new_job,
    succeed,
)
from tests.helpers import InThread


class DictCacheHandler(BaseTaskCacheHandler):
    """The handler of the base class's docstring: it hands out the very documents that it keeps."""

    def __init__(self) -> None:
        self.documents: dict[str, dict[str, Any]] = {}

    def get(self, key: str) -> dict[str, Any] | None:
        return self.documents.get(key)

    def set(self, key: str, value: dict[str, Any]) -> None:
        self.documents[key] = value

    def delete(self, key: str) -> None:
        self.documents.pop(key, None)


class TextCacheHandler(BaseTaskCacheHandler):
    """Keeps documents as a server would: as text that sorts keys and has one kind of number."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}
        self.sets_left: int | None = None

    def get(self, key: str) -> dict[str, Any] | None:
        text = self.texts.get(key)
        return None if text is None else json.loads(text, parse_float=lambda text: int(float(text)))

    def set(self, key: str, value: dict[str, Any]) -> None:
        if self.sets_left is not None:
            if not self.sets_left:
                raise ConnectionError("the server is gone")
            self.sets_left -= 1
        self.texts[key] = json.dumps(value, sort_keys=True, allow_nan=False)

    def delete(self, key: str) -> None:
        self.texts.pop(key, None)


class TestDict(JobStoreContract):
    def make_store(self) -> BaseJobStore:
        return as_store(DictCacheHandler())


class TestText(JobStoreContract):
    def make_store(self) -> BaseJobStore:
        return as_store(TextCacheHandler())


@pytest.fixture
def handler() -> TextCacheHandler:
    return TextCacheHandler()


@pytest.fixture
def store(handler: TextCacheHandler) -> DocumentJobStore:
    return DocumentJobStore(handler)


def test_a_store_is_left_as_it_is(handler):
    """`as_store` wraps a handler of three methods and returns a store as it is."""
    memory = InMemoryTaskCacheHandler("as_store")

    assert as_store(memory) is memory
    assert repr(as_store(handler)) == "<DocumentJobStore over TextCacheHandler>"


def test_three_methods_are_no_claims(store):
    """Workers cannot claim from a wrapped handler, nor can a task commit together with its outcome."""
    assert not store.supports_claims
    assert not store.supports_atomic_tasks
    job = new_job()
    store.add([job])
    held = claim(store, job.id)
    with pytest.raises(StoreNotSupported, match="DocumentJobStore cannot"):
        store.apply_inside(STATUS.release(held), "consumer")


def test_keys_are_those_of_the_contract(store, handler):
    """A job, its task statuses and its idempotency key have the documented keys."""
    job = new_job(idempotency_key="k")
    store.add([job])
    succeed(store, claim(store, job.id))

    assert sorted(handler.texts) == sorted(
        [job_key(job.id), task_key(job.id, "first"), "idempotency:contract:k"]
    )


def start_and_go(store: DocumentJobStore, tasks: int = 1) -> Claim:
    """A claimed job of *tasks* tasks."""
    job = new_job(plan=json.dumps([str(n) for n in range(tasks)]))
    store.add([job])
    return claim(store, job.id, "0")


@pytest.mark.parametrize("sets", [0, 1, 2])
def test_a_crash_while_a_job_ends_leaves_it_ended_or_not(store, handler, sets):
    """Whichever `set` is the last that arrives, a job is at its end with its result, or not at all."""
    held = start_and_go(store)
    write = STATUS.complete_task(held, '"made"', REPORT, handler="success", keep=False)
    handler.sets_left = sets
    with pytest.raises(ConnectionError):
        store.apply([write], "consumer")
    handler.sets_left = None

    before = sets == 0
    job, snapshot = store.load(held.job_id), look(store, held.job_id)
    assert job.status == ("RUNNING" if before else "SUCCESSFUL")
    assert store.results(held.job_id) == ({} if before else {"0": '"made"'})
    assert snapshot.next_position == (0 if before else 1)
    if before:
        store.apply([write], "consumer")
    assert claim(store, held.job_id, "@success").payload == '"made"'
    assert json.loads(handler.texts[task_key(held.job_id, "0")])["status"] == "SUCCESSFUL"
    assert "unwritten" not in handler.get(job_key(held.job_id))


@pytest.mark.parametrize("sets", [0, 1, 2, 3, 4])
def test_a_crash_within_a_repair_leaves_it_done_or_not(store, handler, sets):
    """A repair of several tasks is there for readers from its first `set` on, whole."""
    held = start_and_go(store, tasks=3)
    for n in range(3):
        succeed(store, held, str(n))
    handler.sets_left = sets
    with pytest.raises(ConnectionError):
        store.amend(held.job_id, lambda job: repairs.retry_from(job, PERSON, "0"))
    handler.sets_left = None

    before = sets == 0
    assert store.results(held.job_id) == ({"0": "0", "1": "1", "2": "2"} if before else {})
    assert [task.status for task in store.load(held.job_id).task_statuses] == [
        "SUCCESSFUL" if before else "READY"
    ] * 3
    if not before:
        again = claim(store, held.job_id, "0")
        assert (again.attempt, again.payload) == (2, '{"order": 7}')
        succeed(store, again, '"again"')
        assert store.results(held.job_id) == {"0": '"again"'}
        assert look(store, held.job_id).next_position == 1


def test_a_checkpoint_after_a_crash_is_not_undone_by_what_the_crash_left(store, handler):
    """What a crash left unwritten is never written over what came after it."""
    held = start_and_go(store, tasks=2)
    handler.sets_left = 1
    with pytest.raises(ConnectionError):
        store.apply([STATUS.start_task(held, REPORT)], "consumer")
    handler.sets_left = None

    succeed(store, held, '"done"')

    assert store.results(held.job_id) == {"0": '"done"'}
    assert json.loads(handler.texts[task_key(held.job_id, "0")])["status"] == "SUCCESSFUL"
    assert "unwritten" not in handler.get(job_key(held.job_id))


def test_a_key_whose_job_was_never_written_is_free(store, handler):
    """A start that broke off between key and job does not take the key."""
    handler.sets_left = 1
    with pytest.raises(ConnectionError):
        store.add([new_job(idempotency_key="k")])
    handler.sets_left = None

    (job,) = store.add([new_job(idempotency_key="k")])

    assert job.was_started
    assert store.load(job.id).status == "READY"


def test_a_job_whose_consumer_is_gone_is_taken_over(store):
    """As nobody rescues, the next consumer may claim a running job whose lease has ended."""
    job = new_job()
    store.add([job])
    old = claim(store, job.id, lease=-1)

    new = claim(store, job.id)

    assert (new.token, new.suspect, new.attempt) == (2, True, 1)
    assert succeed(store, old, '"late"').lost == {job.id}
    succeed(store, new, '"mine"')
    assert store.results(job.id) == {"first": '"mine"'}
    assert not look(store, job.id).suspect


def test_a_lost_carried_job_is_due(store):
    """A carried job whose consumer is gone is due again, so that it can be announced."""
    job = new_job(carried=True)
    store.add([job])
    claim(store, job.id, lease=-1)

    assert [due.task_id for due in store.due([job.id])] == ["first"]


def test_threads_of_one_process_claim_a_job_once(store, handler):
    """Of eight threads that are called for one job at once, one gets it, through whichever wrapper."""
    job = new_job()
    store.add([job])
    together = threading.Barrier(8)

    def call() -> Claim | str:
        together.wait()
        return as_store(handler).claim_job(job.id, "first", LEASE, "consumer")

    threads = [InThread(call) for _ in range(8)]
    answers = [thread.result() for thread in threads]

    assert sorted(type(answer).__name__ for answer in answers) == ["Claim"] + ["str"] * 7
    assert look(store, job.id).token == 1


def test_a_decision_that_does_not_fit_is_refused(store):
    """A change over another status than the job's is refused, and says so."""
    job = new_job()
    store.add([job])

    def decide(snapshot: Snapshot) -> Change:
        return Change("resume", snapshot.job_id, None, ("PAUSED",), {"status": "READY"})

    with pytest.raises(InvalidTransition, match="is READY, which 'resume' does not allow"):
        store.amend(job.id, decide)


# --- records


def test_a_record_is_read_again(store):
    """`refresh` reads the job again and returns the record itself; was_started stays."""
    job = new_job()
    (record,) = store.add([job])
    record.was_started = False
    claim(store, job.id)

    assert record.status == "READY"
    assert record.refresh() is record
    assert (record.status, record.get_status_display()) == ("RUNNING", "Running")
    assert not record.was_started


async def _refreshed(record: JobRecord) -> JobRecord:
    return await record.arefresh()


def test_a_record_is_read_again_asynchronously(store):
    """`arefresh` is the async twin of `refresh`."""
    from asgiref.sync import async_to_sync

    job = new_job()
    (record,) = store.add([job])
    claim(store, job.id)

    assert async_to_sync(_refreshed)(record) is record
    assert record.status == "RUNNING"


def test_a_record_of_a_deleted_job_says_so(store):
    """`refresh` of a job that is gone raises JobNotFound."""
    job = new_job()
    (record,) = store.add([job])
    store.delete(job_key(job.id))

    with pytest.raises(JobNotFound):
        record.refresh()


def test_records_of_one_job_are_equal(store):
    """Records compare and hash by their job's id, as models do."""
    one, other = store.add([new_job(), new_job()])

    assert one == store.load(one.id)
    assert one != other
    assert one != one.id
    assert {one, store.load(one.id)} == {one}
    assert one.pk == one.id
    assert str(one) == f"contract {str(one.id)[:8]}"
    assert "payload" in repr(one)


def test_a_record_knows_its_tasks(store):
    """Task statuses of a record are those that have something to tell, in order, with values."""
    job = new_job()
    (record,) = store.add([job])
    assert record.task_statuses == []
    held = claim(store, job.id)
    succeed(store, held, '{"total": 1e16}')
    fail(store, held, None, handler="error")

    first, second = record.task_statuses

    assert (first.task_id, first.position, first.status, first.result) == (
        "first",
        0,
        "SUCCESSFUL",
        {"total": 1e16},
    )
    assert (second.status, second.error, second.attempts) == ("FAILED", "ValueError: no stock", 1)
    assert second.get_status_display() == "Failed"
    assert first.started_at < first.finished_at
    assert first.worker_name == "consumer"
    assert record.task_results() == {"first": {"total": 1e16}}
    record.refresh()
    assert (record.is_final, record.is_settled) == (True, False)
