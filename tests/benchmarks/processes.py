"""Each run is a process of its own, which writes what it found as one line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from tests.servers import tied

ROOT: Final = Path(__file__).resolve().parents[2]
DEADLINE: Final = 600.0
READY: Final = "ready"


class RunFailedError(Exception):
    """A measured process failed, or did not do what it was to do; the message tells."""


def command(*args: str) -> list[str]:
    """`python ARGS…`, in a process that ends with this one."""
    # The launcher needs nothing that is installed: without `site` it starts in half the time.
    return [sys.executable, "-I", "-S", str(Path(tied.__file__)), sys.executable, *args]


def environment(url: str, settings: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What a measured process is told: its database and its settings, some of `TASKS_SEQ` among them."""
    told = {
        "DATABASE_URL": url,
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings",
        "TASKS_SEQ_BENCH_SETTINGS": json.dumps(dict(settings or {})),
    }
    return {**os.environ, **told}


class Process:
    """A process beside this one; it is killed at the deadline, and its output read at its end."""

    def __init__(self, name: str, arguments: list[str], env: Mapping[str, str]) -> None:
        self._name = name
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 (read and closed by `end`)
        self._process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=env,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )
        self._killer = threading.Timer(DEADLINE, self._process.kill)
        self._killer.daemon = True
        self._killer.start()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_until_ready(self) -> None:
        """Wait for the line by which it says that it is set up."""
        assert self._process.stdout is not None
        if self._process.stdout.readline().strip() != READY:
            raise RunFailedError(f"{self._name} did not get ready\n{self.end()}")

    def go(self) -> None:
        """Tell it to begin."""
        assert self._process.stdin is not None
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    def terminate(self) -> None:
        """Send SIGTERM."""
        self._process.terminate()

    def end(self) -> str:
        """Close its input, wait for its end and return what it wrote; fails when it did."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        said = self._process.stdout.read()
        self._process.stdout.close()
        code = self._process.wait()
        self._killer.cancel()
        with self._errors as errors:
            errors.seek(0)
            complaints = errors.read()
        if code:
            raise RunFailedError(f"{self._name}: exit code {code}\n{said}{complaints}")
        return said


def begin(
    module: str, verb: str, url: str, settings: Mapping[str, Any] | None = None, **given: Any
) -> Process:
    """Begin `python -m tests.benchmarks.MODULE VERB JSON` on *url*."""
    arguments = command("-m", f"tests.benchmarks.{module}", verb, json.dumps(given))
    return Process(f"{module} {verb}", arguments, environment(url, settings))


def measure(
    module: str, verb: str, url: str, settings: Mapping[str, Any] | None = None, **given: Any
) -> dict[str, Any]:
    """Run `python -m tests.benchmarks.MODULE VERB JSON` on *url*; return what it wrote last."""
    return _found(begin(module, verb, url, settings, **given))


def measure_together(
    number: int,
    module: str,
    verb: str,
    url: str,
    settings: Mapping[str, Any] | None = None,
    **given: Any,
) -> list[dict[str, Any]]:
    """The same in *number* processes that begin together, once all are set up."""
    processes = [begin(module, verb, url, settings, **given) for _ in range(number)]
    for process in processes:
        process.wait_until_ready()
    for process in processes:
        process.go()
    return [_found(process) for process in processes]


def _found(process: Process) -> dict[str, Any]:
    lines = process.end().splitlines()
    found: dict[str, Any] = json.loads(lines[-1])
    return found


@contextmanager
def beside(module: str, verb: str, url: str, **given: Any) -> Iterator[dict[str, Any]]:
    """A process that does something until the block ends; what it found is in the dict afterwards."""
    process = begin(module, verb, url, **given)
    found: dict[str, Any] = {}
    try:
        process.wait_until_ready()
        process.go()
        yield found
    finally:
        found.update(_found(process))


def answer(verbs: dict[str, Any]) -> None:
    """The other side of `measure`: call the verb and write what it returns."""
    _, verb, given = sys.argv
    print(json.dumps(verbs[verb](**json.loads(given)) or {}))


def wait_for_the_others() -> None:
    """The other side of `measure_together` and `beside`: say that it is set up, wait for the word."""
    print(READY, flush=True)
    sys.stdin.readline()


@contextmanager
def worker(url: str, *options: str) -> Iterator[Process]:
    """A `run_task_worker` on *url* beside what the block does; it must end in order."""
    arguments = command("-m", "django", "run_task_worker", "--verbosity=0", *options)
    process = Process("the worker", arguments, environment(url))
    try:
        yield process
    finally:
        process.terminate()
        process.end()


@contextmanager
def workers(url: str, number: int, *options: str) -> Iterator[list[Process]]:
    """So many of them, each by a command of its own."""
    with ExitStack() as stack:
        yield [stack.enter_context(worker(url, *options)) for _ in range(number)]
