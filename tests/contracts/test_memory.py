"""The contract of stores, kept by the one in memory; and what is its own."""

import threading
from uuid import UUID

import pytest

from django_tasks_seq import repairs
from django_tasks_seq.cache import InMemoryTaskCacheHandler, job_key
from django_tasks_seq.cache.base import BaseJobStore
from django_tasks_seq.cache.rendering import HISTORY
from tests.contracts.store_contract import (
    LEASE,
    PERSON,
    JobStoreContract,
    claim,
    fail,
    new_job,
)
from tests.helpers import InThread


class TestInMemory(JobStoreContract):
    def make_store(self) -> BaseJobStore:
        store = InMemoryTaskCacheHandler("contract")
        store.clear()
        return store


@pytest.fixture
def store() -> InMemoryTaskCacheHandler:
    store = InMemoryTaskCacheHandler("test_memory")
    store.clear()
    return store


def test_handlers_of_one_name_share_their_jobs(store):
    """Jobs are shared by all handlers of one name in the process, and by no other."""
    job = new_job()
    store.add([job])

    assert InMemoryTaskCacheHandler("test_memory").load(job.id) == store.load(job.id)
    assert InMemoryTaskCacheHandler("elsewhere").get(job_key(job.id)) is None
    assert repr(store) == "<InMemoryTaskCacheHandler 'test_memory': 1 documents>"


def test_any_document_can_be_kept(store):
    """Documents under other keys than a job's are kept as well, and are copies both ways."""
    given = {"list": [1, {"deep": True}]}
    store.set("greeting", given)
    given["list"].append(2)
    got = store.get("greeting")
    got["list"].clear()

    assert store.get("greeting") == {"list": [1, {"deep": True}]}
    store.delete("greeting")
    assert store.get("greeting") is None


def test_what_was_got_is_a_copy(store):
    """Changing a document that was got changes no job."""
    job = new_job()
    store.add([job])
    store.get(job_key(job.id))["status"] = "FAILED"

    assert store.load(job.id).status == "READY"


def test_clear_forgets_all_jobs(store):
    """After `clear` there is nothing to claim and no key that is taken."""
    job = new_job(idempotency_key="k")
    store.add([job])

    store.clear()

    assert store.claim([], 10, LEASE, None) == []
    (again,) = store.add([new_job(idempotency_key="k")])
    assert again.was_started


def test_settled_jobs_are_not_searched(store):
    """A job on which nothing is to be done any more leaves the list that claims are looked for in."""
    done, handled = new_job(), new_job()
    store.add([done, handled])
    fail(store, claim(store, done.id), None)
    fail(store, claim(store, handled.id), None, handler="error")

    assert list(store._space.unsettled) == [job_key(handled.id)]


def test_threads_claim_each_job_once(store):
    """Eight threads that claim from one store get every job exactly once."""
    jobs = [new_job() for _ in range(200)]
    store.add(jobs)
    together = threading.Barrier(8)

    def claim_all() -> list[UUID]:
        together.wait()
        claimed = []
        while batch := store.claim([], 3, LEASE, None):
            claimed += [one.job_id for one in batch]
        return claimed

    threads = [InThread(claim_all) for _ in range(8)]
    claimed = [job_id for thread in threads for job_id in thread.result()]

    assert sorted(claimed) == sorted(job.id for job in jobs)


def test_a_long_history_is_cut_at_its_beginning(store):
    """Only the last events of a job are kept in its document."""
    job = new_job()
    store.add([job])
    for n in range(HISTORY + 5):
        verb = repairs.resume if n % 2 else repairs.pause
        store.amend(job.id, lambda snapshot, verb=verb: verb(snapshot, PERSON))

    events = store.get(job_key(job.id))["events"]
    assert len(events) == HISTORY
    assert events[-1]["kind"] == "pause"
    assert (events[-1]["by"], events[-1]["status_after"]) == ("ada", "PAUSED")
    assert events[0]["created_at"] <= events[-1]["created_at"]
