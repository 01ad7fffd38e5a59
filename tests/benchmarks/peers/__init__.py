"""Peers at the same work as this app: what each reaches, in the form its own documentation recommends.

They are installed into an environment of their own, and each runs there as processes of its own.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from tests.benchmarks.databases import PostgresDatabases
    from tests.benchmarks.measurements import Measurement, Sizes

PEERS: Final = ("absurd", "DBOS", "django-tasks-db", "Procrastinate", "Celery")
# Celery's queue and results are in Valkey, which keeps nothing on disk here.
DURABLE: Final = {name: name != "Celery" for name in PEERS}


def measurements(databases: PostgresDatabases, sizes: Sizes, directory: Path) -> list[Measurement]:
    """Each peer's throughput, start rate and idle latency; *directory* is where their environment goes.

    Nothing is installed before the first of them runs.
    """
    # The drivers import this package where neither Django nor this project is installed.
    from tests.benchmarks.peers.measuring import measurements_of

    return measurements_of(PEERS, databases, sizes, directory)
