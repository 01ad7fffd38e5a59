"""S4, S5, S6, S20: who may do what, by which request, and what is kept of it."""

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import PermissionDenied
from django.test import Client, RequestFactory
from django.urls import URLPattern, URLResolver, get_resolver

from django_tasks_seq.admin import JobAdmin
from django_tasks_seq.admin.actions import VERBS
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus, Worker
from tests.admin.conftest import list_url, page_url
from tests.factories import JobEventFactory, JobFactory, WorkerFactory

pytestmark = pytest.mark.django_db
ClientFor = Callable[..., Client]

# A job that each verb may be done to, and the permission that it needs besides `view_job`.
CASES: dict[str, tuple[dict[str, Any], str]] = {
    "retry": ({"failed": True, "history": 2}, "retry_job"),
    "retry-all": ({"failed": True, "history": 2}, "retry_job"),
    "pause": ({}, "pause_job"),
    "resume": ({"paused": True}, "pause_job"),
    "cancel": ({}, "cancel_job"),
}
ACTIONS = {name: f"{name.replace('-', '_')}_selected" for name in CASES}
ACTIONS["retry-all"] = "retry_all_selected"
VERB_PERMISSIONS = ("retry_job", "cancel_job", "pause_job", "skip_job", "view_payload")
MODEL_PERMISSIONS = ("add_job", "change_job", "delete_job")

# Who asks: (is_staff, permissions); None is nobody.
WHO: dict[str, tuple[bool, tuple[str, ...]] | None] = {
    "anonymous": None,
    "user": (False, ("view_job", *VERB_PERMISSIONS)),
    "staff": (True, ()),
    "view": (True, ("view_job",)),
    "change": (True, MODEL_PERMISSIONS),
    "change and view": (True, ("view_job", *MODEL_PERMISSIONS)),
    "retry": (True, ("view_job", "retry_job")),
    "pause": (True, ("view_job", "pause_job")),
    "cancel": (True, ("view_job", "cancel_job")),
    "all but view": (True, (*MODEL_PERMISSIONS, *VERB_PERMISSIONS)),
    "all verbs": (True, ("view_job", *VERB_PERMISSIONS)),
}
each_verb = pytest.mark.parametrize("verb", CASES)
each_person = pytest.mark.parametrize("who", WHO)


def client_of(client_for: ClientFor, who: str) -> Client:
    asks = WHO[who]
    return Client() if asks is None else client_for(*asks[1], is_staff=asks[0])


def permissions_of(who: str) -> set[str]:
    """What a staff member may do; nothing for all others."""
    asks = WHO[who]
    return set(asks[1]) if asks is not None and asks[0] else set()


def rows() -> list[Any]:
    models: tuple[Any, ...] = (Job, TaskStatus, TaskAttempt, JobEvent, LogEntry)
    return [list(model.objects.order_by("pk").values()) for model in models]


def is_refused(response: Any) -> bool:
    """403, or a redirect to the login."""
    return response.status_code == 403 or (
        response.status_code == 302 and "/login/" in response.headers["Location"]
    )


def test_the_table_of_verbs_is_complete() -> None:
    """A verb that is added gets its rows here."""
    assert set(CASES) == set(VERBS)
    assert {verb: f"{VERBS[verb].permission}_job" for verb in CASES} == {
        verb: permission for verb, (_, permission) in CASES.items()
    }


@each_person
def test_each_verb_needs_its_own_permission(client_for: ClientFor, who: str) -> None:
    """By its address: done for those with `view_job` and its own permission, refused for all others."""
    client = client_of(client_for, who)
    for verb, (traits, permission) in CASES.items():
        job = JobFactory.create(**traits)
        before = rows()

        response = client.post(page_url(job, verb), {"reason": "because"})

        if {"view_job", permission} <= permissions_of(who):
            assert response.status_code == 302, verb
            assert response.headers["Location"].startswith(page_url(job))
            assert rows() != before
        else:
            assert is_refused(response), verb
            assert rows() == before


@each_person
def test_each_action_needs_its_own_permission(client_for: ClientFor, who: str) -> None:
    """By the list: an action that is posted by hand is done for the same people and no others."""
    client = client_of(client_for, who)
    for verb, (traits, permission) in CASES.items():
        job = JobFactory.create(**traits)
        before = rows()

        client.post(list_url(), {"action": ACTIONS[verb], "_selected_action": [job.pk], "index": 0})

        assert (rows() != before) is ({"view_job", permission} <= permissions_of(who)), verb


@each_person
def test_pages_need_the_permission_to_view(client_for: ClientFor, who: str) -> None:
    """List, page and history are for `view_job` alone: neither `change_job` nor a verb opens them."""
    job, client = JobFactory.create(failed=True, history=2), client_of(client_for, who)

    for url in (list_url(), page_url(job), page_url(job, "history")):
        response = client.get(url)
        if "view_job" in permissions_of(who):
            assert response.status_code == 200
        else:
            assert is_refused(response), url
            assert b"fulfil_order" not in response.content


