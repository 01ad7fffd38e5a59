"""The release before this one: its own tree, in the same environment, on the same database."""

import io
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

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
START = """
import json, sys
import django
django.setup()
import django_tasks_seq
from django_tasks_seq import executor
sequence, payloads, options = json.loads(sys.argv[1])
jobs = executor.start_many(sequence, payloads, **options)
print(json.dumps([django_tasks_seq.__version__, [str(job.pk) for job in jobs]]))
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


def call(root: Path, *args: str) -> str:
    """What the release's Python says when it is called with *args* in its tree."""
    done = subprocess.run(
        [sys.executable, *args],
        check=False,
        cwd=root,
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
