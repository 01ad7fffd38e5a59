"""The house rules of the package, read from its source: imports, status writers, clock, sizes."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

import django_tasks_seq

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "django_tasks_seq"

# A module may import from its own layer and from those below it. What is not named has no place.
LAYERS: list[set[str]] = [
    {"management", "admin", "checks", "server_checks", "contrib", "testing", "apps", "routers"},
    {"engine"},
    {"executor", "starting", "consuming", "announcements", "new_jobs"}
    | {
        "attempt",
        "atomic",
        "outcomes",
        "status",
        "repairs",
        "unknown",
        "task_call",
        "handler_call",
        "health",
        "hygiene",
        "verdicts",
        "status_parts",
        "pruning",
    },
    {"cache", "handlers"},
    {"models", "querysets", "registry", "context"},
    {"sequences", "payloads", "payload_types", "tasks", "fields", "transitions"}
    | {"json_problems", "plain_types", "declarations", "retry"},
    {
        "conf",
        "clock",
        "signals",
        "exceptions",
        "choices",
        "text",
        "errors_text",
        "conf_rules",
        "ids",
    }
    | {"injection", "loggers"},
]
LAYER_OF = {name: number for number, layer in enumerate(LAYERS) for name in layer}

MAX_MODULE_LINES = 350
MAX_FUNCTION_LINES = 40

Function = ast.FunctionDef | ast.AsyncFunctionDef


def python_files(folder: Path) -> list[Path]:
    files = sorted(folder.rglob("*.py"))
    return [path for path in files if not {"migrations", "var"} & set(path.parts)]


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


MODULES = [pytest.param(path, id=relative(path)) for path in python_files(PACKAGE)]
TEST_FILES = [
    pytest.param(path, id=relative(path))
    for path in python_files(ROOT / "tests")
    if path.name.startswith("test_")
]
every_module = pytest.mark.parametrize("path", MODULES)


def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), filename=str(path))


def part_of(path: Path) -> str:
    """Return the first name below the package: `cache` for `cache/model/store.py`."""
    return path.relative_to(PACKAGE).with_suffix("").parts[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk_runtime(node: ast.AST) -> Iterator[ast.AST]:
    """Walk all but what stands under `if TYPE_CHECKING:`."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield from walk_runtime(child)


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of each name that a module imports when it runs."""
    package = (PACKAGE.name, *path.relative_to(PACKAGE).parts[:-1])
    for node in walk_runtime(parse(path)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield from ((node.lineno, f"{base}.{alias.name}") for alias in node.names)


def inner_imports(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, names below the package) of each import from the package itself."""
    for line, name in imports(path):
        first, *rest = name.split(".")
        if first == PACKAGE.name and rest != ["__version__"]:
            yield line, rest


def calls(tree: ast.AST) -> Iterator[ast.Call]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.Call))


def last_name(node: ast.expr) -> str:
    return ast.unparse(node).rpartition(".")[2]


# Imports


@every_module
def test_each_module_imports_from_its_own_layer_or_below(path: Path) -> None:
    """No module imports, even inside a function, from a layer above its own."""
    part = part_of(path)
    if part == "__init__":
        return
    assert part in LAYER_OF, f"give {part!r} a layer in tests/test_architecture.py"

    wrong = [
        f"{relative(path)}:{line} imports {'.'.join(rest) or 'the package itself'}"
        for line, rest in inner_imports(path)
        if LAYER_OF.get(rest[0] if rest else "", -1) < LAYER_OF[part]
    ]

    assert wrong == []


@every_module
def test_contribs_do_not_know_each_other(path: Path) -> None:
    """A module of one contrib imports nothing from another."""
    below = path.relative_to(PACKAGE).with_suffix("").parts
    others = [
        f"{relative(path)}:{line}"
        for line, rest in inner_imports(path)
        if below[0] == "contrib" and rest[:1] == ["contrib"] and rest[1:2] != list(below[1:2])
    ]

    assert others == []


def run_python(code: str) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=ROOT,
        env={"PATH": ""},
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize("module", ["django_tasks_seq", "django_tasks_seq.sequences"])
def test_declarations_need_neither_settings_nor_orm(module: str) -> None:
    """The package and `sequences` can be imported without settings and load no ORM."""
    code = f"import sys, {module}; print('django.db.models' in sys.modules)"

    assert run_python(code) == "False"


def test_sequences_are_declared_without_the_orm() -> None:
    """The names that a `tasks_sequences.py` needs resolve without settings and load no ORM."""
    names = "BaseTask, Retry, TaskSequence, TaskSpec, register_sequence"
    code = f"from django_tasks_seq import {names}; import sys; print('django.db.models' in sys.modules)"

    assert run_python(code) == "False"


@pytest.mark.parametrize("name", django_tasks_seq.__all__)
def test_each_public_name_resolves_and_is_documented(name: str) -> None:
    """Every name of `__all__` is there and has a docstring of its own."""
    value = getattr(django_tasks_seq, name)

    if isinstance(value, type | ModuleType) or callable(value):
        assert (value.__doc__ or "").strip(), f"{name} has no docstring"
    assert name in dir(django_tasks_seq)


