"""S3: what a row or a person says is shown as text, in every field of every page."""

from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest
from django.test import Client

from django_tasks_seq.models import Job
from tests.admin.conftest import list_url, page_url
from tests.admin.test_hostile_text import HARMLESS, hostile_job, shapes
from tests.security.vectors import XSS

pytestmark = pytest.mark.django_db
WORKERS = "/admin/django_tasks_seq/worker/"
# Parameters that a page shows again: in links of the filters, in the search box, in messages.
PARAMETERS = (
    *("status", "sequence", "queue", "created", "worker", "q", "p", "o", "_changelist_filters"),
    "unknown",
)


@pytest.fixture
def harmless() -> Job:
    return hostile_job(HARMLESS)


@pytest.mark.parametrize("view", ["change", "history"])
def test_no_vector_becomes_markup_on_a_jobs_pages(
    admin_client: Client, harmless: Job, view: str
) -> None:
    """Of each vector in every field of a job, its page and its history have no other elements."""
    expected = shapes(admin_client.get(page_url(harmless, view)))

    # The history shows less of a job.
    for text in XSS if view == "change" else XSS[::4]:
        job = hostile_job(text)
        assert shapes(admin_client.get(page_url(job, view))) == expected, text


def test_a_vector_is_on_the_page_as_text(admin_client: Client) -> None:
    """What is escaped is shown all the same: nothing was taken out that people need to see."""
    for text in XSS[:6]:
        html = admin_client.get(page_url(hostile_job(text))).content.decode()
        assert unescape(html).count(text[:9]) >= 10, text


def test_no_vector_becomes_markup_in_the_lists(admin_client: Client, harmless: Job) -> None:
    """A list that holds all vectors at once has the elements of one that holds harmless text."""
    expected = {url: shapes(admin_client.get(url)) for url in (list_url(), WORKERS)}
    for text in XSS:
        hostile_job(text)

    for url, elements in expected.items():
        assert shapes(admin_client.get(url)) == elements


def test_no_vector_becomes_markup_through_an_address(admin_client: Client, harmless: Job) -> None:
    """Filters, search, paging and unknown parameters show no value as markup, nor fail."""
    whole = _elements(admin_client, {}) | _elements(
        admin_client, dict.fromkeys(PARAMETERS[:-1], HARMLESS)
    )
    known = {name: whole | _elements(admin_client, {name: HARMLESS}) for name in PARAMETERS}
    for text in XSS:
        assert _elements(admin_client, dict.fromkeys(PARAMETERS[:-1], text)) <= whole, text
    for text in (XSS[0], XSS[5], XSS[8], XSS[16], XSS[25], XSS[28]):
        hostile_job(text)
        for name, expected in known.items():
            assert _elements(admin_client, {name: text}) <= expected, (name, text)


def _elements(client: Client, data: dict[str, str]) -> set[Any]:
    # A parameter that Django does not know leads back to the list, with `e=1`.
    return shapes(client.get(list_url(), data, follow=True))


class Inline(HTMLParser):
    """What a strict content policy refuses: inline scripts, styles, handlers, and strange sources."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in {"style", "base", "object", "embed", "iframe"}:
            self.found.append(tag)
        if tag == "script" and "src" not in values:
            self.found.append("inline script")
        self.found += [name for name in values if name == "style" or name.startswith("on")]
        for name in ("src", "href", "action", "formaction"):
            address = values.get(name) or ""
            if ":" in address.split("/")[0] or address.startswith("//"):
                self.found.append(f"{name}={address}")


def test_all_pages_work_under_a_strict_content_policy(admin_client: Client, harmless: Job) -> None:
    """No page needs more than `default-src 'self'`: nothing inline, nothing from elsewhere."""
    for job in (harmless, hostile_job(XSS[0]), hostile_job(XSS[5])):
        for url in (list_url("status=attention"), page_url(job), page_url(job, "history"), WORKERS):
            assert Inline(admin_client.get(url).content.decode()).found == [], url


def test_the_policy_check_sees_what_it_should() -> None:
    """Each thing that a strict policy refuses is found."""
    for html in (
        "<script>x</script>",
        "<p style='a'>",
        "<a onclick=x>",
        "<style></style>",
        "<a href='javascript:x'>",
        "<img src='//evil'>",
        "<base href=/x>",
    ):
        assert Inline(html).found
