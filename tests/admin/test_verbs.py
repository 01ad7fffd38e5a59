import pytest
from django.contrib.admin.models import LogEntry
from django.contrib.messages import get_messages
from django.test import Client

from django_tasks_seq import executor
from django_tasks_seq.admin.actions import VERBS
from django_tasks_seq.choices import JobStatus, Requested, TaskState
from django_tasks_seq.models import Job, JobEvent, TaskStatus
from tests.admin.conftest import list_url, page_url
from tests.factories import JobFactory

pytestmark = pytest.mark.django_db

# What of a page leads to what a person may do.
PERMISSIONS = {
    "retry": "retry_job",
    "retry-all": "retry_job",
    "cancel": "cancel_job",
    "pause": "pause_job",
    "resume": "pause_job",
}


def do(client, job, verb, **data):
    return client.post(page_url(job, verb), data)


def said(response) -> list[tuple[str, str]]:
    return [(one.level_tag, str(one)) for one in get_messages(response.wsgi_request)]


def failed_job(**options) -> Job:
    return JobFactory.create(failed=True, history=2, **options)


def statuses(job: Job) -> dict[str, str]:
    return dict(TaskStatus.objects.filter(job=job).values_list("task_id", "status"))


def test_retry_goes_on_from_the_failed_task(admin_client):
    """The first button lets the job go on from the failed task, with earlier results kept."""
    job = failed_job(subject_label="Order #1049")
    response = do(admin_client, job, "retry", reason="  the warehouse\nis back ")

    job.refresh_from_db()
    assert job.status == JobStatus.READY
    assert statuses(job) == {
        "validate_order": TaskState.SUCCESSFUL,
        "charge_card": TaskState.SUCCESSFUL,
        "reserve_stock": TaskState.READY,
    }
    assert response.url == page_url(job)
    assert said(response) == [("success", "Order #1049: Retried from the failed task.")]


def test_who_did_it_and_why_is_kept(admin_client):
    """A verb leaves an event with person and reason, and an entry in the admin's log."""
    job = failed_job()
    do(admin_client, job, "retry", reason="  the warehouse\nis back ")

    event = JobEvent.objects.get(job=job)
    assert (event.kind, event.by, event.reason) == ("retry", "anna", "the warehouse is back")
    assert (event.status_before, event.status_after) == ("FAILED", "READY")
    entry = LogEntry.objects.get()
    assert (entry.object_id, entry.user.username) == (str(job.pk), "anna")
    assert entry.change_message == "Retried from the failed task."


def test_retry_all_begins_with_the_first_task(admin_client):
    """The second button runs all tasks again; what had succeeded becomes history."""
    job = failed_job()
    do(admin_client, job, "retry-all")

    job.refresh_from_db()
    assert job.status == JobStatus.READY
    assert set(statuses(job).values()) == {TaskState.READY}
    assert job.attempts.filter(outcome="SUPERSEDED").count() == 2


def test_cancel_ends_a_job_that_does_not_run(admin_client):
    """A job that does not run is cancelled at once."""
    job = JobFactory.create(waiting=True, history=2, subject_label="Order #7")
    response = do(admin_client, job, "cancel")

    job.refresh_from_db()
    assert job.status == JobStatus.CANCELLED
    assert said(response) == [("success", "Order #7: Cancelled.")]


@pytest.mark.parametrize(
    ("verb", "requested", "words"),
    [
        ("cancel", Requested.CANCEL, "was asked to cancel: it ends before its next task."),
        ("pause", Requested.PAUSE, "was asked to pause: it stops before its next task."),
    ],
)
def test_a_running_job_is_asked(admin_client, verb, requested, words):
    """A running job is asked to stop; the message does not claim that it has."""
    job = JobFactory.create(running=True, subject_label="Order #7")
    response = do(admin_client, job, verb)

    job.refresh_from_db()
    assert (job.status, job.requested) == (JobStatus.RUNNING, requested)
    assert said(response) == [("success", f"“Order #7” {words}")]


