"""What a worker shows in a terminal: one line for each job that ends or is to be tried again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from django.core.management.base import OutputWrapper
from django.core.management.color import Style

from ..ids import short_id
from ..text import one_line

LOGGER = "django_tasks_seq"
# What a line about an attempt is made of; a task that logs may use one of these names itself.
OURS = {"label", "place", "seconds", "sequence", "task_id", "attempt"}


class JobLines(logging.Handler):
    """Writes the package's log records as lines for people, and counts how jobs ended."""

    def __init__(self, stream: OutputWrapper, style: Style) -> None:
        super().__init__(logging.INFO)
        self._stream = stream
        self._style = style
        self.succeeded = 0
        self.failed = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._stream.write(self._line(record))
            self._stream.flush()
        except Exception:  # noqa: BLE001 (a closed terminal must not end the worker)
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 (logging's name)
        """Say so on stderr, unless a task has closed that as well."""
        with suppress(Exception):
            super().handleError(record)

    def _line(self, record: logging.LogRecord) -> str:
        at = self.formatter.formatTime(record, "%H:%M:%S") if self.formatter else ""
        mark, what = self._what(record, vars(record))
        return f"{at} {mark} {what}"

    def _what(self, record: logging.LogRecord, facts: dict[str, Any]) -> tuple[str, str]:
        message = record.getMessage()
        if not facts.keys() >= OURS:
            mark = self._style.WARNING("!") if record.levelno >= logging.WARNING else "·"
            job = f"  job {short_id(facts['job_id'])}" if "job_id" in facts else ""
            return mark, one_line(f"{message}{job}")
        head = f"{facts['label'][:22]:<22} {facts['sequence']}"
        took = _seconds(facts["seconds"])
        where = f"{facts['task_id']} ({facts['place']}), attempt {facts['attempt']}"
        if message == "job finished":
            self.succeeded += 1
            return self._style.SUCCESS("✓"), f"{head} {facts['place']}  {took}"
        if message == "task retried":
            return self._style.WARNING(
                "↻"
            ), f"{head}  {where}: {facts['error']}  again in {_seconds(facts['delay'])}"
        if message in ("task failed", "handler gave up"):
            self.failed += message == "task failed"
            return self._style.ERROR("✗"), f"{head}  {where}: {one_line(facts['error'])}"
        return "·", f"{head}  {message}"


def _seconds(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


@contextmanager
def job_lines(stream: OutputWrapper, style: Style, *, quiet: bool) -> Iterator[JobLines]:
    """Show the package's log on *stream*, unless the project has set handlers for it itself."""
    logger = logging.getLogger(LOGGER)
    lines = JobLines(stream, style)
    lines.setFormatter(logging.Formatter())
    if logger.handlers or (quiet and logger.hasHandlers()):
        yield lines
        return
    level, propagate = logger.level, logger.propagate
    # Without any handler Python itself would print warnings, which is not quiet.
    handler = logging.NullHandler() if quiet else lines
    logger.addHandler(handler)
    # Nobody hears what is below: not even asked for, it costs nothing for each task.
    logger.setLevel(logging.WARNING if quiet else logging.INFO)
    logger.propagate = False
    try:
        yield lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate
