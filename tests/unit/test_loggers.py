"""Loggers: context on every record, one line a record, cheap when nobody listens."""

import logging
from contextlib import suppress
from typing import Any
from uuid import UUID

import pytest

from django_tasks_seq.loggers import BaseTaskLogger, StdlibTaskLogger, logger_for

JOB = UUID("0192d3a0-0000-7000-8000-000000000000")


class Keep(logging.Handler):
    def __init__(self, records):
        super().__init__()
        self.records = records

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def records():
    found: list[Any] = []
    handler = Keep(found)
    logger = logging.getLogger("django_tasks_seq")
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield found
    logger.removeHandler(handler)
    logger.setLevel(before)


def test_context_and_data_are_attributes_of_the_record(records):
    """`logger_for` binds the attempt; data of one call stays with that call."""
    logger = logger_for(job_id=JOB, sequence="fulfil", task_id="charge", attempt=2, worker="vm:1")

    logger.info("card charged", amount=4.9, order=None)
    logger.warning("slow")

    first, second = records
    assert (first.name, first.levelname, first.getMessage()) == (
        "django_tasks_seq",
        "INFO",
        "card charged",
    )
    assert (first.job_id, first.sequence, first.task_id, first.attempt, first.worker) == (
        str(JOB),
        "fulfil",
        "charge",
        2,
        "vm:1",
    )
    assert (first.amount, first.order) == (4.9, None)
    assert second.job_id == str(JOB)
    assert not hasattr(second, "amount")


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
def test_every_level_is_logged_under_its_name(records, level):
    """The four methods log at their level, from the line of the caller."""
    getattr(StdlibTaskLogger(), level)("event")

    (record,) = records
    assert record.levelname == level.upper()
    assert record.filename == "test_loggers.py"


def test_context_is_added_to(records):
    """A later `set_context` keeps what was set before."""
    logger = StdlibTaskLogger()
    logger.set_context(job_id="1")
    logger.set_context(task_id="charge")

    logger.error("event")

    assert (records[0].job_id, records[0].task_id) == ("1", "charge")


@pytest.mark.parametrize("character", ["\n", "\r\n", "\x1b[31m", "\u2028", "\0"])
def test_data_cannot_forge_a_second_line(records, character):
    """Control characters in events, texts and reprs are replaced."""
    StdlibTaskLogger().info(f"a{character}b", text=f"c{character}d", other=[f"e{character}f"])

    (record,) = records
    for value in (record.getMessage(), record.text, record.other):
        assert len(value.splitlines()) == 1
        assert "\x1b" not in value


def test_long_values_are_cut(records):
    """A megabyte in an event or a value becomes a thousand characters."""
    StdlibTaskLogger().info("x" * 1_000_000, text="y" * 1_000_000, data={"z": "z" * 1_000_000})

    (record,) = records
    assert [len(record.getMessage()), len(record.text), len(record.data)] == [1000] * 3


def test_keys_that_logging_uses_are_renamed(records):
    """`name=` or `message=` in data neither fail nor overwrite the record."""
    StdlibTaskLogger().info("event", name="anna", message="hi", args=[1])

    (record,) = records
    assert (record.data_name, record.data_message, record.data_args) == ("anna", "hi", "[1]")
    assert record.name == "django_tasks_seq"


def test_a_percent_sign_is_no_placeholder(records):
    """Events are not formatted."""
    StdlibTaskLogger().info("100 %s done")

    assert records[0].getMessage() == "100 %s done"


def test_exc_info_works_as_in_logging(records):
    """The traceback of the current exception is attached on request."""
    error = ValueError("no")
    with suppress(ValueError):
        try:
            raise error
        finally:
            StdlibTaskLogger().error("failed", exc_info=True)

    assert records[0].exc_info[1] is error


def test_a_disabled_level_costs_no_formatting(caplog):
    """What nobody listens to is not made into text."""
    caplog.set_level(logging.WARNING, logger="django_tasks_seq")

    class Costly:
        def __repr__(self):
            raise AssertionError("formatted")

    StdlibTaskLogger().info("event", data=Costly())

    assert caplog.records == []


class ListLogger(BaseTaskLogger):
    """A logger as a site may write it."""

    def __init__(self):
        self.lines = []
        self.context = {}

    def set_context(self, **data):
        self.context = {**self.context, **data}

    def debug(self, event, **data):
        self.lines.append(event)

    info = warning = error = debug


def test_each_attempt_has_a_logger_of_its_own(settings):
    """A class of the settings is instantiated for each attempt."""
    settings.TASKS_SEQ = {"LOGGER": f"{__name__}.ListLogger"}

    first: Any = logger_for(task_id="a")
    second: Any = logger_for(task_id="b")

    assert isinstance(first, ListLogger)
    assert (first.context, second.context) == ({"task_id": "a"}, {"task_id": "b"})


def test_an_object_as_logger_is_copied_for_each_attempt(settings):
    """The context of one attempt does not reach another's, nor the object of the settings."""
    shared = ListLogger()
    settings.TASKS_SEQ = {"LOGGER": shared}

    logger: Any = logger_for(task_id="a")
    logger.info("event")

    assert logger.context == {"task_id": "a"}
    assert shared.context == {}
    assert shared.lines == ["event"]


def test_stdlib_loggers_do_not_share_context():
    """A copy keeps its own context from the moment it sets one."""
    first: Any = logger_for(task_id="a")
    second: Any = logger_for(task_id="b")

    assert first._context == {"task_id": "a"}
    assert second._context == {"task_id": "b"}
