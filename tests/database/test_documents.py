"""`get`, `set` and `delete` of the model store: rows as documents, statuses guarded."""

import json
from typing import Any

import pytest

from django_tasks_seq import InvalidPayload, InvalidTransition, JobNotFound, executor
from django_tasks_seq.cache import ModelTaskCacheHandler
from django_tasks_seq.ids import uuid7
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, same, statuses

pytestmark = pytest.mark.django_db


@pytest.fixture
def store() -> ModelTaskCacheHandler:
    return ModelTaskCacheHandler()


def get(store: ModelTaskCacheHandler, key: str) -> dict[str, Any]:
    document = store.get(key)
    assert document is not None
    return document


def test_a_document_is_plain_json(declare: Declare, store: ModelTaskCacheHandler) -> None:
    """All columns of a job and of a task status are there, as JSON data."""
    declare(same)
    job = executor.start_sequence("probe", {"n": 1.0})
    drain()

    document, task = get(store, f"job:{job.id}"), get(store, f"job:{job.id}:t1")
    assert json.loads(json.dumps([document, task])) == [document, task]
    assert document["id"] == str(job.id)
    assert (document["status"], document["payload"], document["result"]) == (
        "SUCCESSFUL",
        {"n": 1.0},
        {"n": 1.0},
    )
    assert (task["task_id"], task["status"], task["attempts"]) == ("t1", "SUCCESSFUL", 1)
    assert document["created_at"].endswith("+00:00")


@pytest.mark.parametrize("key", ["", "job", "job:7", "task:7", f"jobs:{uuid7()}"])
def test_nothing_is_behind_a_key_of_another_form(store: ModelTaskCacheHandler, key: str) -> None:
    """It has no document, as with any handler; what would write says what a key looks like."""
    assert store.get(key) is None
    for write in (store.delete, lambda key: store.set(key, {})):
        with pytest.raises(ValueError, match="expected job:<uuid> or job:<uuid>:<task_id>"):
            write(key)


@pytest.mark.parametrize("status", ["PAUSED", "CANCELLED"])
def test_a_status_can_be_set_as_the_table_allows(
    declare: Declare, store: ModelTaskCacheHandler, status: str
) -> None:
    """What goes with the status is written as well, so that the row is as the engine leaves it."""
    declare(same)
    job = executor.start_sequence("probe")

    store.set(f"job:{job.id}", {"status": status})

    assert job.refresh().status == status
    assert (job.finished_at is not None) is job.is_final
    assert drain() == 0


def test_a_job_can_be_set_going_again(
    declare: Declare, store: ModelTaskCacheHandler, inbox: Inbox
) -> None:
    """A carried job that is set READY is swept like any that is due."""
    declare(same)
    job = executor.start_sequence("probe")
    executor.cancel(job)
    store.set(f"job:{job.id}", {"status": "READY"})
    inbox.messages.clear()
    assert job.refresh().finished_at is None
    advance(61)
    drain()

    assert inbox.tasks[-1] == "t1"
    assert executor.execute_task(job, "t1").outcome == "SUCCESSFUL"


@pytest.mark.parametrize("status", ["FAILED", "RUNNING", "DONE"])
def test_a_status_that_the_table_forbids_changes_nothing(
    declare: Declare, store: ModelTaskCacheHandler, unchanged: Any, status: str
) -> None:
    """A READY job cannot be set to what only its tasks or a claim lead to."""
    declare(same)
    job = executor.start_sequence("probe")

    with unchanged(job), pytest.raises(InvalidTransition, match=f"READY cannot become {status}"):
        store.set(f"job:{job.id}", {"status": status, "error": "odd"})


def test_identity_plan_and_claim_are_not_set(
    declare: Declare, store: ModelTaskCacheHandler, unchanged: Any
) -> None:
    """A document may change what the engine writes, never who a job is or who holds it."""
    declare(same)
    job = executor.start_sequence("probe")

    with unchanged(job):
        store.set(
            f"job:{job.id}",
            {"sequence": "other", "plan": ["x"], "claim_token": 9, "payload": 1, "version": 8},
        )


def test_a_tasks_status_is_guarded_as_well(
    declare: Declare, store: ModelTaskCacheHandler, unchanged: Any
) -> None:
    """A task that succeeded does not become FAILED by a document."""
    declare(same, Failing())
    job = executor.start_sequence("probe")
    drain()

    with unchanged(job), pytest.raises(InvalidTransition, match="SUCCESSFUL cannot become FAILED"):
        store.set(f"job:{job.id}:t1", {"status": "FAILED"})
    store.set(f"job:{job.id}:t2", {"status": "SKIPPED", "result": {"given": 1}})
    assert statuses(job) == {"t1": "SUCCESSFUL", "t2": "SKIPPED"}
    assert job.task_results()["t2"] == {"given": 1}


def test_values_obey_the_rules_of_payloads(
    declare: Declare, store: ModelTaskCacheHandler, unchanged: Any
) -> None:
    """A result that is no JSON is refused with its path."""
    declare(same)
    job = executor.start_sequence("probe")

    with unchanged(job), pytest.raises(InvalidPayload) as refused:
        store.set(f"job:{job.id}", {"result": {"x": float("nan")}})
    assert refused.value.path == "result['x']"


def test_a_task_of_no_job_is_refused(store: ModelTaskCacheHandler) -> None:
    """A task status cannot be set without its job."""
    with pytest.raises(JobNotFound):
        store.set(f"job:{uuid7()}:t1", {"status": "READY"})


def test_a_job_can_be_carried_over(declare: Declare, store: ModelTaskCacheHandler) -> None:
    """The document of a deleted job makes it again, and it runs."""
    declare(same)
    job = executor.start_sequence("probe", {"n": 1})
    document = get(store, f"job:{job.id}")
    store.delete(f"job:{job.id}")
    document.pop("rank")

    store.set(f"job:{job.id}", document)
    drain()

    assert job.refresh().result == {"n": 1}


def test_delete_takes_all_rows_of_a_job(declare: Declare, store: ModelTaskCacheHandler) -> None:
    """Task statuses, attempts and events go with their job; a task's row goes alone."""
    declare(same, Failing())
    job, other = executor.start_many("probe", [1, 2])
    drain()
    executor.retry(job)

    store.delete(f"job:{job.id}:t1")
    assert statuses(job) == {"t2": "READY"}
    store.delete(f"job:{job.id}")

    assert list(Job.objects.all()) == [other]
    for model in (TaskStatus, TaskAttempt, JobEvent):
        assert not model.objects.filter(job_id=job.id).exists()
    assert TaskStatus.objects.filter(job_id=other.id).count() == 2
