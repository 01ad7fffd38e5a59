"""Examples in docstrings of the leaves are run."""

import doctest
import importlib

import pytest

MODULES = [
    "conf",
    "conf_rules",
    "declarations",
    "errors_text",
    "exceptions",
    "handlers.base",
    "injection",
    "json_problems",
    "loggers",
    "payload_types",
    "payloads",
    "plain_types",
    "registry",
    "retry",
    "sequences",
    "tasks",
    "text",
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_give_what_they_show(name):
    """Every `>>>` of the module gives the line below it."""
    module = importlib.import_module(f"django_tasks_seq.{name}")

    assert doctest.testmod(module).failed == 0