@pytest.mark.parametrize("who", ["anonymous", "change", "all but view", "all verbs"])
def test_nobody_adds_changes_or_deletes(client_for: ClientFor, who: str) -> None:
    """The admin's own ways to change a row are shut for everybody, whatever he may."""
    job, worker, client = (
        JobFactory.create(failed=True),
        WorkerFactory.create(),
        client_of(client_for, who),
    )
    before = rows(), list(Worker.objects.values())

    for model, row in (("job", job), ("worker", worker)):
        base = f"/admin/django_tasks_seq/{model}/"
        for url in ("add/", f"{row.pk}/delete/", f"{row.pk}/change/"):
            response = client.post(base + url, {"status": "READY", "post": "yes", "queues": "x"})
            assert is_refused(response), url
        chosen = {"action": "delete_selected", "_selected_action": [row.pk], "post": "yes"}
        client.post(base, chosen)

    assert (rows(), list(Worker.objects.values())) == before


def test_a_superuser_cannot_add_change_or_delete_either(admin_client: Client) -> None:
    """Not even a superuser, who may do all else."""
    job = JobFactory.create(failed=True)
    before = rows()
    for url in ("add/", f"{job.pk}/delete/", f"{job.pk}/change/"):
        response = admin_client.post(f"/admin/django_tasks_seq/job/{url}", {"post": "yes"})
        assert is_refused(response)

    assert rows() == before


@pytest.mark.parametrize("permission", ["change_worker", "add_worker", "delete_worker", "view_job"])
def test_workers_are_for_their_own_permission(client_for: ClientFor, permission: str) -> None:
    """The list of workers is opened by `view_worker` alone."""
    worker = WorkerFactory.create()
    client = client_for(permission)

    for url in ("", f"{worker.pk}/change/"):
        assert is_refused(client.get(f"/admin/django_tasks_seq/worker/{url}"))


# --- below the admin


class Narrow(JobAdmin):
    """A site's admin that lets people retry their own jobs only."""

    def has_retry_permission(self, request: Any, obj: Job | None = None) -> bool:
        return super().has_retry_permission(request, obj) and (
            obj is None or obj.created_by == request.user.username
        )


def request_of(*permissions: str, superuser: bool = False) -> Any:
    request: Any = RequestFactory().post("/admin/")
    user = User.objects.create_user("eve", is_staff=True, is_superuser=superuser)
    user._perm_cache = {f"django_tasks_seq.{name}" for name in permissions}  # type: ignore[attr-defined]
    user._user_perm_cache = user._group_perm_cache = set()  # type: ignore[attr-defined]
    request.user = user
    messages: list[str] = []
    request._messages = type(
        "Storage", (), {"add": lambda self, level, text, tags: messages.append(text)}
    )()
    request.said = messages
    return request


@each_verb
@pytest.mark.parametrize("who", ["nobody", "view", "every other verb"])
def test_what_does_a_verb_asks_again(verb: str, who: str) -> None:
    """An action of a theme or of a site that forgets to ask cannot do what its user may not."""
    traits, permission = CASES[verb]
    job = JobFactory.create(**traits)
    others = ["view_job", *(p for p in VERB_PERMISSIONS if p != permission)]
    request = request_of(*{"nobody": [], "view": ["view_job"], "every other verb": others}[who])
    if who == "nobody":
        request.user = AnonymousUser()
    page: Any = admin.site._registry[Job]
    before = rows()

    with pytest.raises(PermissionDenied):
        page.do_in_bulk(request, verb, Job.objects.all())
    with pytest.raises(PermissionDenied):
        page._do(request, VERBS[verb], job, "")

    assert rows() == before


def test_an_action_asks_for_each_job() -> None:
    """Where a site lets people retry some jobs only, an action skips the others and says so."""
    mine = JobFactory.create(failed=True, history=2, created_by="eve")
    others = JobFactory.create(failed=True, history=2, created_by="anna")
    request = request_of("view_job", "retry_job")

    Narrow(Job, admin.site).do_in_bulk(request, "retry", Job.objects.all())

    mine.refresh_from_db()
    others.refresh_from_db()
    assert (mine.status, others.status) == ("READY", "FAILED")
    assert request.said == ["Retried 1 job, skipped 1 (not allowed)."]
    assert not others.events.exists()


