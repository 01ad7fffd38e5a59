"""The environment that the peers are installed into, apart from this project's."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Final

from tests.benchmarks.processes import RunFailedError
from tests.servers import tied

REQUIREMENTS: Final = Path(__file__).with_name("requirements.txt")
# A name, its extras, one exact version, and at most a condition on the version of Python.
PIN: Final = re.compile(
    r"(?P<name>[a-z0-9-]+)(?P<extras>\[[a-z]+\])?==(?P<version>[0-9][0-9a-z.]*)"
    r'(?P<condition>; python_version (<|>=) "3\.\d+")?'
)
STAMP: Final = "installed.txt"
DEADLINE: Final = 300.0


def pins() -> list[re.Match[str]]:
    """The lines of the requirements; an error when one is anything but a name and its version."""
    found = []
    for line in REQUIREMENTS.read_text().splitlines():
        if line and not line.startswith("#"):
            match = PIN.fullmatch(line)
            if match is None:
                raise ValueError(f"{REQUIREMENTS.name}: not a name and its version: {line}")
            found.append(match)
    return found


class Environment:
    """A virtual environment with what each of some peers needs.

    It is made by the first `check`, and kept: a later run uses it as it is unless *wanted*, by each
    peer's name the requirements of it, or the Python has changed.
    """

    def __init__(self, directory: Path, wanted: Mapping[str, Sequence[str]]) -> None:
        self._directory = directory
        self._wanted = wanted

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self._directory / "bin" / "python"

    def find(self, pattern: str) -> Path:
        """The one file of the installed packages that *pattern* names, such as `package/*/program`."""
        found = list(self._directory.glob(f"lib/python*/site-packages/{pattern}"))
        if len(found) != 1:
            raise RunFailedError(f"{pattern}: {len(found)} files are there, and not one")
        return found[0]

    def check(self, name: str) -> None:
        """Make it if need be; an error with the reason when that peer is not in it."""
        if reason := self._problems.get(name):
            raise RunFailedError(reason)

    @cached_property
    def _problems(self) -> dict[str, str]:
        """By the peer, why it could not be installed."""
        stamp = self._directory / STAMP
        text = "\n".join([sys.version, *self._lines(*self._wanted), ""])
        if stamp.is_file() and stamp.read_text() == text:
            return {}
        if reason := self._begin_anew():
            return dict.fromkeys(self._wanted, reason)
        if not self._install(*self._wanted):
            stamp.write_text(text)
            return {}
        # One of them spoils it for all; each by itself tells which.
        reasons = {name: self._install(name) for name in self._wanted}
        return {name: reason for name, reason in reasons.items() if reason}

    def _lines(self, *names: str) -> list[str]:
        return list(dict.fromkeys(line for name in names for line in self._wanted[name]))

    def _begin_anew(self) -> str:
        made_before = (self._directory / "pyvenv.cfg").is_file()
        if not made_before and self._directory.exists() and any(self._directory.iterdir()):
            return f"{self._directory} is no virtual environment and not empty: it is left as it is"
        return _run(sys.executable, "-m", "venv", "--clear", str(self._directory))

    def _install(self, *names: str) -> str:
        options = ("--quiet", "--no-input", "--disable-pip-version-check")
        command = (str(self.python), "-m", "pip", "install", *options)
        return _run(*command, *self._lines(*names))


def _run(*command: str) -> str:
    """Run it to its end; returns why it failed, or nothing."""
    try:
        done = subprocess.run(
            [sys.executable, str(Path(tied.__file__)), *command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
    except subprocess.TimeoutExpired as error:
        return str(error)
    reason = done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}"
    return reason if done.returncode else ""
