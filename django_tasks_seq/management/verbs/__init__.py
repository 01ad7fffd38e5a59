"""The verbs of `manage.py tasks_seq`, one module each."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping
from typing import Any, Final, Protocol

from django.core.management.base import BaseCommand

from . import prune


class Verb(Protocol):
    """What the module of a verb has."""

    HELP: str

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Declare its options."""

    def run(self, command: BaseCommand, options: Mapping[str, Any]) -> int:
        """Do it, say what was done on the command's streams, and return the exit code."""


VERBS: Final[dict[str, Verb]] = {"prune": prune}
