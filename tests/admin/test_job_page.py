import json
import re
from datetime import timedelta
from html import unescape
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_tasks_seq.admin.documents import PAYLOAD_LENGTH, RESULT_LENGTH
from django_tasks_seq.admin.page import SHOWN
from django_tasks_seq.models import TaskStatus
from tests.admin.conftest import list_url, page_url
from tests.factories import (
    ERROR,
    TRACEBACK,
    JobEventFactory,
    JobFactory,
    TaskAttemptFactory,
    TaskStatusFactory,
    WorkerFactory,
)

pytestmark = pytest.mark.django_db


def page(client, job):
    response = client.get(page_url(job))
    assert response.status_code == 200
    return response.content.decode()


def text_of(html: str) -> str:
    return " ".join(unescape(re.sub("<[^>]+>", " ", html)).split())


def section(html: str, name: str) -> str:
    found = re.search(rf'aria-labelledby="dts-{name}">(.*?)</section>', html, re.DOTALL)
    return found[1] if found else ""


def rows(html: str, name: str) -> list[list[str]]:
    body = re.search("<tbody>(.*?)</tbody>", section(html, name), re.DOTALL)
    lines = re.findall("<tr>(.*?)</tr>", body[1], re.DOTALL) if body else []
    return [
        [text_of(cell) for cell in re.findall("<t[hd][^>]*>(.*?)</t[hd]>", line, re.DOTALL)]
        for line in lines
    ]


@pytest.fixture
def failed():
    """A job whose third task failed after three attempts."""
    return JobFactory.create(
        failed=True,
        history=2,
        subject_label="Order #1049",
        idempotency_key="order-1049",
        payload={"order_id": 1049, "email": "anna@example.com", "lines": [{"card_number": "4111"}]},
    )


# The failure


def test_the_error_is_the_first_thing_on_the_page(admin_client, failed):
    """A failed job's page begins with task, attempts, message and the folded traceback."""
    html = page(admin_client, failed)

    alert = re.findall('<div class="dts-alert" role="alert">(.*?)</div>', html, re.DOTALL)[0]
    assert "<h2>Task 3 “reserve_stock” failed after 3 of 3 attempts</h2>" in alert
    assert f"{ERROR}</p>" in alert
    assert "<details>" in alert
    assert TRACEBACK.splitlines()[2] in unescape(alert)
    assert html.index("dts-alert") < html.index("dts-facts") < html.index("dts-timeline")


def test_one_attempt_is_told_in_the_singular(admin_client):
    """A task with a single attempt failed after 1 attempt; an unknown sequence names no limit."""
    job = JobFactory.create(failed=True, history=0, history__tries=1, sequence="gone")

    assert "Task 1 “validate_order” failed after 1 attempt<" in page(admin_client, job)


def test_attempts_before_a_persons_retry_do_not_count(admin_client, failed):
    """After a person's retry the headline counts the new attempts only."""
    TaskStatus.objects.filter(job=failed, position=2).update(attempts=5, budget_start=3)

    assert "failed after 2 of 3 attempts" in page(admin_client, failed)


def test_a_failure_without_attempts_has_no_traceback(admin_client, failed):
    """When no attempt is kept, the error is shown without a traceback to unfold."""
    failed.attempts.all().delete()
    html = page(admin_client, failed)

    assert "Task 3 “reserve_stock” failed" in html
    assert "Traceback" not in html


def test_a_job_that_failed_without_a_task_shows_its_error(admin_client):
    """A job can fail though no task did; its error stands at the top all the same."""
    job = JobFactory.create(failed=True, error="SequenceChanged: no such task")
    html = page(admin_client, job)

    assert "<h2>The job failed</h2>" in html
    assert "SequenceChanged: no such task" in html


@pytest.mark.parametrize(
    ("kind", "title"),
    [("error", "The error handler gave up"), ("success", "The success handler gave up")],
)
def test_a_handler_that_gave_up_is_shown_with_its_traceback(admin_client, kind, title):
    """The error of a handler stands at the top too, below the job's own."""
    job = JobFactory.create(
        failed=True, history=2, handler_error=f"{kind}: OSError: no mail server"
    )
    TaskAttemptFactory.create(job=job, task_id=f"@{kind}", traceback="File mailer.py, line 9")
    html = page(admin_client, job)

    assert html.index("Task 3 “reserve_stock”") < html.index(title)
    assert "OSError: no mail server</p>" in html
    assert "File mailer.py, line 9" in html


def test_the_error_of_an_unknown_handler_is_shown_in_full(admin_client):
    """An error that names no handler is shown as it is."""
    job = JobFactory.create(successful=True, history=7, handler_error="lost its way")

    assert "A handler of this job gave up" in page(admin_client, job)


