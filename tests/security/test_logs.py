"""S8: whatever a name or a message holds, a record of ours is one line."""

import io
import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.core.management.base import OutputWrapper
from django.core.management.color import no_style
from django.db import IntegrityError, OperationalError

from django_tasks_seq import Retry, TaskSpec, executor
from django_tasks_seq.loggers import logger_for
from django_tasks_seq.management.console import job_lines
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.testapp.models import Order

FORGED = "2026-11-24 ERROR root forged"
BREAKS = [
    "\n",
    "\r",
    "\r\n",
    "\x1b[2K\x1b[1G",
    "\u2028",
    "\u2029",
    "\x85",
    "\x0b",
    "\x0c",
    "\0",
    "\x1e",
]
LINE = (
    "%(asctime)s %(levelname)s %(name)s %(message)s %(sequence)s %(task_id)s %(job_id)s %(error)s"
)
FIELDS = dict.fromkeys(("sequence", "task_id", "job_id", "error"), "-")
LOGGERS = ("django_tasks_seq", "django_tasks_seq.worker", "django_tasks_seq.executor")


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """What a plain formatter writes of the package's records, tracebacks left out."""
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    formatter = logging.Formatter(LINE, defaults=FIELDS)
    formatter.formatException = lambda ei: ""  # type: ignore[method-assign]
    handler.setFormatter(formatter)
    logger = logging.getLogger("django_tasks_seq")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.DEBUG)
    yield stream
    logger.setLevel(level)
    logger.removeHandler(handler)


def forged(stream: io.StringIO) -> list[str]:
    """Lines that do not begin as a record of ours does."""
    text = stream.getvalue()
    return [line for line in text.splitlines() if " django_tasks_seq" not in line and line.strip()]


@pytest.mark.parametrize("brk", BREAKS, ids=repr)
@pytest.mark.parametrize("name", LOGGERS)
def test_no_logger_of_ours_writes_a_second_line(lines: io.StringIO, name: str, brk: str) -> None:
    """In arguments, in exceptions as arguments, and in what goes along with a record."""
    text = f"harmless{brk}{FORGED}"
    logger = logging.getLogger(name)
    logger.warning("could not: %s", OperationalError(text))
    logger.warning("could not: %s %d", text, 7)
    logger.error("broken", extra={"sequence": text, "task_id": text, "job_id": text})
    logger_for(sequence=text, task_id=text).error(text, error=text)

    assert forged(lines) == []
    assert lines.getvalue().count("harmless") == 9
    assert "\x1b" not in lines.getvalue()


def test_arguments_stay_arguments() -> None:
    """A collector groups records by their message: it is not made one with its arguments."""
    records: list[logging.LogRecord] = []

    class Keeps(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append(record)

    logger, handler = logging.getLogger("django_tasks_seq.worker"), Keeps()
    logger.addHandler(handler)
    try:
        logger.warning("again in %.1f s: %s, %s", 0.5, ValueError("a\nb"), None)
        logger.warning("%(what)s", {"what": "a\nb"})
    finally:
        logger.removeHandler(handler)

    assert records[0].msg == "again in %.1f s: %s, %s"
    assert [record.getMessage() for record in records] == ["again in 0.5 s: a b, None", "a b"]


def test_a_row_that_the_database_refused_is_not_logged(lines: io.StringIO) -> None:
    """What PostgreSQL adds to such an error holds the values of the row: the first line is enough."""
    error = IntegrityError("violates a constraint\nDETAIL:  Failing row contains (swordfish).")
    logging.getLogger("django_tasks_seq.worker").error("a write was refused: %s", error)

    assert "violates a constraint" in lines.getvalue()
    assert "swordfish" not in lines.getvalue()


def test_a_text_that_cannot_be_made_harms_no_record(lines: io.StringIO) -> None:
    """An exception whose `__str__` raises is logged by its class."""

    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    logging.getLogger("django_tasks_seq.worker").warning("failed: %s", Broken())

    assert "Broken" in lines.getvalue()


@pytest.mark.django_db
@pytest.mark.parametrize("brk", BREAKS, ids=repr)
def test_a_jobs_life_is_told_in_lines(lines: io.StringIO, declare: Declare, brk: str) -> None:
    """A subject, a message and data of a task that hold line ends forge nothing."""
    text = f"harmless{brk}{FORGED}"

    def fails(payload: Any, context: Any) -> Any:
        context.logger.warning(text, detail=text)
        raise ValueError(text)

    declare(TaskSpec("t1", fails, retry=Retry(2, delay=0)), error_handler=fails)
    subject = Order.objects.create(number=text.replace("\0", ""))
    executor.start_sequence("probe", text.replace("\0", ""), subject=subject)
    drain()

    assert Job.objects.get().status == "FAILED"
    assert lines.getvalue().count("task retried") >= 1
    assert forged(lines) == []


@pytest.mark.django_db
@pytest.mark.parametrize("brk", BREAKS, ids=repr)
def test_a_terminal_gets_lines_and_no_escapes(declare: Declare, brk: str) -> None:
    """What a worker prints has one line a record, and nothing that moves the cursor."""
    text = f"harmless{brk}{FORGED}"

    def fails(payload: Any, context: Any) -> Any:
        # The names that our own lines are made from: a task may use them as well.
        context.logger.warning("job finished", label=text, place=text)
        context.logger.error("task failed", label=text, sequence=text, seconds=text)
        raise ValueError(text)

    declare(fails)
    subject = Order.objects.create(number=text.replace("\0", ""))
    executor.start_sequence("probe", subject=subject)
    stream = io.StringIO()
    with job_lines(OutputWrapper(stream), no_style(), quiet=False) as shown:
        drain()

    printed = stream.getvalue().splitlines()
    assert len(printed) == 3
    assert not [line for line in printed if line.startswith(FORGED)]
    assert "\x1b" not in stream.getvalue()
    assert (shown.succeeded, shown.failed) == (0, 1)
