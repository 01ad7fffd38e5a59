import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_tasks_seq.admin.columns import MOST_SEGMENTS, short_id
from django_tasks_seq.models import Job
from tests.admin.conftest import list_url, page_url
from tests.factories import JobFactory, WorkerFactory

pytestmark = pytest.mark.django_db


def shown(client, query: str = "") -> list[Job]:
    response = client.get(list_url(query))
    assert response.status_code == 200
    return list(response.context["cl"].result_list)


def cells(client, name: str, query: str = "") -> list[str]:
    html = client.get(list_url(query)).content.decode()
    found = re.findall(rf'<t[dh] class="field-{name}">(.*?)</t[dh]>', html, re.DOTALL)
    return [" ".join(re.sub("<[^>]+>", " ", one).split()) for one in found]


def test_a_job_is_named_by_its_subject(admin_client):
    """The first column has the subject, the sequence and a short id, and leads to the job's page."""
    job = JobFactory.create(subject_label="Order #1049")
    html = admin_client.get(list_url()).content.decode()

    assert cells(admin_client, "job_column") == [f"Order #1049 fulfil_order · {short_id(job)}"]
    assert f'href="{page_url(job)}"' in html


def test_a_job_without_subject_is_named_by_its_sequence(admin_client):
    """Without a subject the sequence is the title."""
    job = JobFactory.create(subject_label="")

    assert cells(admin_client, "job_column") == [f"fulfil_order {short_id(job)}"]


def test_short_ids_tell_jobs_of_one_minute_apart():
    """The short id is the end of the id: the beginning of a UUIDv7 is the same for a minute."""
    one, other = JobFactory.build(), JobFactory.build()

    assert one.pk.hex[:6] == other.pk.hex[:6]
    assert short_id(one) != short_id(other)


@pytest.mark.parametrize(
    ("traits", "text"),
    [
        ({"failed": True, "history": 2}, "✗ Failed"),
        ({"running": True, "history": 4}, "▶\ufe0e Running"),
        ({"waiting": True, "history": 2}, "↻ Waiting to retry"),
        ({"waiting": True}, "↻ Waiting"),
        ({"successful": True, "history": 7}, "✓ Successful"),
        ({"cancelled": True, "history": 1}, "⊘ Cancelled"),
        ({"paused": True}, "‖ Paused"),
        ({}, "○ Ready"),
    ],
)
def test_a_status_is_sign_word_and_progress(admin_client, traits, text):
    """The second column has sign and word of the status, and how many tasks are done."""
    JobFactory.create(**traits)

    (cell,) = cells(admin_client, "status_column")
    assert cell.startswith(text)
    assert cell.endswith(f"{traits.get('history', 0)}/7")


def test_progress_has_a_segment_for_each_task(admin_client):
    """Each task is a segment with a title, none is told by colour alone."""
    JobFactory.create(failed=True, history=2)
    html = admin_client.get(list_url()).content.decode()

    titles = re.findall(r"<rect class=\"dts-(\w+)\"[^>]*><title>([^<]*)", html)
    assert titles[:4] == [
        ("successful", "validate_order: Successful"),
        ("successful", "charge_card: Successful"),
        ("failed", "reserve_stock: Failed"),
        ("none", "make_invoice_pdf: Not begun"),
    ]
    assert "2 of 7 tasks done" in html


@pytest.mark.parametrize("count", [1, 8, MOST_SEGMENTS, MOST_SEGMENTS + 1, 1000])
def test_progress_of_any_plan_fits_its_column(admin_client, count):
    """Segments shrink, and beyond twenty tasks become pieces of one bar; the width stays."""
    JobFactory.create(
        plan=[f"part_{n}" for n in range(count)], running=True, history=min(count, 9) - 1
    )
    html = admin_client.get(list_url()).content.decode()

    places = re.findall(r'<rect class="dts-\w+" x="([\d.]+)" width="([\d.]+)"', html)
    width = float(re.findall(r'class="dts-segments" role="img" width="(\d+)"', html)[0])
    assert len(places) <= MOST_SEGMENTS
    assert all(float(x) + float(wide) <= width + 0.5 for x, wide in places)


def test_why_and_times_are_told(admin_client):
    """The third column tells why a job stands, the fourth when it was started and how long it took."""
    JobFactory.create(failed=True, history=2, age=130, took=3.8)

    assert cells(admin_client, "why_column") == [
        "reserve_stock WarehouseUnavailable: HTTP 503 from warehouse AMS-1"
    ]
    assert cells(admin_client, "created_column") == ["2 minutes ago took 3.8 s"]


def test_times_are_for_machines_too(admin_client):
    """A relative time carries the exact one."""
    job = JobFactory.create()
    html = admin_client.get(list_url()).content.decode()

    assert f'<time datetime="{job.created_at.isoformat()}" title="' in html


@pytest.mark.parametrize("more", [95])
def test_the_number_of_queries_does_not_grow_with_jobs(admin_client, more):
    """5 and 100 jobs take the same queries, whatever the jobs' status."""
    counts = []
    kinds = [{"failed": True}, {"waiting": True}, {"running": True}, {"successful": True}, {}]
    for number in (5, more):
        for n in range(number):
            JobFactory.create(**kinds[n % 5], history=2)
        with CaptureQueriesContext(connection) as queries:
            assert len(shown(admin_client, "all=")) in (5, 100)
        counts.append(len(queries))
        assert not any("DISTINCT" in one["sql"] for one in queries)

    assert counts[0] == counts[1] <= 12


