"""The reference pages of API, commands, signals and glossary say what the code has, no more and no less."""

import ast
import inspect
import re
from argparse import Action, ArgumentParser
from collections.abc import Callable
from typing import Any

import pytest
from django.core.management import load_command_class
from django.core.management.base import BaseCommand

import django_tasks_seq
from django_tasks_seq import (
    BaseTaskLogger,
    TaskContext,
    TaskExecutor,
    cache,
    executor,
    models,
    signals,
    testing,
)
from django_tasks_seq.consuming import TaskRun
from django_tasks_seq.management.verbs import VERBS
from tests.docs.blocks import ROOT

REFERENCE = ROOT / "docs/reference"
API = (REFERENCE / "api.md").read_text()
COMMANDS = (REFERENCE / "commands.md").read_text()
SIGNALS = (REFERENCE / "signals.md").read_text()
EVERYTHING = "\n".join(path.read_text() for path in sorted((ROOT / "docs").rglob("*.md")))


def signatures() -> dict[str, list[str]]:
    """What api.md writes as `name(arguments)`, by name: the names of the arguments."""
    found = {}
    for text in re.findall(r"`(\w+\([^`…]*\))`", API):
        try:
            (function,) = ast.parse(f"def {text}: pass").body
        except SyntaxError:  # a call, and no declaration: `("id", task)`
            continue
        assert isinstance(function, ast.FunctionDef)
        arguments = function.args
        found[function.name] = [one.arg for one in [*arguments.args, *arguments.kwonlyargs]]
    return found


def declared(name: str) -> Callable[..., Any] | None:
    """The function or class that api.md means by a name."""
    for place in (executor, django_tasks_seq, TaskContext, BaseTaskLogger):
        if hasattr(place, name):
            return getattr(place, name)
    return None


@pytest.mark.parametrize(("name", "arguments"), signatures().items())
def test_signatures_are_those_of_the_code(name: str, arguments: list[str]) -> None:
    """Each signature of the API page has the arguments of the code, in order."""
    found = declared(name)
    if found is None:
        assert name in dir(models.Job) + dir(models.Job.objects) + dir(models.Worker.objects)
        return
    taken = [one for one in inspect.signature(found).parameters if one != "self"]

    assert arguments in (taken, [])


@pytest.mark.parametrize("name", django_tasks_seq.__all__)
def test_each_public_name_is_documented(name: str) -> None:
    """No name is exported that no page of the documentation mentions."""
    assert re.search(rf"\b{name}\b", EVERYTHING)


def test_each_function_of_the_executor_is_in_the_api() -> None:
    """What `TaskExecutor` wraps stands in the API page, twins included, and the module has it as well."""
    names = [name for name in vars(TaskExecutor) if not name.startswith("_")]

    assert [name for name in names if f"`{name}" not in API] == []
    assert [name for name in names if not hasattr(executor, name)] == []


def test_each_attribute_of_the_context_is_in_the_api() -> None:
    """The table of `TaskContext` names all that a task may use."""
    class_names = {name for name in dir(TaskContext) if not name.startswith("_")}
    (table,) = re.findall(r"^## `TaskContext`\n(.*?)^## ", API, re.MULTILINE | re.DOTALL)

    assert class_names - {"deadline"} <= set(re.findall(r"`(\w+)", table))


def test_each_name_of_the_testing_module_is_in_the_api() -> None:
    """What tests may import is named."""
    names = [name for name in testing.__all__ if name != "options_from_settings"]

    assert [name for name in names if f"`{name}`" not in API] == []


@pytest.mark.parametrize("model", ["Job", "TaskStatus", "TaskAttempt", "JobEvent", "Worker"])
def test_fields_of_the_models_exist(model: str) -> None:
    """Each name in a model's row of the API page is an attribute of that model."""
    (row,) = re.findall(rf"^\| `{model}`.*?\| (.*) \|$", API, re.MULTILINE)
    names = re.findall(r"\b\w+\b", " ".join(re.findall(r"`([^`]+)`", row)))

    assert names
    assert [name for name in names if not hasattr(getattr(models, model), name)] == []


