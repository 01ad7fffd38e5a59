"""FAILURES.md: each failure of another system is covered by a test that exists, or says why by none."""

import ast
import re
from functools import cache
from pathlib import Path

from tests.helpers import ROOT

PAGES = (
    ROOT / "tests/chaos/FAILURES.md",
    ROOT / "docs/explanation/what-survives-what.md",
)
ROW = re.compile(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \|$", re.MULTILINE)
TEST = re.compile(r"`(tests/[\w/.]+)(?:::(\w+))?`")
FAILURES = 94


@cache
def names(path: Path) -> set[str]:
    """The test functions of a file, those of its classes included."""
    tree = ast.parse(path.read_text(), filename=str(path))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, functions) and node.name.startswith("test_")
    }


def is_there(file: str, name: str) -> bool:
    path = ROOT / file
    return path.exists() if not name else path.is_file() and name in names(path)


def test_each_failure_is_covered_by_a_test_or_says_why_by_none() -> None:
    """All rows are there, in order, each with a test by name, or with the word "none" and a reason."""
    rows = ROW.findall(PAGES[0].read_text())

    assert [int(number) for number, _, _ in rows] == list(range(1, FAILURES + 1))
    uncovered = [
        number
        for number, _, tests in rows
        if not any(name for _, name in TEST.findall(tests))
        and not re.match(r"none( yet)?: \w+", tests)
    ]
    assert uncovered == []


def test_each_test_that_is_named_exists() -> None:
    """On that page, and on the one that says what survives what."""
    for page in PAGES:
        found = TEST.findall(page.read_text())
        assert found
        missing = [f"{file}::{name}" for file, name in found if not is_there(file, name)]
        assert missing == [], page