@pytest.mark.parametrize("traits", [{"successful": True, "history": 7}, {"running": True}, {}])
def test_a_job_without_failure_has_no_alert(admin_client, traits):
    """Nothing alarms on the page of a job that is well."""
    assert 'role="alert"' not in page(admin_client, JobFactory.create(**traits))


def test_an_active_job_says_why_it_stands(admin_client):
    """A job that waits says at the top what it waits for."""
    html = page(admin_client, JobFactory.create(waiting=True, history=2))

    assert re.search(r"<strong>reserve_stock</strong>\s+retry 2 of 3 in 4[45]\.\d s", html)


# Facts


def test_facts_tell_where_the_job_comes_from(admin_client, failed):
    """Sequence and version, queue, times, who started it, and its key are facts of the page."""
    facts = text_of(re.findall("<dl(.*?)</dl>", page(admin_client, failed), re.DOTALL)[0])

    for words in ("Sequence fulfil_order v3", "Queue default", "Took 3.8 s", "Created"):
        assert words in facts
    assert "Started by web /checkout/" in facts
    assert "Idempotency key order-1049" in facts


def test_the_title_names_sequence_and_subject(admin_client, failed):
    """The page is titled by sequence and subject, in one h1."""
    html = page(admin_client, failed)

    assert re.findall("<h1>(.*?)</h1>", html.split('id="content"')[1]) == [
        "fulfil_order · Order #1049"
    ]


SUBJECT_LINK = re.compile(r'<a href="([^"]*)">O7</a>')


def test_the_subject_is_linked_when_the_user_may_see_it(client_for, settings):
    """The subject leads to its admin page, for those who may view it, unless settings forbid it."""
    anna = client_for("view_job", "view_user")
    bob = client_for("view_job", name="bob")
    job = JobFactory.create(subject_type="auth.user", subject_id="7", subject_label="O7")

    assert SUBJECT_LINK.findall(page(anna, job)) == ["/admin/auth/user/7/change/"]
    assert not SUBJECT_LINK.search(page(bob, job))

    settings.TASKS_SEQ = {"ADMIN": {"SUBJECT_LINKS": False}}
    assert not SUBJECT_LINK.search(page(anna, job))


@pytest.mark.parametrize("subject_type", ["", "nodots", "gone.model", "testapp.gone", "a.b.c"])
def test_a_subject_without_an_admin_page_is_plain_text(admin_client, subject_type):
    """A subject whose model is gone, or not in this admin, is shown without a link."""
    job = JobFactory.create(subject_type=subject_type, subject_id="1", subject_label="O7")

    assert not SUBJECT_LINK.search(page(admin_client, job))


def test_a_subject_that_is_not_registered_is_plain_text(admin_client):
    """A model without an admin page is not linked."""
    job = JobFactory.create(subject_type="testapp.account", subject_id="7", subject_label="O7")

    assert not SUBJECT_LINK.search(page(admin_client, job))


# Timeline and tables


def test_the_timeline_has_a_bar_for_each_attempt(admin_client, failed):
    """Each attempt is a bar with its number, outcome, time and message as its title."""
    html = section(page(admin_client, failed), "timeline")

    bars = re.findall(
        r'<rect class="dts-(\w+)" x="[\d.]+%" width="[\d.]+%"[^>]*><title>(.*?)<', html
    )
    assert [kind for kind, _ in bars] == ["successful", "successful", "failed", "failed", "failed"]
    assert bars[2][1] == "attempt 1: Failed, 250 ms. HTTP 503 from warehouse AMS-1"
    assert html.count('class="dts-gap"') == 2
    assert html.count('<svg role="img"') == 7
    assert "reserve_stock: Failed, 3.2 s" in html


def test_the_timeline_is_drawn_the_same_in_every_language(client_for, failed):
    """Numbers in SVG attributes have a decimal point whatever the language."""
    client = client_for(is_superuser=True)
    client.cookies["django_language"] = "de"
    html = client.get(page_url(failed), headers={"accept-language": "de"}).content.decode()

    assert re.search(r'x="\d+\.\d+%"', html)
    assert not re.search(r'(x|x1|width)="\d+,\d', html)


def test_tasks_without_rows_are_shown_from_the_plan(admin_client, failed):
    """All tasks of the plan are listed, those that have not begun as well."""
    found = rows(page(admin_client, failed), "tasks")

    assert [row[1].split()[0] for row in found] == failed.plan
    assert found[0][:3] == ["1", "validate_order", "✓ Successful"]
    assert found[0][3:] == ["1/3", "400 ms", "web-1:4102", '{"ok": true}']
    assert found[2][1:4] == [f"reserve_stock {ERROR}", "✗ Failed", "3/3"]
    assert found[3][2:] == ["○ Not begun", "0/3", "—", "—", "—"]