def test_pause_and_resume(admin_client):
    """A ready job can be paused, and a paused one goes on."""
    job = JobFactory.create()
    do(admin_client, job, "pause")
    job.refresh_from_db()
    assert job.status == JobStatus.PAUSED

    do(admin_client, job, "resume")
    job.refresh_from_db()
    assert job.status == JobStatus.READY


@pytest.mark.parametrize(
    ("traits", "verb", "words"),
    [
        ({"running": True}, "retry", "is running on web-1:"),
        ({"successful": True}, "retry", "has succeeded"),
        ({"successful": True}, "cancel", "cannot be cancelled"),
        ({"failed": True}, "pause", "cannot be paused"),
        ({"failed": True}, "resume", "cannot be resumed"),
        ({}, "retry-all", "cannot be retried"),
    ],
)
def test_what_is_not_allowed_is_refused_with_the_reason(admin_client, traits, verb, words):
    """A verb that the status forbids changes nothing; the executor's reason is the warning."""
    job = JobFactory.create(**traits)
    before = Job.objects.filter(pk=job.pk).values()[0]
    response = do(admin_client, job, verb)

    ((level, text),) = said(response)
    assert level == "warning"
    assert words in text
    assert text.endswith("nothing was changed.")
    assert Job.objects.filter(pk=job.pk).values()[0] == before
    assert not JobEvent.objects.exists()
    assert not LogEntry.objects.exists()


def buttons(client, job) -> list[str]:
    return [button.label for button in client.get(page_url(job)).context["buttons"]]


@pytest.mark.parametrize(
    ("traits", "labels"),
    [
        ({"failed": True, "history": 2}, ["Retry from “reserve_stock”", "Retry all"]),
        ({"failed": True}, ["Go on from “validate_order”", "Retry all"]),
        ({"cancelled": True, "history": 1}, ["Go on from “charge_card”", "Retry all"]),
        ({"successful": True, "history": 7}, ["Run again from the first task"]),
        ({"running": True}, ["Pause", "Cancel"]),
        ({"running": True, "requested": "cancel"}, ["Pause"]),
        ({"running": True, "requested": "pause"}, ["Resume", "Cancel"]),
        ({"waiting": True}, ["Pause", "Cancel"]),
        ({"paused": True}, ["Resume", "Cancel"]),
        ({}, ["Pause", "Cancel"]),
    ],
)
def test_only_what_is_possible_is_offered(admin_client, traits, labels):
    """The page offers the verbs that the job's status allows, and says where a retry begins."""
    assert buttons(admin_client, JobFactory.create(**traits)) == labels


@pytest.mark.parametrize(
    "traits", [{"failed": True}, {"running": True}, {"paused": True}, {"successful": True}, {}]
)
def test_every_button_that_is_offered_works(admin_client, traits):
    """What the page offers, the executor does: no button leads to a refusal."""
    for verb in VERBS.values():
        job = JobFactory.create(**traits)
        urls = {button.url for button in admin_client.get(page_url(job)).context["buttons"]}
        if page_url(job, verb.name) in urls:
            assert said(do(admin_client, job, verb.name))[0][0] == "success"


def test_the_filters_of_the_list_are_kept(admin_client):
    """After a verb one comes back to the page, and from there to the list as it was filtered."""
    job = failed_job()
    kept = "_changelist_filters=status%3DFAILED"
    html = admin_client.get(f"{page_url(job)}?{kept}").content.decode()

    assert f'formaction="{page_url(job, "retry")}?{kept}"' in html
    response = admin_client.post(f"{page_url(job, 'retry')}?{kept}")
    assert response.url == f"{page_url(job)}?{kept}"


# In bulk


def run_action(client, name, jobs, **data):
    data = {"action": name, "_selected_action": [job.pk for job in jobs], "index": 0, **data}
    return client.post(list_url(), data)


