import re

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.factories import JobFactory, WorkerFactory

pytestmark = pytest.mark.django_db

URL = "/admin/django_tasks_seq/worker/"


def cells(client, name: str, query: str = "") -> list[str]:
    html = client.get(f"{URL}?{query}").content.decode()
    found = re.findall(rf'<t[dh] class="field-{name}">(.*?)</t[dh]>', html, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", " ", one).split()) for one in found]


@pytest.mark.parametrize(
    ("traits", "text"),
    [
        ({}, "✓ Alive"),
        ({"draining_now": True}, "‖ Draining"),
        ({"dead": True}, "✗ Dead"),
        ({"stopped": True}, "⊘ Stopped"),
        ({"stopped": True, "draining_now": True}, "⊘ Stopped"),
        ({"dead": True, "draining_now": True}, "✗ Dead"),
    ],
)
def test_the_state_of_a_worker_is_told(admin_client, traits, text):
    """A worker is alive, draining, dead when it was not seen for a while, or stopped."""
    WorkerFactory.create(**traits)

    assert cells(admin_client, "state_column") == [text]


def test_a_worker_shows_its_queues_and_when_it_was_seen(admin_client):
    """Queues are listed, none means all; the heartbeat and the start are told as ages."""
    WorkerFactory.create(queues="mail,default", name="web-1:1", concurrency=1)
    WorkerFactory.create(queues="", name="web-1:2")

    assert sorted(cells(admin_client, "queues_column")) == ["all", "mail, default"]
    assert set(cells(admin_client, "worker_column")) == {"web-1:1 1 thread", "web-1:2 4 threads"}
    assert all(
        re.fullmatch(r"(now|\d s ago) started 2 hours ago", one)
        for one in cells(admin_client, "seen_column")
    )


def test_a_worker_shows_how_many_jobs_it_holds(admin_client):
    """The number of jobs in hand leads to their list; a job that is over is in no hand."""
    worker, idle = WorkerFactory.create(name="busy"), WorkerFactory.create(name="idle")
    JobFactory.create_batch(3, running=True, worker=worker)
    JobFactory.create(successful=True, worker=idle)
    html = admin_client.get(URL).content.decode()

    held = dict(
        zip(cells(admin_client, "worker_column"), cells(admin_client, "jobs_column"), strict=True)
    )
    assert held == {"busy 4 threads": "3 jobs", "idle 4 threads": "—"}
    assert f'{reverse("admin:django_tasks_seq_job_changelist")}?worker={worker.pk}"' in html


def test_the_number_of_queries_does_not_grow_with_workers(admin_client):
    """2 and 40 workers take the same queries."""
    counts = []
    for number in (2, 38):
        for _ in range(number):
            JobFactory.create(running=True)
        with CaptureQueriesContext(connection) as queries:
            admin_client.get(URL)
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 8


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", {"a", "d", "s"}),
        ("state=alive", {"a"}),
        ("state=dead", {"d"}),
        ("state=stopped", {"s"}),
        ("state=nonsense", {"a", "d", "s"}),
        ("q=d", {"d"}),
    ],
)
def test_workers_are_filtered_by_state(admin_client, query, names):
    """The filter tells living workers from dead and stopped ones."""
    WorkerFactory.create(name="a")
    WorkerFactory.create(name="d", dead=True)
    WorkerFactory.create(name="s", stopped=True)

    assert {one.split()[0] for one in cells(admin_client, "worker_column", query)} == names


@pytest.mark.parametrize("where", ["add", "delete", "change"])
def test_nobody_changes_a_worker(admin_client, where):
    """A worker's row is written by the worker alone; its page is read-only."""
    worker = WorkerFactory.create()
    args = [] if where == "add" else [worker.pk]
    url = reverse(f"admin:django_tasks_seq_worker_{where}", args=args)

    assert admin_client.post(url, {"name": "x", "post": "yes"}).status_code == 403
    worker.refresh_from_db()
    assert worker.name != "x"
    page = admin_client.get(reverse("admin:django_tasks_seq_worker_change", args=[worker.pk]))
    assert worker.name in page.content.decode()
    assert b'<input type="submit"' not in page.content


def test_workers_need_their_own_permission(client_for):
    """Who may see jobs may not see workers without the right to."""
    WorkerFactory.create()

    assert client_for("view_job").get(URL).status_code == 403
    assert client_for("view_worker", name="bob").get(URL).status_code == 200
