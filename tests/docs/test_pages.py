"""Every Python block of the documentation runs, and every command and link in it exists."""

import copy
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.contrib import admin
from django.contrib.auth.models import AnonymousUser
from django.core.management import get_commands, load_command_class

from django_tasks_seq import TaskSequence, executor, register_sequence
from django_tasks_seq.conf import KNOWN_KEYS
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.docs.blocks import PAGES, ROOT, Page, anchors, blocks, commands, links, prose
from tests.testapp.models import Order

README = ROOT / "README.md"
INDEX = ROOT / "docs/index.md"


def named(pages: list[Path]) -> Any:
    return [pytest.param(page, id=str(page.relative_to(ROOT))) for page in pages]


every_page = pytest.mark.parametrize("path", named(PAGES))


@pytest.fixture
def admin_site(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a page registers in the admin is forgotten, and a theme can be imported."""
    theme = ModuleType("unfold.admin")
    vars(theme).update(ModelAdmin=admin.ModelAdmin)
    monkeypatch.setitem(sys.modules, "unfold", ModuleType("unfold"))
    monkeypatch.setitem(sys.modules, "unfold.admin", theme)
    before = dict(admin.site._registry)
    yield
    admin.site._registry.clear()
    admin.site._registry.update(before)


def started_order() -> dict[str, Any]:
    register_sequence(TaskSequence("fulfil_order", [("validate", lambda payload: payload)]))
    return {"executor": executor, "order": Order.objects.create(number="1049")}


def databases() -> dict[str, Any]:
    return {"DATABASES": {"default": {**copy.deepcopy(settings.DATABASES["default"])}}}


# What a page takes for granted, besides what its own blocks make.
GIVEN: dict[str, Callable[[], dict[str, Any]]] = {
    "docs/how-to/admin.md": started_order,
    "docs/reference/checks.md": databases,
}


@every_page
@pytest.mark.usefixtures("admin_site")
@pytest.mark.django_db
def test_python_blocks_run(path: Path) -> None:
    """A reader can copy each block of a page, from top to bottom, and it does what it says."""
    given = GIVEN.get(str(path.relative_to(ROOT)), dict)
    with Page(path).opened() as page:
        page.namespace |= given()

        assert page.run() == path.read_text().count("\n```python")

    unknown = set(page.namespace.get("TASKS_SEQ", {})) - set(KNOWN_KEYS)
    assert unknown == set()


@pytest.mark.parametrize(
    "path",
    named(sorted([*(ROOT / "docs/how-to").glob("*.md"), *(ROOT / "docs/tutorial").glob("*.md")])),
)
def test_each_how_to_has_something_to_run(path: Path) -> None:
    """A how-to page shows code or a command, not prose alone."""
    assert blocks(path, "python") or commands(path)


@every_page
def test_commands_exist_and_take_these_arguments(path: Path) -> None:
    """Each `manage.py` command of a page is parsed by the command itself, each `make` target is there."""
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for line in commands(path):
        words = shlex.split(line)
        while "=" in words[0]:
            del words[0]
        if words[0] == "make":
            assert words[1] in targets, line
        elif "manage.py" in words:
            name, *arguments = words[words.index("manage.py") + 1 :]
            parse(name, arguments, line)


def parse(name: str, arguments: list[str], line: str) -> None:
    assert name in get_commands(), line
    command = load_command_class(get_commands()[name], name)
    try:
        command.create_parser("manage.py", name).parse_args(arguments)
    except SystemExit:
        pytest.fail(f"{line!r} is refused by {name}")


@every_page
def test_links_lead_somewhere(path: Path) -> None:
    """Each relative link and picture of a page exists, and so does the heading it points to."""
    for link in links(path):
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path

        assert file.exists(), link
        assert not anchor or anchor in anchors(file), link


def test_the_index_leads_to_every_page() -> None:
    """No page of the documentation is hidden: the index links them all."""
    linked = {(INDEX.parent / link.partition("#")[0]).resolve() for link in links(INDEX)}

    assert {page for page in PAGES if (ROOT / "docs") in page.parents} - {INDEX} <= linked


@every_page
def test_pages_use_one_word_for_one_idea(path: Path) -> None:
    """The words that the glossary sets aside are in no page but the glossary and that of the other module."""
    if path.name in ("glossary.md", "nestjs.md"):
        return

    found = re.findall(
        r"\b(workflows?|pipelines?|steps?|stages?|node|executions?)\b", prose(path), re.IGNORECASE
    )

    assert found == []


# The README


@pytest.mark.django_db
def test_the_readme_s_example_fulfils_an_order(rf: Any) -> None:
    """What the README declares, started by its view and drained, charges once and fulfils the order."""
    order = Order.objects.create(number="1049", total="19.90")
    with Page(README).opened() as page:
        page.run()
        response = sys.modules["shop.views"].checkout(rf.post("/"), order.pk)
        drain()

    order.refresh_from_db()
    (job,) = Job.objects.for_subject(order)
    assert response.status_code == 202
    assert (job.status, job.result) == ("SUCCESSFUL", "receipt for 19.90")
    assert order.status == "fulfilled"
    assert page.gateway.charges == {f"{job.id}:charge": "receipt for 19.90"}


@pytest.mark.django_db
def test_the_how_to_s_view_starts_one_job(rf: Any) -> None:
    """The view of "Start a job from a view", called twice, saves the order and starts one job."""
    order = Order.objects.create(number="1049")
    request = rf.post("/")
    request.user = AnonymousUser()
    with Page(ROOT / "docs/how-to/start-from-a-view.md").opened() as page:
        page.run()
        answers = [sys.modules["shop.views"].pay(request, order.pk) for _ in range(2)]

    order.refresh_from_db()
    (job,) = Job.objects.for_subject(order)
    assert [json.loads(answer.content) for answer in answers] == [{"job": str(job.id)}] * 2
    assert (order.status, job.created_by) == ("paid", "AnonymousUser")


def test_the_readme_s_example_is_short() -> None:
    """The declaration takes some twenty lines, and the whole README at most 150."""
    declaration = blocks(README, "python")[0].strip().splitlines()[1:]

    assert len([line for line in declaration if line.strip()]) <= 20
    assert len(README.read_text().splitlines()) <= 150


def test_the_readme_says_the_promises_of_the_guarantees_page() -> None:
    """Both name the promises G1 to G11, each once as a row or a heading."""
    guarantees = (ROOT / "docs/explanation/guarantees.md").read_text()
    promises = [f"G{number}" for number in range(1, 12)]

    assert re.findall(r"^\| (G\d+) \|", README.read_text(), re.MULTILINE) == promises
    assert re.findall(r"^## (G\d+): ", guarantees, re.MULTILINE) == promises


def test_tests_that_prove_a_promise_exist() -> None:
    """Each test file or test that the guarantees page names is there."""
    text = (ROOT / "docs/explanation/guarantees.md").read_text()
    found = re.findall(r"`(tests/[\w/.]+?)(?:::(\w+))?`", text)
    missing = [
        f"{file}::{name}"
        for file, name in found
        if not (ROOT / file).exists() or (name and f"def {name}(" not in (ROOT / file).read_text())
    ]

    assert found
    assert missing == []
