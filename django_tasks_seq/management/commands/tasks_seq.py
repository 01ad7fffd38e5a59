"""`manage.py tasks_seq VERB`: the toolbox for jobs."""

from __future__ import annotations

import argparse
import sys
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from ..verbs import VERBS


class Command(BaseCommand):
    help = "Look after jobs; `tasks_seq VERB --help` says more of each verb."
    # Old rows are deleted by a release that is not migrated yet as well.
    requires_migrations_checks = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
        for name, verb in VERBS.items():
            its = verbs.add_parser(name, help=verb.HELP, description=verb.HELP)
            _add_common(its)
            verb.add_arguments(its)

    def handle(self, **options: Any) -> None:
        code = VERBS[options["verb"]].run(self, options)
        if code:
            sys.exit(code)


def _add_common(parser: ArgumentParser) -> None:
    """Django's own options may stand behind the verb as well as before it."""
    unset: Any = argparse.SUPPRESS
    parser.add_argument(
        "-v",
        "--verbosity",
        type=int,
        choices=range(4),
        default=unset,
        help="0 says nothing, 2 says more.",
    )
    for name in ("--no-color", "--force-color", "--traceback"):
        parser.add_argument(name, action="store_true", default=unset, help=unset)
    for name in ("--settings", "--pythonpath"):
        parser.add_argument(name, default=unset, help=unset)
