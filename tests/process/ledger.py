"""What worker processes of these tests have done, read from their ledger and the database."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django_tasks_seq import clock
from django_tasks_seq.models import Job
from tests.testapp.hard_sequences import LEDGER


@dataclass(frozen=True)
class Line:
    """One line of the ledger."""

    event: str
    job_id: str
    task_id: str
    attempt: int
    pid: int


class Ledger:
    """The file that tasks write to, whatever becomes of their process."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, event: str = "", job: Any = None) -> list[Line]:
        """What was written, in order; *event* and *job* choose."""
        if not self.path.exists():
            return []
        found = [line.split() for line in self.path.read_text().splitlines()]
        lines = [
            Line(e, job_id, task, int(attempt), int(pid)) for e, job_id, task, attempt, pid in found
        ]
        return [
            line
            for line in lines
            if (not event or line.event == event) and (job is None or line.job_id == str(job.id))
        ]

    def calls(self) -> Counter[tuple[str, str]]:
        """How often each task of each job was called."""
        return Counter((line.job_id, line.task_id) for line in self.lines("call"))

    def environment(self, **settings: Any) -> dict[str, str]:
        """The environment of a worker that writes here, with *settings* in `TASKS_SEQ`."""
        return {LEDGER: str(self.path), "TASKS_SEQ_TEST_SETTINGS": json.dumps(settings)}


def database_time() -> Any:
    """Now, by the clock that decides leases."""
    return Job.objects.values_list(clock.Now(), flat=True).first()


def held_by(worker_name: str) -> set[str]:
    """Ids of the jobs that this worker holds."""
    found = Job.objects.filter(status="RUNNING", worker__name=worker_name)
    return {str(job_id) for job_id in found.values_list("id", flat=True)}