def test_a_running_task_without_a_row_counts_its_attempt(admin_client):
    """The attempt that runs is counted also before it has a row."""
    job = JobFactory.create(running=True)
    assert rows(page(admin_client, job), "tasks")[0][2:4] == ["▶\ufe0e Running", "1/3"]

    TaskStatusFactory.create(job=job, running=True, attempts=1, progress={"done": 1, "total": 2})
    assert rows(page(admin_client, job), "tasks")[0][2:4] == ["▶\ufe0e Running 1/2", "1/3"]


def test_statuses_of_tasks_follow_the_job(admin_client):
    """A task that a job stands at is ready, waiting or not begun as its job is."""
    ready = JobFactory.create(history=1)
    stopped = JobFactory.create(cancelled=True, history=1)
    TaskStatusFactory.create(job=stopped, position=1, attempts=1)
    skipped = JobFactory.create()
    TaskStatusFactory.create(job=skipped, skipped=True)

    assert rows(page(admin_client, ready), "tasks")[1][2] == "○ Ready"
    assert rows(page(admin_client, stopped), "tasks")[1][2] == "○ Not begun"
    assert [row[2] for row in rows(page(admin_client, skipped), "tasks")[:2]] == [
        "↷ Skipped",
        "○ Ready",
    ]


def test_attempts_are_listed_with_outcome_and_error(admin_client):
    """Attempts that failed, were lost or set aside are listed, those of handlers by their name."""
    job = JobFactory.create()
    TaskAttemptFactory.create(job=job)
    TaskAttemptFactory.create(
        job=job, attempt=2, lost=True, started_at=None, finished_at=job.created_at
    )
    TaskAttemptFactory.create(job=job, attempt=3, superseded=True)
    TaskAttemptFactory.create(job=job, task_id="@error", attempt=1)
    found = rows(page(admin_client, job), "attempts")

    assert [row[:3] for row in found] == [
        ["validate_order", "1", "Failed"],
        ["validate_order", "2", "Lost with its worker"],
        ["validate_order", "3", "Superseded"],
        ["Error handler", "1", "Failed"],
    ]
    assert found[0][6] == ERROR
    assert found[1][3] == "—"


def test_events_tell_who_did_what_and_why(admin_client, failed):
    """The log of events has time, person, verb and task, statuses, and the reason."""
    JobEventFactory.create(job=failed, data={"task_id": "reserve_stock"})
    JobEventFactory.create(
        job=failed, kind="pause_requested", by="", reason="", status_after="FAILED"
    )
    JobEventFactory.create(job=failed, kind="of_a_plug_in", status_before="", status_after="")
    found = rows(page(admin_client, failed), "events")

    assert found[0][1:] == [
        "anna",
        "Retried: reserve_stock",
        "Failed → Ready",
        "the warehouse is back",
    ]
    assert found[1][1:] == ["—", "Asked to pause", "Failed", "—"]
    assert found[2][2:4] == ["of a plug in", "—"]


def test_long_histories_show_the_newest(admin_client):
    """Of very many events and attempts the newest are shown, and the page says so."""
    job = JobFactory.create()
    for n in range(SHOWN + 1):
        JobEventFactory.create(job=job, reason=f"reason {n}")
    html = page(admin_client, job)

    assert len(rows(html, "events")) == SHOWN
    assert "reason 0<" not in html
    assert f"The newest {SHOWN} are shown." in html


# Payloads and results


def test_payload_and_results_need_their_own_permission(client_for, failed):
    """Without `view_payload` neither payload nor result is in the page, nor read."""
    anna, bob = client_for("view_job"), client_for("view_job", "view_payload", name="bob")
    with CaptureQueriesContext(connection) as queries:
        html = page(anna, failed)

    assert "1049," not in html
    assert "&quot;ok&quot;: true" not in html
    assert "Can see payloads and results" in html
    assert not any('"payload"' in one["sql"] for one in queries)
    assert '"order_id": 1049' in unescape(page(bob, failed))


def test_secrets_are_masked_in_payload_and_results(admin_client, failed):
    """Values of `REDACT_KEYS` are nowhere in the page, at any depth."""
    failed.result = {"token": "canary-1"}
    failed.error_result = {"deep": [{"password": "canary-2"}]}
    failed.save()
    TaskStatus.objects.filter(job=failed, position=0).update(result={"card_number": "canary-3"})
    html = page(admin_client, failed)

    assert "canary" not in html
    assert "4111" not in html
    assert "anna@example.com" not in html
    assert html.count("••••••") >= 5


def test_result_of_the_job_and_of_its_error_handler_are_shown(admin_client):
    """A job that has ended shows its result, and what its error handler returned."""
    job = JobFactory.create(failed=True, history=2, result={"a": 1}, error_result={"ticket": 77})
    html = unescape(page(admin_client, job))

    assert '"a": 1' in section(html, "result")
    assert '"ticket": 77' in section(html, "error-result")


