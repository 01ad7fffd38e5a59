"""What a worker is told when it starts."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass, field

from ..cache.changes import WorkerInfo


def default_name() -> str:
    """`host:pid`; the worker's row has an id of its own for each boot."""
    return f"{socket.gethostname()}:{os.getpid()}"


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How one engine runs; times are seconds.

    *queues* empty means all. *burst* ends when nothing is due, *until_empty* when nothing waits
    either, *max_jobs* after so many jobs.
    """

    queues: tuple[str, ...] = ()
    concurrency: int = 8
    async_concurrency: int = 1000
    burst: bool = False
    until_empty: bool = False
    max_jobs: int | None = None
    drain_timeout: float = 30.0
    lease: float = 60.0
    poll: float = 1.0
    stop_grace: float = 10.0
    max_crashes: int = 3
    unknown_grace: float = 3600.0
    resend: float = 60.0
    name: str = field(default_factory=default_name)

    def introduction(self) -> WorkerInfo:
        """The worker as its row shows it."""
        host, _, pid = self.name.rpartition(":")
        return WorkerInfo(
            name=self.name,
            hostname=host or self.name,
            pid=int(pid) if pid.isdigit() else 0,
            queues=self.queues,
            concurrency=self.concurrency,
        )
