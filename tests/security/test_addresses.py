"""S17: no redirect and no link leads off the site, whatever an address or a row holds."""

from urllib.parse import quote, urlsplit

import pytest
from django.test import Client
from django.urls import reverse

from tests.admin.conftest import list_url, page_url
from tests.admin.test_hostile_text import Shapes
from tests.factories import JobFactory

pytestmark = pytest.mark.django_db

EVIL = [
    "//evil.example/",
    "///evil.example",
    "\\\\evil.example",
    "/\\evil.example",
    "https://evil.example/",
    "http:evil.example",
    "javascript:alert(1)",
    "JaVaScRiPt:alert(1)",
    "data:text/html,<script>",
    "\x01javascript:alert(1)",
    "http://testserver@evil.example/",
    "/admin/\r\nLocation: https://evil.example",
    "@evil.example",
]
each_address = pytest.mark.parametrize("evil", EVIL)


def leads_away(address: str) -> bool:
    """Whether a browser would leave the site for it, or run it."""
    plain = address.strip("\x00\x01 \t\r\n").replace("\\", "/")
    parts = urlsplit(plain)
    return bool(parts.netloc) or plain.startswith("//") or parts.scheme != ""


@each_address
def test_a_verb_leads_back_to_its_job(admin_client: Client, evil: str) -> None:
    """Whatever `next` and the like say, in the address or in the form."""
    fields = dict.fromkeys(("next", "redirect", "url", "return_to", "reason"), evil)
    for query in ("next", "_changelist_filters", "_popup", "_to_field"):
        job = JobFactory.create()
        response = admin_client.post(
            f"{page_url(job, 'pause')}?{query}={quote(evil)}",
            fields,
            headers={"referer": evil.replace("\r\n", "")},
        )
        address = response.headers["Location"]
        assert response.status_code == 302
        assert address.split("?")[0] == page_url(job)
        assert not leads_away(address)


@each_address
def test_the_login_does_not_lead_away(client: Client, evil: str) -> None:
    """Who has to log in first comes to the page that was asked for, or to the admin's index."""
    from django.contrib.auth.models import User

    User.objects.create_superuser("anna", password="pw")
    job = JobFactory.create()
    response = client.get(page_url(job))
    assert urlsplit(response.headers["Location"]).path == reverse("admin:login")

    data = {"username": "anna", "password": "pw", "next": evil}
    response = client.post(reverse("admin:login"), data)
    assert response.status_code == 302
    assert not leads_away(response.headers["Location"])


@each_address
def test_a_row_makes_no_link_that_leads_away(admin_client: Client, evil: str) -> None:
    """A subject's id, model or text is a part of an admin address, or no link."""
    text = evil.replace("\r\n", "")
    jobs = [
        JobFactory.create(subject_type="auth.user", subject_id=text, subject_label=text),
        JobFactory.create(subject_type=text, subject_id=text, subject_label=text),
        JobFactory.create(
            subject_type=f"testapp.{text}", subject_id="1", queue=text, created_by=text
        ),
    ]

    for url in (list_url(), *map(page_url, jobs)):
        response = admin_client.get(url)
        assert response.status_code == 200
        found = Shapes(response.content.decode()).addresses
        assert found
        assert not [address for address in found if leads_away(address)]


@each_address
def test_no_link_carries_a_foreign_host(admin_client: Client, evil: str) -> None:
    """Addresses are relative: a forged Host header gets into no page and no redirect."""
    job = JobFactory.create()
    response = admin_client.post(page_url(job, "pause"), headers={"host": "evil.example"})

    assert response.headers["Location"].startswith("/admin/")
    page = admin_client.get(page_url(job), headers={"host": "evil.example"})
    assert b"evil.example" not in page.content


def test_what_leads_away_is_seen() -> None:
    """The rule above finds each kind, and lets what stays on the site pass."""
    assert [leads_away(one) for one in EVIL[:10]] == [True] * 10
    assert not any(leads_away(one) for one in ("/admin/x/?next=//evil", "", "#top", "?a=b", "../"))
