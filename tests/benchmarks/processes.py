"""Each run is a process of its own, which writes what it found as one line of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from tests.servers import tied

ROOT: Final = Path(__file__).resolve().parents[2]
DEADLINE: Final = 600.0


class RunFailedError(Exception):
    """A measured process failed; its output is the message."""


def command(*args: str) -> list[str]:
    """`python ARGS…`, in a process that ends with this one."""
    return [sys.executable, str(Path(tied.__file__)), sys.executable, *args]


def environment(url: str) -> dict[str, str]:
    """What a measured process is told: its database and its settings."""
    told = {"DATABASE_URL": url, "DJANGO_SETTINGS_MODULE": "tests.benchmarks.settings"}
    return {**os.environ, **told}


def measure(module: str, verb: str, url: str, **numbers: int) -> dict[str, Any]:
    """Run `python -m tests.benchmarks.MODULE VERB JSON` on *url*; return what it wrote last."""
    done = subprocess.run(
        command("-m", f"tests.benchmarks.{module}", verb, json.dumps(numbers)),
        cwd=ROOT,
        env=environment(url),
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
    )
    if done.returncode:
        raise RunFailedError(
            f"{module} {verb}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
        )
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def answer(verbs: dict[str, Any]) -> None:
    """The other side of `measure`: call the verb and write what it returns."""
    _, verb, numbers = sys.argv
    print(json.dumps(verbs[verb](**json.loads(numbers)) or {}))


@contextmanager
def worker(url: str) -> Iterator[None]:
    """A `run_task_worker` on *url* beside what the block does; it must end in order."""
    arguments = command("-m", "django", "run_task_worker", "--verbosity=0")
    process = subprocess.Popen(
        arguments, cwd=ROOT, env=environment(url), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    try:
        yield
    finally:
        process.terminate()
        _, said = process.communicate(timeout=DEADLINE)
    if process.returncode:
        raise RunFailedError(f"the worker ended with {process.returncode}\n{said.decode()}")
