"""S15: names go to the database as values, whatever they hold."""

from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from django_tasks_seq import executor
from django_tasks_seq.cache.model.notifying import CHANNEL, LOCK
from django_tasks_seq.models import Job, TaskStatus, Worker
from django_tasks_seq.testing import drain
from tests.admin.conftest import list_url, page_url
from tests.database.conftest import Declare
from tests.database.working import same
from tests.factories import WorkerFactory

pytestmark = pytest.mark.django_db

NAMES = [
    "o'brien",
    'quo"ted',
    "semi;colon",
    "'; DROP TABLE django_tasks_seq_job; --",
    "back\\slash",
    "per%cent %s %(x)s",
    "under_score",
    "$1 $$ ${x} {x}",
    "/* comment */",
    "emoji 🙂 ünïcode",
    "n" * 200,
    "NULL",
    "default",
]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name[:20])
def test_a_name_lives_a_jobs_life(declare: Declare, admin_client: Client, name: str) -> None:
    """As sequence, task, key, subject and queue: started, claimed, run, retried, shown and pruned."""
    queue = name[:100]

    def fails_once(payload: Any, context: Any) -> Any:
        if context.attempt == 1:
            raise ValueError(name)
        return payload

    declare((name.replace(":", ""), fails_once), (f"{name[:190]} 2", same), name=name)
    job = executor.start_sequence(name, name, queue=queue, idempotency_key=name, created_by=name)
    assert executor.start_sequence(name, name, idempotency_key=name).pk == job.pk
    drain(queues=[queue])
    assert job.refresh().status == "FAILED"
    executor.pause(executor.retry(job, by=name, reason=name))
    executor.resume(job, by=name)
    drain(queues=[queue, "another"])

    assert job.refresh().result == name
    assert (job.sequence, job.queue, job.idempotency_key) == (name, queue, name)
    assert [row.task_id for row in TaskStatus.objects.order_by("position")] == job.plan
    WorkerFactory.create(name=name, queues=queue)
    for key in ("q", "sequence", "queue"):
        html = admin_client.get(list_url(), {key: name if key != "queue" else queue})
        assert page_url(job) in html.content.decode(), key
    assert admin_client.get(page_url(job)).status_code == 200
    assert Worker.objects.count() == 1


@pytest.mark.parametrize("order", ["1;DROP", "-1.2.3", "id", "'", "99", "--1", "1,2"])
def test_the_order_of_a_list_is_no_sql(admin_client: Client, order: str) -> None:
    """Columns are chosen by number, and ours cannot be sorted at all."""
    with CaptureQueriesContext(connection) as queries:
        admin_client.get(list_url(), {"o": order})

    assert not [one for one in queries if "DROP" in one["sql"]]


def test_no_value_stands_in_the_text_of_a_statement(declare: Declare, monkeypatch: Any) -> None:
    """Of a whole life of a job no statement of ours holds a name in its text: all are parameters."""
    name = "zzz'needle"
    declare((name, same), (f"{name} 2", same), name=name, success_handler=lambda result: None)
    texts: list[str] = []

    def note(execute: Any, sql: Any, params: Any, many: bool, context: Any) -> Any:
        texts.append(str(sql))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        job = executor.start_sequence(name, name, queue=name, idempotency_key=name, created_by=name)
        executor.start_many(
            name, [name, name], queue=name, idempotency_keys=[f"{name}1", f"{name}2"]
        )
        executor.pause(job, by=name, reason=name)
        executor.resume(job, by=name)
        drain(queues=[name])
        executor.retry(job, from_task=name, by=name)
        drain()

    assert Job.objects.filter(status="SUCCESSFUL").count() == 3
    assert len(texts) > 20
    assert not [text for text in texts if "needle" in text]


def test_the_channel_is_a_constant() -> None:
    """LISTEN takes no parameter: its channel has no letter that would need quoting, and no user's name."""
    assert CHANNEL.isascii()
    assert CHANNEL.replace("_", "").isalpha()
    assert isinstance(LOCK, int)
