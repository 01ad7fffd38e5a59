"""A process that has loaded Django, with no connection and no thread, and forks workers on request.

A cold worker costs 0.7 s of CPU, a forked one some 20 ms. The zygote reads one JSON request a line and
answers with one; it reaps a child only when asked, so that a pid is never somebody else's. All
workers die with the zygote, the zygote with the test.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import traceback
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from tests.helpers import DEADLINE, ROOT, child_environment, wait_until
from tests.servers import tied

FAILED_TO_START = 70


class ForkedWorker:
    """A worker that a zygote has forked; used as `tests.helpers.WorkerProcess` is."""

    def __init__(self, zygote: Zygote, pid: int, args: tuple[str, ...], log: Path) -> None:
        self.zygote = zygote
        self.pid = pid
        self.args = args
        self.log = log
        self._code: int | None = None

    def __repr__(self) -> str:
        return f"<forked {' '.join(self.args)}: pid {self.pid}, exit code {self._code}>"

    @property
    def code(self) -> int | None:
        """Its exit code, negative when a signal ended it; None while it lives."""
        if self._code is None:
            self._code = self.zygote.ask("poll", pid=self.pid)
        return self._code

    @property
    def running(self) -> bool:
        return self.code is None

    def output(self) -> str:
        """What it has written so far, both streams."""
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def send_signal(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.running:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """As a machine that swaps, or a debugger: it stands still, its connections stay open."""
        self.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """SIGKILL, and wait for the end; fine when it is gone."""
        if self._code is None:
            os.kill(self.pid, signal.SIGKILL)
            self.wait()

    def wait(self, timeout: float = DEADLINE) -> int:
        """Return the exit code; fail with the output when it does not end in time."""
        try:
            wait_until(lambda: not self.running, timeout, f"the end of {self!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.output()}") from None
        assert self._code is not None
        return self._code


class Zygote:
    """The test's side: `fork("--concurrency=4")` returns a `ForkedWorker`."""

    def __init__(self, folder: Path, *, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.workers: list[ForkedWorker] = []
        # Measuring coverage in each of some hundred workers would slow the tests, and prove nothing.
        environment = {
            name: value
            for name, value in child_environment(env).items()
            if not name.startswith("COVERAGE_PROCESS")
        }
        command = [sys.executable, str(Path(tied.__file__))]
        with self.log.open("wb") as errors:
            self._process = subprocess.Popen(
                [*command, sys.executable, "-m", "tests.chaos.zygote"],
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
            )
        self._selector = selectors.DefaultSelector()
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._selector.register(self._process.stdout, selectors.EVENT_READ)
        self._unread = b""
        self.ask("hello")

    @property
    def log(self) -> Path:
        """What the zygote itself has written."""
        return self.folder / "zygote.log"

    def fork(
        self, *args: str, env: Mapping[str, str] | None = None, memory: int | None = None
    ) -> ForkedWorker:
        """Fork a `run_task_worker` with these arguments, and more environment.

        *memory* is how many bytes of address space it may have beyond what it has at its start.
        """
        log = self.folder / f"worker-{len(self.workers)}.log"
        pid = self.ask("fork", args=args, log=str(log), env=dict(env or {}), memory=memory)
        worker = ForkedWorker(self, pid, args, log)
        self.workers.append(worker)
        return worker

    def ask(self, what: str, **details: Any) -> Any:
        """Send one request, return the answer to it."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps({"what": what, **details}).encode() + b"\n")
            self._process.stdin.flush()
            answer = json.loads(self._read_line())
        except (OSError, ValueError) as error:
            raise AssertionError(f"the zygote is gone ({error}):\n{self.log.read_text()}") from None
        if "error" in answer:
            raise AssertionError(f"the zygote failed:\n{answer['error']}")
        return answer["value"]

    def _read_line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._unread:
            if not self._selector.select(DEADLINE):
                raise OSError(f"no answer within {DEADLINE} s")
            piece = os.read(self._process.stdout.fileno(), 65536)
            if not piece:
                raise OSError("it has closed its end")
            self._unread += piece
        line, _, self._unread = self._unread.partition(b"\n")
        return line

    def outputs(self) -> str:
        """What the zygote and its last workers have written."""
        files = [self.log, *(worker.log for worker in self.workers[-8:])]
        return "\n".join(
            f"--- {f.name}\n{f.read_text(errors='replace')}" for f in files if f.exists()
        )

    def close(self) -> None:
        """End all its workers, and itself; whatever state they are in."""
        with suppress(AssertionError):
            self.ask("close")
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(DEADLINE)
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            with suppress(OSError):
                pipe.close()


# --- the zygote's own side -------------------------------------------------------------------------


class Nursery:
    """What the zygote does: fork, poll, close."""

    def __init__(self) -> None:
        self._children: dict[int, int | None] = {}

    def hello(self) -> int:
        """Answered when Django is loaded."""
        return os.getpid()

    def fork(self, args: list[str], log: str, env: dict[str, str], memory: int | None) -> int:
        """Fork a worker; its pid."""
        _check_that_it_can_be_forked()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            _be_worker(parent, args, log, env, memory)
        self._children[pid] = None
        return pid

    def poll(self, pid: int) -> int | None:
        """The exit code of a child, None while it lives."""
        if self._children[pid] is None:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                self._children[pid] = os.waitstatus_to_exitcode(status)
        return self._children[pid]

    def close(self) -> None:
        """SIGKILL all children, and wait for them."""
        for pid in self._children:
            if self.poll(pid) is None:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self._children[pid] = -signal.SIGKILL


def _check_that_it_can_be_forked() -> None:
    from django.db import connections

    opened = [one.alias for one in connections.all() if one.connection is not None]
    threads = len(list(Path("/proc/self/task").glob("*")))
    if opened or threads > 1 or threading.active_count() > 1:
        raise RuntimeError(f"no zygote any more: {threads} threads, connections: {opened}")


def _be_worker(
    parent: int, args: list[str], log: str, env: dict[str, str], memory: int | None
) -> NoReturn:
    code = FAILED_TO_START
    try:
        tied.die_with_parent(signal.SIGKILL)
        if os.getppid() == parent:
            _own_streams(log)
            os.environ.update(env)
            if memory is not None:
                _limit_memory(memory)
            code = _run(args)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _own_streams(log: str) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
    os.dup2(nothing, 0)
    os.dup2(written, 1)
    os.dup2(written, 2)
    # The pipe to the test, too: a worker that held it would hide the end of the zygote.
    os.closerange(3, 256)


def _limit_memory(more: int) -> None:
    import resource

    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + more
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _run(args: list[str]) -> int:
    from django.core.management import call_command

    try:
        call_command("run_task_worker", *args)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    return 0


def _load() -> None:
    import gc

    import django
    from django.db import connections

    django.setup()
    for alias in connections:
        connections[alias]  # loads the driver, opens nothing
    from django_tasks_seq.management.commands import run_task_worker  # noqa: F401

    gc.collect()
    gc.freeze()


def main() -> None:
    """Serve until the other end is closed."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what anybody prints is no answer
    _load()
    nursery = Nursery()
    for line in sys.stdin:
        request = json.loads(line)
        what = request.pop("what")
        try:
            answer = {"value": getattr(nursery, what)(**request)}
        except Exception:
            answer = {"error": traceback.format_exc()}
        print(json.dumps(answer), file=answers, flush=True)
        if what == "close":
            return


if __name__ == "__main__":
    main()
