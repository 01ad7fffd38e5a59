"""Names, errors, payloads and reasons come from other people: none of them may become markup."""

import re
from html import unescape
from html.parser import HTMLParser

import pytest
from django.utils.safestring import mark_safe

from django_tasks_seq.choices import JobStatus
from django_tasks_seq.models import Job
from tests.admin.conftest import list_url, page_url
from tests.factories import (
    JobEventFactory,
    JobFactory,
    TaskAttemptFactory,
    TaskStatusFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db

VECTORS = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'><svg/onload=alert(1)>",
    "</title><script>alert(1)</script>",
    "</pre></details><iframe src=javascript:alert(1)>",
    '<a href="javascript:alert(1)">x</a>',
    "{{ 7|add:35 }}{% debug %}",
    "%(evil)s {evil} {0.__class__}",
    "--><!--<b>",
    "\u202e<b>\u2028",
    "&lt;b&gt;&amp;",
    "<style>*{display:none}</style>",
]
HARMLESS = "harmless" * 12


class Shapes(HTMLParser):
    """The kinds of elements in a page: (tag, names of its attributes); and where its links lead."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: set[tuple[str, tuple[str, ...]]] = set()
        self.addresses: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.found.add((tag, tuple(sorted(name for name, _ in attrs))))
        self.addresses += [value or "" for name, value in attrs if name in ADDRESSES]


ADDRESSES = {"href", "src", "action", "formaction"}
# A pause in the timeline is drawn only when it is wide enough to be seen, and holds numbers alone.
GAP = ("rect", ("class", "height", "width", "x", "y"))


def shapes(response) -> set[tuple[str, tuple[str, ...]]]:
    """The kinds of elements of a page, none of whose links runs code."""
    assert response.status_code == 200
    page = Shapes(response.content.decode())
    assert not [one for one in page.addresses if "script:" in one.lower()]
    return page.found - {GAP}


def hostile_job(text: str) -> Job:
    """A job with this text in every field that a page shows."""
    short = text[:60]
    worker = WorkerFactory.create(name=short, hostname=short, queues=short)
    job = JobFactory.create(
        failed=True,
        sequence=short,
        plan=[short, "fine"],
        queue=short,
        subject_type="testapp.order",
        subject_id=short,
        subject_label=short,
        created_by=short,
        idempotency_key=short,
        error=f"{short}: {text}",
        handler_error=f"error: {text}",
        payload={text: [text]},
        result=text,
        error_result=[text],
        worker=worker,
    )
    facts = {"job": job, "task_id": short, "worker_name": short}
    TaskStatusFactory.create(position=0, failed=True, error=text, **facts)
    TaskStatusFactory.create(
        job=job, position=1, successful=True, worker_name=short, result={text: text * 20}
    )
    attempt = {"exception_class": f"x.{short}", "message": text, "traceback": text}
    TaskAttemptFactory.create(attempt=3, **attempt, **facts)
    TaskAttemptFactory.create(**{**facts, "task_id": "@error"}, **attempt)
    JobEventFactory.create(job=job, kind=text[:50], by=short, reason=text, data={"task_id": text})
    JobEventFactory.create(job=job, status_before=text[:10], status_after=text[:10])
    return job


@pytest.mark.parametrize("text", VECTORS)
def test_nothing_in_a_job_becomes_markup_on_its_page(admin_client, text):
    """Whatever a job's rows hold is shown as text: task, error, traceback, payload, events."""
    harmless, hostile = hostile_job(HARMLESS), hostile_job(text)
    response = admin_client.get(page_url(hostile))

    assert shapes(response) == shapes(admin_client.get(page_url(harmless)))
    assert unescape(response.content.decode()).count(text.strip("\u202e")[:9]) >= 10


@pytest.mark.parametrize("text", VECTORS)
def test_nothing_in_a_job_becomes_markup_in_lists(admin_client, text):
    """The lists of jobs and workers, their filters, and the history show text as text."""
    names = ("queue", "sequence", "worker", "status", "q")

    def pages(value: str):
        job = hostile_job(value)
        yield from shapes(admin_client.get(list_url()))
        yield from shapes(admin_client.get(list_url(), dict.fromkeys(names, value)))
        yield from shapes(admin_client.get("/admin/django_tasks_seq/worker/"))
        yield from shapes(admin_client.get(page_url(job, "history")))

    harmless = set(pages(HARMLESS))
    assert set(pages(text)) == harmless


@pytest.mark.parametrize("text", VECTORS)
def test_nothing_a_person_types_becomes_markup(admin_client, text):
    """Reasons, and the messages after a verb or a refusal, show text as text."""

    def pages(value: str):
        job = hostile_job(value)
        for status in (JobStatus.READY, JobStatus.READY):
            yield from shapes(
                admin_client.post(page_url(job, "retry"), {"reason": value}, follow=True)
            )
            job.refresh_from_db()
            assert job.status == status

    harmless = set(pages(HARMLESS))
    assert set(pages(text)) == harmless


@pytest.mark.parametrize("text", VECTORS)
def test_progress_and_queues_are_text(admin_client, text):
    """Progress messages and queues are as untrusted as errors."""

    def pages(value: str):
        progress = {"done": value, "total": value, "message": value}
        running = JobFactory.create(
            running=True, plan=[value], worker=WorkerFactory.create(name=value)
        )
        TaskStatusFactory.create(job=running, running=True, attempts=1, progress=progress)
        for job in (running, JobFactory.create(queue=value[:60], plan=[value])):
            yield from shapes(admin_client.get(page_url(job)))
        yield from shapes(admin_client.get(list_url()))

    harmless = set(pages(HARMLESS))
    assert set(pages(text)) == harmless


def test_the_comparison_sees_markup_that_gets_through(admin_client, monkeypatch):
    """With escaping switched off the rule above finds the markup of every vector that has some."""
    harmless = shapes(admin_client.get(page_url(hostile_job(HARMLESS))))
    monkeypatch.setattr("django.utils.html.escape", mark_safe)
    monkeypatch.setattr("django.template.base.conditional_escape", str)

    for text in VECTORS:
        if re.search("<[a-z]", text):
            response = admin_client.get(page_url(hostile_job(text)))
            page = Shapes(response.content.decode())
            assert page.found != harmless or "script:" in str(page.addresses)