def test_a_bulk_retry_skips_what_it_cannot_and_counts_it(admin_client):
    """One job that cannot be retried is skipped and counted; the others are retried."""
    jobs = [failed_job() for _ in range(3)]
    running = JobFactory.create(running=True)
    response = run_action(admin_client, "retry_selected", [*jobs, running])

    assert said(response) == [("warning", "Retried 3 jobs, skipped 1 (running).")]
    assert Job.objects.filter(status=JobStatus.READY).count() == 3
    assert LogEntry.objects.count() == JobEvent.objects.filter(by="anna").count() == 3


@pytest.mark.parametrize(
    ("action", "traits", "text"),
    [
        ("retry_selected", {"failed": True}, "Retried 1 job."),
        ("retry_all_selected", {"successful": True}, "Retried 1 job."),
        ("cancel_selected", {}, "Cancelled 1 job."),
        ("pause_selected", {}, "Paused 1 job."),
        ("resume_selected", {"paused": True}, "Resumed 1 job."),
    ],
)
def test_each_verb_can_be_done_in_bulk(admin_client, action, traits, text):
    """Each action of the list does its verb."""
    response = run_action(admin_client, action, [JobFactory.create(**traits)])

    assert said(response) == [("success", text)]


def test_several_reasons_to_skip_are_told_apart(admin_client):
    """Skipped jobs are counted by their status."""
    jobs = [
        JobFactory.create(running=True),
        JobFactory.create(running=True),
        JobFactory.create(successful=True),
    ]
    response = run_action(admin_client, "retry_selected", jobs)

    assert said(response) == [("warning", "Retried 0 jobs, skipped 3 (2 running, 1 successful).")]


def test_a_job_that_is_pruned_meanwhile_is_skipped(admin_client, monkeypatch):
    """A job that is gone when its turn comes is skipped, the rest goes on."""
    gone, kept = failed_job(), failed_job()
    real = executor.retry

    def prune_then_retry(job, **options):
        Job.objects.filter(pk=gone.pk).delete()
        return real(job, **options)

    verb = VERBS["retry"]
    monkeypatch.setitem(VERBS, "retry", type(verb)(**{**_fields(verb), "act": prune_then_retry}))
    response = run_action(admin_client, "retry_selected", [gone, kept])

    assert said(response) == [("warning", "Retried 1 job, skipped 1 (gone).")]


def _fields(verb):
    return {name: getattr(verb, name) for name in verb.__slots__}


# Who may do what


def everything_of(job: Job) -> tuple:
    return (
        Job.objects.filter(pk=job.pk).values()[0],
        statuses(job),
        JobEvent.objects.count(),
        LogEntry.objects.count(),
    )


POSSIBLE = {"retry": {"failed": True}, "retry-all": {"failed": True}, "resume": {"paused": True}}