@pytest.mark.parametrize("value", [None, False, 0, "", [], {}])
def test_empty_payloads_are_told_from_none(admin_client, value):
    """Zero, false and empty payloads are shown as they are; None is no payload."""
    shown = section(page(admin_client, JobFactory.create(payload=value)), "payload")

    assert ("None." in shown) == (value is None)
    assert value is None or json.dumps(value) in unescape(shown)


def test_a_payload_of_a_megabyte_is_cut(admin_client):
    """A long payload is cut, a long result is not even read; both say how long they are."""
    job = JobFactory.create(payload={"text": "x" * 1_000_000}, history=1)
    TaskStatus.objects.filter(job=job).update(result={"text": "y" * (RESULT_LENGTH + 1)})
    html = page(admin_client, job)

    assert len(html) < PAYLOAD_LENGTH + 60_000
    assert "Cut here; it is 976 KB long." in html
    assert "8 KB, too large to show" in html
    assert "yyyy" not in html


def test_a_long_result_is_folded(admin_client):
    """A result longer than its cell is shown in short, the rest behind a fold."""
    job = JobFactory.create(history=1)
    TaskStatus.objects.filter(job=job).update(result={"text": "z" * 500})
    html = section(page(admin_client, job), "tasks")

    assert "…</code></summary>" in html
    assert "z" * 500 in html


# The page as a whole


def test_the_number_of_queries_does_not_grow_with_tasks(admin_client):
    """A job of 3 tasks and one of 60 with many attempts and events take the same queries."""
    small = JobFactory.create(plan=["a", "b", "c"], failed=True, history=1, history__tries=1)
    large = JobFactory.create(plan=[f"t{n}" for n in range(60)], failed=True, history=50)
    for job, count in ((small, 1), (large, 40)):
        for _ in range(count):
            JobEventFactory.create(job=job)
    counts = []
    for job in (small, large):
        with CaptureQueriesContext(connection) as queries:
            page(admin_client, job)
        counts.append(len(queries))

    assert counts[0] == counts[1] <= 14


class Headings(HTMLParser):
    def __init__(self):
        super().__init__()
        self.levels: list[int] = []
        self.problems: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if tag == "style" or "style" in values or any(name.startswith("on") for name in values):
            self.problems.append(f"inline {tag} {values}")
        if tag == "script" and "src" not in values:
            self.problems.append("inline script")
        # Django's own lists have no scope on the headers of their rows.
        if tag == "th" and "scope" not in values and "field-" not in values.get("class", ""):
            self.problems.append(f"th without scope: {values}")
        if tag == "button" and "formaction" in values and values.get("type") != "submit":
            self.problems.append(f"button {values}")
        if "id" in values:
            self.ids.append(values["id"])


@pytest.mark.parametrize("where", ["page", "list", "workers"])
def test_pages_hold_under_a_strict_content_policy(admin_client, failed, where):
    """No inline script or style, headings in order, scopes on headers, ids used once."""
    JobEventFactory.create(job=failed)
    WorkerFactory.create()
    urls = {
        "page": page_url(failed),
        "list": list_url(),
        "workers": "/admin/django_tasks_seq/worker/",
    }
    parser = Headings()
    parser.feed(admin_client.get(urls[where]).content.decode())

    assert parser.problems == []
    assert all(after - before <= 1 for before, after in pairwise(parser.levels))
    assert sorted(set(parser.ids)) == sorted(parser.ids)


def test_the_page_has_its_style_sheet_and_the_admins_own_frame(admin_client, failed):
    """The style sheet comes through the admin's media; breadcrumbs and history are Django's."""
    html = page(admin_client, failed)

    assert 'href="/static/django_tasks_seq/admin.css"' in html
    assert "breadcrumbs" in html
    assert page_url(failed, "history") in html
    assert 'name="_save"' not in html


def test_a_job_that_is_gone_leads_back(admin_client, failed):
    """The address of a pruned job leads to the admin's index with a message."""
    url = page_url(failed)
    failed.delete()

    assert admin_client.get(url).status_code == 302


def test_an_attempt_of_an_hour_beside_one_of_a_millisecond_is_drawn(admin_client):
    """A page with very unlike attempts is drawn, the short one not lost."""
    job = JobFactory.create(running=True, age=7200)
    start = job.created_at
    TaskStatusFactory.create(
        job=job,
        successful=True,
        started_at=start,
        finished_at=start + timedelta(milliseconds=1),
    )
    TaskStatusFactory.create(job=job, position=1, running=True, started_at=start)

    assert 'width="0.4%"' in page(admin_client, job)