# Statuses

STATUS_WRITERS = {
    "status",
    "cache",
    "exceptions",  # an error carries the status it met
}
WRITING_CALLS = re.compile(
    r"^a?(update|create|get_or_create|update_or_create|bulk_update)$|^(Job|TaskStatus)$"
)
STATUS_SQL = re.compile(r"\bSET\b[^;]*\bstatus\s*=|\bUPDATE\s+\w*(job|taskstatus)\b")


def status_writes(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that assign a status, pass one to a writing call, or hold SQL that sets one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign | ast.AugAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(one, ast.Attribute) and one.attr == "status" for one in targets):
                yield node.lineno
        elif isinstance(node, ast.Call) and WRITING_CALLS.match(last_name(node.func)):
            if any(keyword.arg == "status" for keyword in node.keywords):
                yield node.lineno
        elif isinstance(node, ast.Constant) and STATUS_SQL.search(str(node.value)):
            yield node.lineno


@every_module
def test_a_status_is_written_by_status_and_stores_alone(path: Path) -> None:
    """Only `status.py` computes a status write and only `cache/` applies one."""
    if part_of(path) in STATUS_WRITERS:
        return

    assert [f"{relative(path)}:{line}" for line in status_writes(parse(path))] == []


@pytest.mark.parametrize(
    "source",
    [
        "job.status = 'READY'",
        "Job.objects.filter(pk=1).update(status='READY')",
        "Job(status='READY')",
        "cursor.execute('UPDATE job SET a = 1, status = %s')",
    ],
)
def test_the_status_rule_sees_each_form_of_writing(source: str) -> None:
    """The rule above finds an assignment, a queryset's update, a new row and SQL."""
    assert list(status_writes(ast.parse(source))) == [1]


# Clock and code from data

CLOCK_EXEMPT = {
    "clock",  # the one place
    "ids",  # a UUIDv7 begins with the milliseconds of the machine that made it; nothing is decided by them
}
WRONG_CLOCKS = re.compile(
    r"\b(timezone\.now|(datetime|dt)\.(now|utcnow|today)|date\.today|time\.time(_ns)?|"
    r"functions\.Now|CURRENT_TIMESTAMP|localtime)\b"
)
WRONG_CLOCK_IMPORTS = {"django.db.models.functions.Now", "time.time", "time.time_ns"} | {
    "django.utils.timezone.now"
}


@every_module
def test_now_comes_from_the_clock_alone(path: Path) -> None:
    """No module but `clock.py` asks the machine or Django for the time of day."""
    if part_of(path) in CLOCK_EXEMPT:
        return

    named = [
        f"{relative(path)}:{node.lineno}"
        for node in ast.walk(parse(path))
        if isinstance(node, ast.Attribute) and WRONG_CLOCKS.search(ast.unparse(node))
    ]
    imported = [f"{relative(path)}:{n}" for n, name in imports(path) if name in WRONG_CLOCK_IMPORTS]

    assert named + imported == []


BANNED_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "yaml"}
BANNED_CALLS = {"eval", "exec", "compile", "__import__"}
IMPORTERS = {"import_string", "import_module"}
IMPORTING_PARTS = {
    "conf",  # dotted paths of the settings
    "__init__",  # public names, resolved when asked for
}


@every_module
def test_nothing_is_unpickled_or_evaluated(path: Path) -> None:
    """No module can turn data into code: no pickle, no YAML, no eval."""
    imported = [n for n, name in imports(path) if name.split(".")[0] in BANNED_MODULES]
    called = [
        call.lineno
        for call in calls(parse(path))
        if isinstance(call.func, ast.Name) and call.func.id in BANNED_CALLS
    ]

    assert [f"{relative(path)}:{line}" for line in imported + called] == []


@every_module
def test_only_settings_name_code(path: Path) -> None:
    """No module but `conf.py` imports by a dotted path, so no row or message can name code."""
    if part_of(path) in IMPORTING_PARTS:
        return

    found = [call.lineno for call in calls(parse(path)) if last_name(call.func) in IMPORTERS]

    assert [f"{relative(path)}:{line}" for line in found] == []


# Sizes


def functions(tree: ast.AST) -> Iterator[Function]:
    return (node for node in ast.walk(tree) if isinstance(node, Function))


@every_module
def test_modules_and_functions_are_short(path: Path) -> None:
    """A module has at most 350 lines and a function at most 40."""
    lines = len(path.read_text().splitlines())
    long = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for node in functions(parse(path))
        if (node.end_lineno or node.lineno) - node.lineno + 1 > MAX_FUNCTION_LINES
    ]

    assert lines <= MAX_MODULE_LINES
    assert long == []


# Tests


@pytest.mark.parametrize("path", TEST_FILES)
def test_each_test_states_the_behaviour(path: Path) -> None:
    """Every test has a docstring whose first line is a sentence."""
    silent = [
        f"{relative(path)}:{node.lineno} {node.name}"
        for node in functions(parse(path))
        if node.name.startswith("test_")
        and not re.search(r"[.?!:]$", (ast.get_docstring(node) or "").split("\n\n")[0].strip())
    ]

    assert silent == []
