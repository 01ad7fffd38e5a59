"""The code blocks of the documentation, found by Sybil and run as the files they say they are.

A Python block that begins with `# shop/tasks_sequences.py` is run as the module of that name in a
package `shop`, whose models are those of the test app; one that begins with `# settings.py` sets
`TASKS_SEQ` for the rest of its page; any other is run as one goes through a page in a shell. The
methods of a `TestCase` are run where it is shown.
"""

import re
import sys
import unittest
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch

from django.test import TestCase, override_settings
from sybil import Example, Sybil
from sybil.evaluators.python import pad
from sybil.parsers.markdown import CodeBlockParser

from django_tasks_seq import registry, testing
from django_tasks_seq.signals import (
    job_finished,
    job_started,
    task_finished,
    task_ready,
    task_retried,
    task_started,
)
from tests.testapp import models

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
SIGNALS = (task_ready, job_started, task_started, task_finished, task_retried, job_finished)


class Gateway:
    """What `shop.payments` offers to the pages: it charges once for each key."""

    def __init__(self) -> None:
        self.charges: dict[str, str] = {}

    def charge(self, amount: str, key: str) -> str:
        return self.charges.setdefault(key, f"receipt for {amount}")


class Page:
    """A page of the documentation whose blocks are run one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.gateway = Gateway()
        self.namespace: dict[str, Any] = {"__name__": "page"}
        self._stack = ExitStack()
        self._python = CodeBlockParser("python", self._run)

    @contextmanager
    def opened(self) -> Iterator["Page"]:
        """Whatever the page declares, sets and connects is forgotten at the end."""
        with self._stack, registry.isolated(empty=True), testing.restored_clock():
            self._stack.enter_context(patch.dict(sys.modules, self._shop()))
            for signal in SIGNALS:
                self._stack.enter_context(patch.object(signal, "receivers", []))
                signal.sender_receivers_cache.clear()
            yield self
        for signal in SIGNALS:
            signal.sender_receivers_cache.clear()

    def run(self) -> int:
        """Run all Python blocks in order; return how many there were."""
        examples = list(Sybil([self._python]).parse(self.path).examples())
        for example in examples:
            example.evaluate()
        return len(examples)

    def _shop(self) -> dict[str, ModuleType]:
        shop = ModuleType("shop")
        shop.__path__ = []
        payments = ModuleType("shop.payments")
        vars(payments).update(gateway=self.gateway, Gateway=Gateway)
        return {"shop": shop, "shop.models": models, "shop.payments": payments}

    def _run(self, example: Example) -> None:
        source = pad(example.parsed, example.line + example.parsed.line_offset)
        code = compile(source, example.path, "exec", dont_inherit=True)
        file = re.match(r"# ([\w/]+)\.py\b", example.parsed)
        if file is None:
            exec(code, self.namespace)
        elif file[1] == "settings":
            given: dict[str, Any] = {}
            exec(code, given)
            chosen = {key: given[key] for key in ("TASKS_SEQ",) if key in given}
            self._stack.enter_context(override_settings(**chosen))
        else:
            module = self._module(file[1].replace("/", "."))
            exec(code, vars(module))
            run_tests(module)

    def _module(self, name: str) -> ModuleType:
        if name not in sys.modules:
            module = ModuleType(name)
            module.__package__ = name.rpartition(".")[0]
            sys.modules[name] = module
        return sys.modules[name]


def run_tests(module: ModuleType) -> None:
    """Run the methods of a page's `TestCase`s, inside the transaction of the test that runs the page."""
    for value in list(vars(module).values()):
        if isinstance(value, type) and issubclass(value, TestCase) and value is not TestCase:
            for name in unittest.defaultTestLoader.getTestCaseNames(value):
                case = value(name)
                case.setUp()
                getattr(case, name)()
                case.tearDown()


def blocks(path: Path, language: str) -> list[str]:
    """The code blocks of one language in a page."""
    parser = CodeBlockParser(language, lambda example: None)
    return [str(example.parsed) for example in Sybil([parser]).parse(path).examples()]


def commands(path: Path) -> list[str]:
    """What follows a `$` in the console blocks of a page, comments and continued lines resolved."""
    text = "\n".join(blocks(path, "console")).replace("\\\n", " ")
    lines = re.findall(r"^\$ (.+)$", text, re.MULTILINE)
    return [line.partition("  #")[0].strip() for line in lines]


def prose(path: Path) -> str:
    """The text of a page without its code."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]+`", "", text)


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, made as the usual renderers make them."""
    text = re.sub(r"^```.*?^```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6} (.+)$", text, re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings
    }


def links(path: Path) -> list[str]:
    """Targets of the relative links and pictures of a page."""
    found = re.findall(r"\]\(([^)\s]+)\)", prose(path))
    found += re.findall(r'(?:src|srcset|href)="([^"]+)"', prose(path))
    return [link for link in found if not re.match(r"[a-z]+:", link)]
