"""Progress on the terminal: redrawn in place, or as plain lines when nobody looks."""

import re
import shutil
from collections.abc import Sequence
from typing import Any, Protocol

from django.core.management.color import Style
from django.utils import timezone

from example_project.shop.progress import Progress, TaskLine

CELL = 5


class Output(Protocol):
    """A command's stdout."""

    def write(self, msg: str = "", /, *, ending: str | None = None) -> Any:
        """Write the text, and the ending, a line's end unless given."""

    def isatty(self) -> bool:
        """Whether a person looks."""


class Display:
    """Shows the orders as often as it is told to."""

    def __init__(self, output: Output, style: Style) -> None:
        self.output = output
        self.style = style
        self._redraws = output.isatty()
        self._lines = 0
        self._said: dict[int, str] = {}

    def show(self, progresses: Sequence[Progress]) -> None:
        """Show how it stands."""
        if self._redraws:
            self._redraw(progresses)
        else:
            for progress in progresses:
                self._say_news(progress)

    def leave(self) -> None:
        """What is on the screen stays; the next drawing goes below."""
        self._lines = 0

    def _redraw(self, progresses: Sequence[Progress]) -> None:
        width = shutil.get_terminal_size().columns - 1
        up = f"\x1b[{self._lines}F" if self._lines else ""
        lines = [f"\x1b[2K{self._coloured(line(item)[:width])}\n" for item in progresses]
        self.output.write(up + "".join(lines), ending="")
        self._lines = len(lines)

    def _say_news(self, progress: Progress) -> None:
        current = progress.current
        if progress.active and (current is None or current.status != "WAITING"):
            return
        news = f"retry {current.attempts}" if progress.active and current else progress.word
        if self._said.get(progress.order.pk) != news:
            self._said[progress.order.pk] = news
            self.output.write(line(progress))

    def _coloured(self, text: str) -> str:
        text = text.replace("✓", self.style.SUCCESS("✓")).replace("↻", self.style.WARNING("↻"))
        return re.sub("✗.*", lambda found: self.style.ERROR(found[0]), text)


def line(progress: Progress) -> str:
    """One order, its tasks side by side, and where it stands in words."""
    cells = [f"  Order #{progress.order.number} "]
    for task in progress.tasks:
        cells.append(cell(task))
        if task.status == "FAILED":
            break
    return " ".join(cells) + "  " + words(progress)


def cell(task: TaskLine) -> str:
    """A task's id and how it is."""
    if task.status == "FAILED":
        return f"{task.task_id} ✗ {task.note}"
    detail = ""
    if task.status == "WAITING":
        detail = str(task.attempts)
    elif task.status == "RUNNING" and task.total:
        detail = f"{task.done}/{task.total}"
    return f"{task.task_id} {task.mark} {detail}".ljust(len(task.task_id) + CELL)


def words(progress: Progress) -> str:
    """The order's status, as one would say it."""
    if progress.job.status == "WAITING":
        seconds = (progress.job.run_after - timezone.now()).total_seconds()
        return f"waiting, retry in {max(0, seconds):.1f} s"
    return progress.word
