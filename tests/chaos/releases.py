"""The release before this one: its own tree, in the same environment, on the same database."""

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.helpers import ROOT, WorkerProcess, child_environment
from tests.servers import tied

TAG = "v0.1"
# What the tag names, for clones without tags.
COMMIT = "54b280ace88ea6c72d9995defa1debaa305d9149"
# What the copy calls itself, so that nobody takes one release for the other.
VERSION = "0.1.0+before"
PARTS = ("django_tasks_seq", "tests", "example_project", "manage.py")

# Version 1 of a sequence whose version 2 is declared in tests/testapp/hard_sequences.py.
RESHAPED = """
declare(
    "reshaped",
    ("kept", wait_for_file),
    ("charge", chain_link),
    ("gone", chain_link),
    TaskSpec("last", atomic_link, atomic=True),
)
"""
# Answers requests, one JSON line each, by the release's own code; no connection is kept.
SERVE = """
import io, json, sys
import django
django.setup()
import django_tasks_seq
from django.core.management import call_command
from django.db import connections
from django_tasks_seq import executor

def start(sequence, payloads, options):
    return [str(job.pk) for job in executor.start_many(sequence, payloads, **options)]

def migrate():
    out = io.StringIO()
    call_command("migrate", "django_tasks_seq", no_color=True, stdout=out)
    return out.getvalue()

def version():
    return django_tasks_seq.__version__

for line in sys.stdin:
    what, *args = json.loads(line)
    answer = globals()[what](*args)
    connections.close_all()
    print(json.dumps(answer), flush=True)
"""


def export(folder: Path) -> str:
    """Put the release's tree into *folder*; why not, or "" when it is there."""
    problem = ""
    for name in (TAG, COMMIT):
        command = ["git", "-C", str(ROOT), "archive", "--format=tar", name, *PARTS]
        try:
            done = subprocess.run(command, check=False, capture_output=True)
        except FileNotFoundError:
            return "there is no git"
        if done.returncode == 0:
            with tarfile.open(fileobj=io.BytesIO(done.stdout)) as tar:
                tar.extractall(folder, filter="data")
            _mark(folder)
            return ""
        problem = done.stderr.decode(errors="replace").strip()
    return f"this clone has neither the tag {TAG} nor its commit ({problem})"


def _mark(folder: Path) -> None:
    package = folder / "django_tasks_seq/__init__.py"
    text = package.read_text()
    marked = text.replace('__version__ = "0.1.0"', f'__version__ = "{VERSION}"')
    assert marked != text
    package.write_text(marked)
    sequences = folder / "tests/testapp/hard_sequences.py"
    sequences.write_text(sequences.read_text() + RESHAPED)


def environment(env: Mapping[str, str] | None = None) -> dict[str, str]:
    """What a process of the release is given: this run's databases, and nothing that measures coverage."""
    given = child_environment(env)
    return {name: value for name, value in given.items() if not name.startswith("COVERAGE_")}


class EarlierWorker(WorkerProcess):
    """A `manage.py` command of the release whose tree is *root*."""

    def __init__(
        self, args: list[str], *, log: Path, root: Path, env: Mapping[str, str] | None = None
    ) -> None:
        self.args = args
        self.log = log
        command = [sys.executable, str(Path(tied.__file__))]
        command += [sys.executable, str(root / "manage.py"), *args]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=root,
                env=environment(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )


class Release:
    """A process that calls the code of the release whose tree is *root*."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._process = subprocess.Popen(
            [sys.executable, str(Path(tied.__file__)), sys.executable, "-c", SERVE],
            cwd=root,
            env=environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.ask("version") == VERSION

    def ask(self, what: str, *args: Any) -> Any:
        """Call `start(sequence, payloads, options)`, `migrate()` or `version()` there."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([what, *args]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the release has failed at {what}"
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