def test_a_narrowed_queryset_hides_jobs_from_verbs(client_for: ClientFor, monkeypatch: Any) -> None:
    """What `get_queryset` leaves out has no page, no verb and no action."""
    page = admin.site._registry[Job]
    hidden = JobFactory.create(failed=True, history=2, queue="others")
    real = type(page).get_queryset
    monkeypatch.setattr(
        type(page),
        "get_queryset",
        lambda self, request: real(self, request).exclude(queue="others"),
    )
    client = client_for("view_job", *VERB_PERMISSIONS)
    before = rows()

    assert client.post(page_url(hidden, "retry")).status_code == 404
    client.post(list_url(), {"action": "retry_selected", "_selected_action": [hidden.pk]})
    data = {"action": "retry_selected", "select_across": "1", "_selected_action": [hidden.pk]}
    client.post(list_url(), data)

    assert rows() == before


# --- S4: by which request


@each_verb
def test_no_other_method_than_post_does_anything(admin_client: Client, verb: str) -> None:
    """A link, an image or a prefetch changes nothing."""
    job = JobFactory.create(**CASES[verb][0])
    before = rows()

    for method in ("get", "head", "options", "put", "patch", "delete", "trace"):
        assert getattr(admin_client, method)(page_url(job, verb)).status_code == 405
    assert rows() == before


@each_verb
def test_a_post_without_token_is_refused(admin_client: Client, verb: str) -> None:
    """Neither a verb nor an action is done for a form of another site."""
    job = JobFactory.create(**CASES[verb][0])
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies
    before = rows()

    chosen = {"action": ACTIONS[verb], "_selected_action": [job.pk], "index": 0}
    assert strict.post(page_url(job, verb)).status_code == 403
    assert strict.post(list_url(), chosen).status_code == 403
    assert rows() == before


def test_an_address_of_the_list_does_nothing(admin_client: Client) -> None:
    """An action in the query of a GET is not done."""
    job = JobFactory.create(failed=True, history=2)
    before = rows()
    admin_client.get(list_url(), {"action": "retry_selected", "_selected_action": str(job.pk)})

    assert rows() == before


# --- S20: which addresses there are


def addresses(patterns: Any, prefix: str = "") -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for one in patterns:
        if isinstance(one, URLResolver):
            found += addresses(one.url_patterns, prefix + str(one.pattern))
        elif isinstance(one, URLPattern):
            found.append((prefix + str(one.pattern), one.callback))
    return found


def test_no_address_of_ours_is_open() -> None:
    """Each address is the admin's, and sends strangers to the login: there is no other to leave open."""
    ours = [
        path for path, _ in addresses(get_resolver().url_patterns) if "django_tasks_seq" in path
    ]
    assert len(ours) >= len(VERBS) + 6
    job, stranger = JobFactory.create(), Client()

    for pattern in ours:
        path = pattern.replace("<uuid:job_id>", str(job.pk)).replace(
            "<path:object_id>", str(job.pk)
        )
        response = stranger.get("/" + path)
        # Addresses without the last part lead to those with it.
        assert is_refused(
            stranger.get(response.headers["Location"]) if response.status_code == 301 else response
        ), path


# --- S6: what is kept


@each_verb
@pytest.mark.parametrize("how", ["page", "list"])
def test_each_deed_leaves_one_event(client_for: ClientFor, verb: str, how: str) -> None:
    """Once each: an event with person, reason, before and after, and an entry in the admin's log."""
    traits, permission = CASES[verb]
    job = JobFactory.create(**traits)
    before = job.status
    client = client_for("view_job", permission, name="berta")

    if how == "page":
        client.post(page_url(job, verb), {"reason": "as they\nasked", "by": "somebody else"})
    else:
        client.post(list_url(), {"action": ACTIONS[verb], "_selected_action": [job.pk]})

    job.refresh_from_db()
    event, entry = JobEvent.objects.get(), LogEntry.objects.get()
    assert (event.job_id, event.by) == (job.pk, "berta")
    assert event.reason == ("as they asked" if how == "page" else "")
    assert (event.status_before, event.status_after) == (before, job.status)
    assert before != job.status
    assert (entry.user.username, entry.object_id) == ("berta", str(job.pk))


@each_verb
def test_a_deed_that_is_refused_leaves_no_event(admin_client: Client, verb: str) -> None:
    """What was not done is not in the log of what was."""
    final = JobFactory.create(successful=True) if verb != "retry-all" else JobFactory.create()
    admin_client.post(page_url(final, verb))

    assert not JobEvent.objects.exists()
    assert not LogEntry.objects.exists()


def test_what_was_done_cannot_be_edited(admin_client: Client) -> None:
    """Events and attempts have no pages of their own: there is nothing to edit them with."""
    event = JobEventFactory.create()
    registered = set(admin.site._registry)

    assert not {JobEvent, TaskAttempt, TaskStatus} & registered
    for model in ("jobevent", "taskattempt", "taskstatus"):
        for url in ("", "add/", f"{event.pk}/change/", f"{event.pk}/delete/"):
            path = f"/admin/django_tasks_seq/{model}/{url}"
            assert admin_client.post(path).status_code == 404