@pytest.mark.parametrize("verb", VERBS)
def test_each_verb_has_its_own_permission(client_for, verb):
    """Only the verb's own permission opens it; all others together do not."""
    job = JobFactory.create(**POSSIBLE.get(verb, {}))
    others = {"add_job", "change_job", "delete_job", "view_job", "view_payload", "skip_job"}
    others |= set(PERMISSIONS.values()) - {PERMISSIONS[verb]}
    stranger = client_for(*others)
    before = everything_of(job)

    assert do(stranger, job, verb).status_code == 403
    assert everything_of(job) == before
    assert page_url(job, verb) not in stranger.get(page_url(job)).content.decode()

    allowed = client_for("view_job", PERMISSIONS[verb], name="bob")
    assert page_url(job, verb) in allowed.get(page_url(job)).content.decode()
    assert do(allowed, job, verb).status_code == 302
    assert everything_of(job) != before


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_needs_the_right_to_see_the_job(client_for, verb):
    """Who may not see jobs cannot change them either, nor find out which exist."""
    job = JobFactory.create(**POSSIBLE.get(verb, {}))
    blind = client_for(PERMISSIONS[verb])
    before = everything_of(job)

    assert do(blind, job, verb).status_code == 403
    missing = Job(pk="01a20c57-4a71-7000-b4f6-e4555b326ca1")
    assert do(blind, missing, verb).status_code == 403
    assert everything_of(job) == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_job_that_does_not_exist_is_not_found(admin_client, verb):
    """A verb on a job that is gone is a 404."""
    missing = Job(pk="01a20c57-4a71-7000-b4f6-e4555b326ca1")

    assert do(admin_client, missing, verb).status_code == 404


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("method", ["get", "head", "put", "delete", "patch", "options"])
def test_verbs_are_post_only(admin_client, verb, method):
    """No other method than POST does anything."""
    job = JobFactory.create(**POSSIBLE.get(verb, {}))
    before = everything_of(job)

    assert getattr(admin_client, method)(page_url(job, verb)).status_code == 405
    assert everything_of(job) == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_post_from_elsewhere_is_refused(client_for, verb):
    """Without the CSRF token nothing happens, and the page gives each button one."""
    job = JobFactory.create(**POSSIBLE.get(verb, {}))
    trusted = client_for(is_superuser=True)
    client = Client(enforce_csrf_checks=True)
    client.cookies = trusted.cookies
    before = everything_of(job)

    assert do(client, job, verb).status_code == 403
    assert everything_of(job) == before

    html = client.get(page_url(job)).content.decode()
    form = html[html.index('<form method="post" id="job_form"') :]
    assert "csrfmiddlewaretoken" in form[: form.index("formaction")]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("who", ["nobody", "customer"])
def test_people_outside_the_staff_are_sent_to_the_login(client_for, verb, who):
    """Neither a stranger nor a user without staff rights reaches a verb."""
    job = JobFactory.create(**POSSIBLE.get(verb, {}))
    client = Client() if who == "nobody" else client_for(PERMISSIONS[verb], is_staff=False)
    before = everything_of(job)
    response = do(client, job, verb)

    assert response.status_code == 302
    assert "/login/" in response.url
    assert everything_of(job) == before


@pytest.mark.parametrize("verb", VERBS)
def test_a_bulk_action_needs_the_permission_too(client_for, verb):
    """An action that a user may not do is not offered, and not done when it is asked for."""
    job = JobFactory.create(**POSSIBLE.get(verb, {}))
    others = set(PERMISSIONS.values()) - {PERMISSIONS[verb]}
    client = client_for("view_job", *others)
    before = everything_of(job)
    name = f"{verb.replace('-', '_')}_selected"

    assert f'value="{name}"' not in client.get(list_url()).content.decode()
    run_action(client, name, [job])
    assert everything_of(job) == before


@pytest.mark.parametrize("where", ["add", "delete", "change", "delete_selected"])
def test_nobody_adds_edits_or_deletes_jobs(client_for, where):
    """Not even a superuser, by any address: jobs are started by code and pruned by age."""
    client = client_for(is_superuser=True)
    job = failed_job()
    before = everything_of(job)

    if where == "delete_selected":
        run_action(client, "delete_selected", [job], post="yes")
    elif where == "add":
        url = page_url(job).replace(f"{job.pk}/change", "add")
        assert client.post(url, {"sequence": "x"}).status_code == 403
    else:
        data = {"status": "READY", "post": "yes"}
        assert client.post(page_url(job, where), data).status_code == 403
    assert everything_of(job) == before
    assert Job.objects.count() == 1


def test_staff_without_any_permission_see_nothing(client_for):
    """A staff member without `view_job` sees neither list nor page."""
    job, client = failed_job(), client_for()

    assert client.get(list_url()).status_code == 403
    assert client.get(page_url(job)).status_code == 403