def test_payloads_are_not_read(admin_client):
    """The list reads no payload and no result, which may be a megabyte each."""
    JobFactory.create(failed=True, history=2)
    with CaptureQueriesContext(connection) as queries:
        shown(admin_client)

    sql = " ".join(one["sql"] for one in queries)
    assert '"payload"' not in sql
    assert '"result"' not in sql


def test_newest_jobs_come_first_and_pages_do_not_overlap(admin_client):
    """Jobs stand newest first by their ids, and every job is on exactly one page."""
    jobs = [JobFactory.create() for _ in range(60)]
    first, second = shown(admin_client), shown(admin_client, "p=2")

    assert [job.pk for job in first + second] == [job.pk for job in reversed(jobs)]
    assert len(first) == 50


# Filters


def test_jobs_are_filtered_by_status(admin_client):
    """The status filter shows one status."""
    failed, _ = JobFactory.create(failed=True, history=2), JobFactory.create()

    assert shown(admin_client, "status=FAILED") == [failed]


def test_needs_attention_is_failed_stuck_or_given_up(admin_client):
    """What needs attention: failed jobs, jobs whose lease has ended, handlers that gave up."""
    past = timezone.now() - timedelta(seconds=5)
    wanted = [
        JobFactory.create(failed=True),
        JobFactory.create(running=True, lease_until=past),
        JobFactory.create(successful=True, handler_error="success: OSError"),
    ]
    JobFactory.create(running=True)
    JobFactory.create(successful=True)

    assert set(shown(admin_client, "status=attention")) == set(wanted)


def test_jobs_are_filtered_by_sequence_queue_and_age(admin_client):
    """Sequence, queue and age each narrow the list; unknown values find nothing, or are ignored."""
    job = JobFactory.create(queue="mail", sequence="gone")
    old = JobFactory.create(age=4000)

    assert shown(admin_client, "sequence=gone") == [job]
    assert shown(admin_client, "sequence=fulfil_order") == [old]
    assert shown(admin_client, "queue=mail") == [job]
    assert shown(admin_client, "created=hour") == [job]
    assert shown(admin_client, "created=day") == [old, job]
    assert shown(admin_client, "created=nonsense") == [old, job]
    assert shown(admin_client, "status=nonsense") == []


def test_choices_of_filters_come_from_code_and_workers(admin_client):
    """Sequences are offered from the registry, queues from settings and workers, none from jobs."""
    WorkerFactory.create(queues="mail, images")
    for n in range(3):
        JobFactory.create(queue=f"q{n}", sequence=f"s{n}")
    specs = admin_client.get(list_url("queue=q1")).context["cl"].filter_specs

    offered = {spec.parameter_name: [value for value, _ in spec.lookup_choices] for spec in specs}
    assert offered["sequence"] == ["fulfil_order"]
    assert offered["queue"] == ["default", "images", "mail", "q1"]
    assert "worker" not in offered


def test_jobs_in_the_hands_of_a_worker_can_be_listed(admin_client):
    """The list of workers leads to the jobs that one of them holds."""
    job = JobFactory.create(running=True)
    JobFactory.create(running=True)

    assert shown(admin_client, f"worker={job.worker_id}") == [job]
    assert shown(admin_client, "worker=0") == []


@pytest.mark.parametrize("value", ["x", "9" * 30, "-1", "٣"])
def test_a_worker_that_is_no_number_finds_nothing(admin_client, value):
    """A hand-written worker in the address is no error."""
    JobFactory.create(running=True)

    assert shown(admin_client, f"worker={value}") == []


# Search


def test_jobs_are_found_by_subject_key_and_error(admin_client):
    """The search looks into the subject, the idempotency key and the error."""
    order = JobFactory.create(subject_label="Order #1049", idempotency_key="key-7")
    failed = JobFactory.create(
        failed=True, subject_label="Invoice 3", error="WarehouseUnavailable: 503"
    )

    assert shown(admin_client, "q=1049") == [order]
    assert shown(admin_client, "q=KEY-7") == [order]
    assert shown(admin_client, "q=warehouseunav 503") == [failed]
    assert shown(admin_client, "q=nothing of the kind") == []


def test_jobs_are_found_by_any_useful_part_of_their_id(admin_client):
    """The whole id, its beginning, and the short id of the list find a job."""
    job, other = JobFactory.create(), JobFactory.create()

    assert shown(admin_client, f"q={job.pk}") == [job]
    assert shown(admin_client, f"q={job.pk.hex.upper()}") == [job]
    assert shown(admin_client, f"q= {short_id(job)} ") == [job]
    assert shown(admin_client, f"q={str(job.pk)[:7]}") == [other, job]
    assert shown(admin_client, f"q={job.pk.hex}0") == []


@pytest.mark.parametrize("term", ["%", "_", "\\", "'; --", "0x00", "----", "é" * 300])
def test_odd_search_terms_find_nothing_and_break_nothing(admin_client, term):
    """Wildcards and quotes are ordinary characters of a search."""
    JobFactory.create(subject_label="Order")

    assert shown(admin_client, f"q={term}".replace("%", "%25").replace(";", "%3B")) == []
