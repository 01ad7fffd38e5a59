"""Several worker processes, or one that is started anew when code changes: children that get SIGTERM."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from django.utils.autoreload import StatReloader

from ..engine.wakeup import Wakeup
from .os_signals import SIGNALS, SUPERVISOR, stops_on_signals

LOOK_SECONDS = 0.5
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
# A child that lived so long had started well: its next start need not wait.
SETTLED_SECONDS = 10.0

Say = Callable[[str], None]


class Changes(StatReloader):
    """Whether a file of the project has changed since the last look."""

    def __init__(self) -> None:
        super().__init__()
        self._times: dict[Path, float] = dict(self.snapshot_files())

    def seen(self) -> Path | None:
        """A file that has changed, if any."""
        found = None
        for path, mtime in self.snapshot_files():
            if self._times.setdefault(path, mtime) < mtime:
                self._times[path] = mtime
                found = path
        return found


class Child:
    """One place for a worker process: who is in it, and when it is filled again."""

    def __init__(self, arguments: list[str]) -> None:
        self._arguments = arguments
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._start_at = 0.0
        self._pause = FIRST_PAUSE

    @property
    def is_running(self) -> bool:
        """Whether its process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How its last process ended; None while it runs, or when there was none."""
        return self._process.poll() if self._process else None

    def start_if_due(self) -> None:
        """Start a process where none runs, after a pause that grows while they die young."""
        now = time.monotonic()
        if self._process is not None and now - self._started_at > SETTLED_SECONDS:
            self._pause = FIRST_PAUSE
        if now < self._start_at:
            return
        self._started_at, self._start_at = now, now + self._pause
        self._pause = min(self._pause * 2, LONGEST_PAUSE)
        # A session of its own: Ctrl+C in the terminal reaches the supervisor alone, which passes it on.
        self._process = subprocess.Popen(  # noqa: S603 (our own command line)
            self._arguments,
            env={**os.environ, SUPERVISOR: str(os.getpid())},
            start_new_session=True,
        )

    def send(self, signum: int) -> None:
        """Send a signal to its process, if it lives."""
        if self._process is not None and self.is_running:
            self._process.send_signal(signum)


def supervise(arguments: list[str], *, processes: int, reload: bool, ends: bool, say: Say) -> int:
    """Run *processes* children until told to stop, or, when the work *ends* by itself, until all have.

    *arguments* are those of `run_task_worker` for each child. Returns the worst exit code.
    """
    wakeup = Wakeup()
    children = [Child(command_line(arguments)) for _ in range(processes)]
    changes = Changes() if reload else None
    told = 0
    with stops_on_signals(wakeup.write_fd) as stops:
        for child in children:
            child.start_if_due()
        while any(child.is_running for child in children) or not (told or ends):
            wakeup.wait(LOOK_SECONDS)
            if (asked := stops()) > told:
                # Signals of one number that wait to be taken are one, so a second is of the other.
                for number in range(told, asked):
                    _send_all(children, SIGNALS[number % len(SIGNALS)])
                told = asked
            elif not told and changes is not None and (path := changes.seen()) is not None:
                say(f"{path} has changed: starting the worker anew")
                _send_all(children, signal.SIGTERM)
            if not told and not ends:
                for child in children:
                    if not child.is_running:
                        child.start_if_due()
    wakeup.close()
    codes = {child.exit_code or 0 for child in children}
    if told:
        # Who was told before it could listen was ended by the signal itself, and had done nothing.
        codes -= {-signum for signum in SIGNALS}
    return max((abs(code) for code in codes), default=0)


def _send_all(children: list[Child], signum: int) -> None:
    for child in children:
        child.send(signum)


def command_line(arguments: list[str]) -> list[str]:
    """How this process was started, or `python -m django`, with `run_task_worker` and *arguments*."""
    script = Path(sys.argv[0])
    if script.is_file() and script.suffix == ".py" and script.name != "__main__.py":
        start = [sys.executable, str(script)]
    else:
        start = [sys.executable, "-m", "django"]
    return [*start, "run_task_worker", *arguments]
