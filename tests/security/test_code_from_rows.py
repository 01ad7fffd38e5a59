"""S1, S2, S18, S22: no row, message or name leads to code that its sequence did not declare."""

import ast
import base64
import os
import pickle
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.test import Client

import django_tasks_seq
from django_tasks_seq import TaskFailed, UnknownSequence, executor
from django_tasks_seq.models import Job, TaskAttempt
from django_tasks_seq.testing import advance, drain
from tests.admin.conftest import list_url, page_url
from tests.database.conftest import Declare
from tests.database.working import Inbox, same
from tests.factories import JobFactory, TaskAttemptFactory, TaskStatusFactory
from tests.test_architecture import (
    PACKAGE,
    calls,
    imports,
    last_name,
    parse,
    python_files,
    relative,
)

Configure = Callable[..., None]

TRAP = "tests.security.trap"
NAMES = [
    "os.system",
    "os:system",
    "subprocess.Popen",
    "evil.mod.f",
    f"{TRAP}.run",
    f"{TRAP}:run",
    TRAP,
    "builtins.eval",
    "__import__('tests.security.trap')",
    "django_tasks_seq.registry.autodiscover",
    "tests.testapp.tasks_sequences.withdraw",
    "pr\u043ebe",  # a Cyrillic letter
    "probe\u200b",
    "PROBE",
    "probe.",
    "{0.__class__.__init__.__globals__}",
    "%(x)s",
    "../../tests/security/trap",
]


@pytest.fixture
def nothing_imported(declare: Declare, admin_client: Client) -> Iterator[None]:
    """What is imported lazily has been; nothing else may be by what the test does."""
    declare(same, name="warm")
    warm = executor.start_sequence("warm")
    drain()
    for url in (list_url(), page_url(warm), page_url(warm, "history")):
        admin_client.get(url)
    before = set(sys.modules)
    yield
    assert {name for name in sys.modules if name not in before} == set()
    assert TRAP not in sys.modules


@pytest.mark.django_db
def test_a_name_that_is_not_registered_starts_nothing(
    declare: Declare, nothing_imported: None
) -> None:
    """A path to code, and a name that looks like a sequence's, are refused before any row is written."""
    declare(same)
    for name in [*NAMES, " probe", "probe\n"]:
        with pytest.raises(UnknownSequence):
            executor.start_sequence(name)

    assert Job.objects.filter(sequence="warm").count() == Job.objects.count()


@pytest.mark.django_db
def test_a_row_that_names_code_runs_none(
    declare: Declare, configure: Configure, nothing_imported: None, admin_client: Client
) -> None:
    """As sequence, task, subject or class of an exception: the job is set aside, or runs as declared."""
    configure(UNKNOWN_TASK_GRACE=3600)
    declare(same, name="probe")
    facts = {"sequence": "probe", "plan": ["t1"]}
    aside = [JobFactory.create(**{**facts, "sequence": name}) for name in NAMES]
    aside += [JobFactory.create(**{**facts, "plan": [name, "t1"]}) for name in NAMES]
    subjects = [JobFactory.create(**facts, subject_type=name, subject_id="1") for name in NAMES]
    drain()

    assert {job.refresh().status for job in aside} == {"WAITING"}
    assert {job.refresh().status for job in subjects} == {"SUCCESSFUL"}
    for job, name in zip(aside, NAMES * 2, strict=True):
        TaskStatusFactory.create(job=job, failed=True, error=name)
        TaskAttemptFactory.create(job=job, exception_class=name)
    for job in (*aside, *subjects):
        assert admin_client.get(page_url(job)).status_code == 200
    assert admin_client.get(list_url()).status_code == 200


@pytest.mark.django_db
def test_a_row_that_names_code_fails_when_nobody_knows_it(
    declare: Declare, configure: Configure, nothing_imported: None
) -> None:
    """After the grace the job fails, with the name as text, and its neighbours run."""
    configure(UNKNOWN_TASK_GRACE=0)
    declare(same, name="probe")
    jobs = [JobFactory.create(sequence=name, plan=["t1"]) for name in NAMES]
    canary = executor.start_sequence("probe", 7)
    drain()
    advance(60)
    drain()

    assert {job.refresh().status for job in jobs} == {"FAILED"}
    assert all("SequenceChanged" in job.error for job in jobs)
    assert canary.refresh().result == 7


@pytest.mark.django_db
@pytest.mark.parametrize("path", [f"{TRAP}.Boom", "os.system", "builtins.KeyError", "x"])
def test_an_error_is_never_built_again_from_its_row(
    declare: Declare, nothing_imported: None, path: str
) -> None:
    """An error handler gets names; `is_a` compares them and imports nothing."""
    seen: list[Any] = []

    def look(error: TaskFailed, context: Any) -> None:
        seen.append((error.exception_class, error.is_a(ValueError), type(error)))

    declare(same, error_handler=look)
    job = JobFactory.create(
        failed=True, sequence="probe", plan=["t1"], handler_due="error", handler_attempts=0
    )
    TaskAttemptFactory.create(job=job, exception_class=path, exception_bases=[path])
    drain()

    assert seen == [(path, False, TaskFailed)]