def options_in(heading: str) -> dict[str, str]:
    """The table of options of a part of the page: their defaults by name."""
    (part,) = re.findall(rf"^{heading}\n(.*?)(?=^##|\Z)", COMMANDS, re.MULTILINE | re.DOTALL)
    return dict(re.findall(r"^\| `(--[a-z-]+)[^`]*` \| (.*?) \|", part, re.MULTILINE))


def options_of(parser: ArgumentParser) -> dict[str, Action]:
    """The options that are a command's own, by name."""
    common = {one.dest for one in BaseCommand().create_parser("", "")._actions}
    return {one.option_strings[0]: one for one in parser._actions if one.dest not in common}


def test_the_options_of_the_worker_are_documented() -> None:
    """The table of `run_task_worker` has all options of the command, with their defaults."""
    command = load_command_class("django_tasks_seq", "run_task_worker")
    options = options_of(command.create_parser("manage.py", ""))
    rows = options_in("## run_task_worker")

    assert rows.keys() == options.keys()
    for name, default in rows.items():
        if re.match(r"\d", default):
            assert float(default) == options[name].default


@pytest.mark.parametrize("verb", VERBS)
def test_the_verbs_of_the_toolbox_are_documented(verb: str) -> None:
    """Each has a part of its own, whose table has all its options."""
    parser = ArgumentParser()
    VERBS[verb].add_arguments(parser)

    assert options_in(f"### tasks_seq {verb}").keys() == options_of(parser).keys()


def test_signals_are_documented_with_their_arguments() -> None:
    """The table names each signal, with the arguments that its module's docstring gives."""
    rows = dict(re.findall(r"^\| `(\w+)` \| `([\w, ]+)` \|", SIGNALS, re.MULTILINE))
    stated = dict(re.findall(r"^`(\w+)` +`([\w, ]+)`", signals.__doc__ or "", re.MULTILINE))

    assert rows.keys() == set(signals.__all__)
    assert rows == stated


def test_the_reasons_of_a_task_run_are_documented() -> None:
    """Each reason that `execute_task` can give has a row in the page on start handlers."""
    (reasons,) = re.findall(r"Reasons: ([\w,\s]+)\.", TaskRun.__doc__ or "")
    page = (ROOT / "docs/how-to/start-handlers.md").read_text()
    table = "\n".join(line for line in page.splitlines() if line.startswith("| `"))

    assert [one for one in re.split(r",\s*", reasons) if f"`{one}`" not in table] == []


@pytest.mark.parametrize(
    "name", ["BaseJobStore", "InMemoryTaskCacheHandler", "ModelTaskCacheHandler"]
)
def test_capabilities_of_the_cache_handlers_are_those_of_the_code(name: str) -> None:
    """The table of cache handlers says yes where a handler has claims, or atomic tasks."""
    page = (REFERENCE / "cache-handlers.md").read_text()
    row = re.search(rf"^\| `{name}`.*", page, re.MULTILINE)
    if row is None:
        assert name in page
        return
    cells = [cell.strip() for cell in row[0].split("|")]
    handler = getattr(cache, name)

    assert (cells[3] != "no", cells[4] != "no") == (
        handler.supports_claims,
        handler.supports_atomic_tasks,
    )


def test_documents_have_the_fields_that_the_page_names() -> None:
    """The fields of a job's and a task's document are those that new documents have."""
    page = (REFERENCE / "cache-handlers.md").read_text()
    job, task = (
        set(re.findall(r"\b[a-z_]{2,}\b", " ".join(re.findall(r"`([^`]+)`", part))))
        for part in re.findall(
            r"^\*\*A (?:job|task status)\*\* has (.*?)\n\n", page, re.MULTILINE | re.DOTALL
        )
    )
    job_row = {one.attname for one in models.Job._meta.concrete_fields} - {"rank"}
    task_row = {one.attname for one in models.TaskStatus._meta.concrete_fields} - {"pk"}

    assert job == job_row
    assert task - {"job"} == task_row


def test_the_architecture_names_files_that_exist() -> None:
    """A reader who follows a job finds each file that the page names."""
    page = (ROOT / "docs/explanation/architecture.md").read_text()
    files = set(re.findall(r"\b((?:[a-z_]+/)*[a-z_]+\.py)\b", page)) - {"tasks_sequences.py"}
    places = (ROOT, ROOT / "django_tasks_seq")

    assert len(files) > 30
    assert [one for one in files if not any((place / one).exists() for place in places)] == []
