"""The reference pages name everything there is, with the defaults that hold."""

import re
from pathlib import Path

import pytest

import django_tasks_seq
from django_tasks_seq import exceptions
from django_tasks_seq.conf import KNOWN_KEYS, Config

REFERENCE = Path(__file__).parents[2] / "docs/reference"
SETTINGS = (REFERENCE / "settings.md").read_text()
ERRORS = (REFERENCE / "errors.md").read_text()


@pytest.mark.parametrize("key", KNOWN_KEYS)
def test_each_setting_is_documented_with_its_default(key):
    """The table's default is the one of the code."""
    (default,) = re.findall(rf"^\| `{key}` \| `(.*?)` \|", SETTINGS, re.MULTILINE)
    value = getattr(Config(), key.lower())

    assert default.replace('"', "'") == repr(value)


def test_no_setting_is_documented_that_does_not_exist():
    """The tables have no key that the code does not know."""
    assert set(re.findall(r"^\| `([A-Z_]+)` \|", SETTINGS, re.MULTILINE)) == set(KNOWN_KEYS)


def test_each_error_has_the_heading_its_docs_url_leads_to():
    """Every subclass of TasksSeqError is a heading, and no heading is anything else."""
    errors = {
        name
        for name in exceptions.__all__
        if issubclass(getattr(exceptions, name), exceptions.TasksSeqError)
    }

    assert set(re.findall(r"^### (\w+)$", ERRORS, re.MULTILINE)) == errors - {"TasksSeqError"}


def test_each_error_is_exported_by_the_package():
    """Users catch errors without knowing our modules."""
    control_flow = {"ClaimLost", "StopTask"}

    assert set(exceptions.__all__) - control_flow <= set(django_tasks_seq.__all__)


@pytest.mark.parametrize("name", exceptions.__all__)
def test_each_exception_is_mentioned(name):
    """What tasks raise, and what passes through them, is explained too."""
    assert f"{name}" in ERRORS