@pytest.mark.django_db
def test_a_message_can_only_name_what_its_job_stands_before(
    declare: Declare, inbox: Inbox, nothing_imported: None
) -> None:
    """A consumer's message with a path, or with another registered sequence, runs nothing."""
    ran: list[Any] = []
    declare(ran.append, name="probe")
    job = executor.start_sequence("probe")

    for name in [*NAMES, "warm", "t2", "@success", "@error", "t1:", ""]:
        run = executor.execute_task(job.id, name)
        assert (run.ran, run.reason) == (False, "not_next"), name
        assert executor.execute_task(name, "t1").reason == "unknown_job"

    assert ran == []


# --- S2


class Bomb:
    """Unpickling it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mknod, (self.path,)


@pytest.mark.django_db
@pytest.mark.parametrize("form", ["latin-1", "base64", "text", "yaml"])
def test_a_bomb_in_any_field_does_not_go_off(
    declare: Declare, inbox: Inbox, admin_client: Client, tmp_path: Path, form: str
) -> None:
    """A pickle, or YAML that names a call, in every text of a job is kept and shown as text."""
    mark = tmp_path / "exploded"
    bomb = pickle.dumps(Bomb(mark), protocol=0)
    text = {
        "latin-1": bomb.decode("latin-1"),
        "base64": base64.b64encode(pickle.dumps(Bomb(mark))).decode(),
        "text": f"!!python/object/apply:os.mknod ['{mark}']",
        "yaml": f"__import__('os').mknod('{mark}')",
    }[form]
    declare(same, error_handler=lambda error: error.message)
    job = executor.start_sequence("probe", {text: [text]}, created_by=text)
    run = executor.execute_task(job, "t1", text)
    failed = JobFactory.create(
        failed=True,
        sequence="probe",
        plan=["t1"],
        payload=text,
        result=text,
        error=text,
        error_result=text,
        handler_due="error",
        verdicts={text[:5]: 1},
    )
    TaskStatusFactory.create(job=failed, failed=True, result=text, progress={"message": text})
    facts = {"message": text, "traceback": text, "exception_class": text[:250]}
    TaskAttemptFactory.create(job=failed, exception_bases=[text], **facts)
    drain()

    assert run.outcome == "SUCCESSFUL"
    assert failed.refresh().error_result == text
    for one in (job, failed):
        assert admin_client.get(page_url(one)).status_code == 200
    assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists(), "the bomb is none"


# --- what the source of the package may not hold

MODULES = [pytest.param(path, id=relative(path)) for path in python_files(PACKAGE)]
TEMPLATES = sorted((Path(django_tasks_seq.__file__).parent / "templates").rglob("*.html"))
# What turns data into code or markup, opens a hole in Django's defences, or calls out.
BANNED_NAMES = re.compile(
    r"^(mark_safe|SafeText|csrf_exempt|login_not_required|system|popen|execv\w*|spawn\w*|getoutput|"
    r"loads_pickle|literal_eval|import_string|runpy|__globals__|__subclasses__)$"
)
BANNED_IMPORTS = {"pickle", "marshal", "shelve", "dill", "yaml", "ctypes", "runpy", "code", "pty"} | {
    "urllib.request", "http.client", "smtplib", "ftplib", "telnetlib", "requests", "httpx", "socketserver",
}  # fmt: skip


@pytest.mark.parametrize("path", MODULES)
def test_nothing_in_the_package_turns_data_into_code(path: Path) -> None:
    """No pickle, eval, shell, unescaped markup or outgoing call, and code is named by settings alone."""
    tree = parse(path)
    named = [
        f"{relative(path)}:{node.lineno} {ast.unparse(node)}"
        for node in ast.walk(tree)
        if (isinstance(node, ast.Attribute) and BANNED_NAMES.match(node.attr))
        or (isinstance(node, ast.Name) and BANNED_NAMES.match(node.id))
    ]
    imported = [
        f"{relative(path)}:{line} {name}"
        for line, name in imports(path)
        if any(name == one or name.startswith(f"{one}.") for one in BANNED_IMPORTS)
    ]
    called = [
        f"{relative(path)}:{call.lineno}"
        for call in calls(tree)
        if (
            last_name(call.func) in {"eval", "exec", "compile", "__import__"}
            and not ast.unparse(call.func).startswith("re.")
        )
        or any(keyword.arg == "shell" for keyword in call.keywords)
    ]

    assert named + imported + called == []


@pytest.mark.parametrize(
    ("source", "name"),
    [("x.mark_safe(y)", "mark_safe"), ("os.system('x')", "system"), ("popen('x')", "popen")],
)
def test_the_rule_sees_what_it_should(source: str, name: str) -> None:
    """A banned name is found as a name and as an attribute."""
    found = [getattr(n, "attr", getattr(n, "id", "")) for n in ast.walk(ast.parse(source))]

    assert name in [one for one in found if BANNED_NAMES.match(one)]


@pytest.mark.parametrize("path", TEMPLATES, ids=lambda path: path.name)
def test_no_template_switches_escaping_off(path: Path) -> None:
    """Templates hold no `safe` filter, no autoescape block, no script, style or handler."""
    text = path.read_text()

    assert not re.search(
        r"\|\s*(safe|safeseq|escapejs)\b|autoescape|<script|<style|\bstyle=|\bon\w+=", text
    )


@pytest.mark.django_db
def test_attempts_keep_text_alone() -> None:
    """No column of an attempt is binary: what an exception was is kept as names and text."""
    kinds = {type(field).__name__ for field in TaskAttempt._meta.concrete_fields}

    assert "BinaryField" not in kinds
