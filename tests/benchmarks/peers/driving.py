"""What the peers' drivers share; it runs in the peers' environment, where this project is not installed.

    python -m tests.benchmarks.peers.driving celery work '{"jobs": 200}'

calls a verb of a driver and writes what it returned as one line of JSON. A driver is a module of this
package with the verbs `prepare`, `queue`, `work`, `outcome`, `start`, `latency` and `serve`.
"""

from __future__ import annotations

import faulthandler
import importlib
import json
import os
import random
import resource
import sys
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, Final, TypeVar

TASKS: Final = 5
FILLER: Final = "x" * 96
CONCURRENCY: Final = 8
# Where a worker can only ask again and again, it asks this often: much oftener than by default.
POLL: Final = 0.05
GLANCE: Final = 0.001
# Jobs that begin at random moments meet a poller at all moments of its round.
GAPS: Final = (0.02, 0.02 + 2 * POLL)
JOB_DEADLINE: Final = 30.0
# For any verb; a process that still runs then writes the stacks of its threads and ends.
DEADLINE: Final = 120.0

Payload = dict[str, Any]
Job = TypeVar("Job")


def first() -> Payload:
    """The first task's payload."""
    return {"count": 0}


def noop(payload: Payload) -> Payload:
    """What each task does: count on, so that the last result proves that each task got the one before."""
    return {"text": FILLER, "count": payload["count"] + 1}


def database_url() -> str:
    """The database of this run."""
    return os.environ["DATABASE_URL"]


class Countdown:
    """Calls once when so many jobs have run their last task; its outcome is stored a moment later."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = 0
        self._then: Callable[[], object] = int

    def expect(self, jobs: int, then: Callable[[], object]) -> None:
        """Call *then* when *jobs* have ended."""
        self._left, self._then = jobs, then

    def note(self, result: Payload) -> Payload:
        """Count a job when *result* is its last task's; returns the result."""
        if result["count"] == TASKS:
            with self._lock:
                self._left -= 1
                left = self._left
            if left == 0:
                self._then()
        return result


class ProcessorTime:
    """What this process, and those that it has waited for, use from `begin` on."""

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Count from here; a driver calls it again when its worker is up."""
        self._before = self._now()

    def spent(self) -> dict[str, float]:
        """The figure, in seconds."""
        return {"cpu_seconds": self._now() - self._before}

    @staticmethod
    def _now() -> float:
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        used = [resource.getrusage(kind) for kind in kinds]
        return sum(one.ru_utime + one.ru_stime for one in used)


def starts_a_second(start: Callable[[], object], starts: int) -> dict[str, float]:
    """Start jobs one after the other; the first start, which connects, is not counted."""
    start()
    began = time.perf_counter()
    for _ in range(starts):
        start()
    return {"one_by_one": starts / (time.perf_counter() - began)}


def latencies(
    start: Callable[[], Job], ended_at: Callable[[Job], float | None], jobs: int, warm_up: int
) -> dict[str, list[float]]:
    """Start jobs one at a time beside an idle worker: seconds from a start's return to their ends.

    *ended_at* is the time of day at which the job ended, by its own record, once that is stored;
    *seen* is when this process found it, later by the commit and by up to a glance.
    """
    finished, seen = [], []
    for _ in range(warm_up + jobs):
        time.sleep(random.uniform(*GAPS))
        job = start()
        returned = time.time()
        finished.append(_wait_for(job, ended_at) - returned)
        seen.append(time.time() - returned)
    return {"finished": finished[warm_up:], "seen": seen[warm_up:]}


def _wait_for(job: Job, ended_at: Callable[[Job], float | None]) -> float:
    deadline = time.monotonic() + JOB_DEADLINE
    while time.monotonic() < deadline:
        if (ended := ended_at(job)) is not None:
            return ended
        time.sleep(GLANCE)
    raise TimeoutError(f"job {job} has not ended within {JOB_DEADLINE:g} s")


def outcome(jobs: int, results: Iterable[Payload], began: float, ended: float) -> dict[str, Any]:
    """What a peer's own records say: jobs that ended well, all results, and the span of the work."""
    counts = [result["count"] for result in results]
    return {
        "jobs": jobs,
        "counts": {str(count): counts.count(count) for count in sorted(set(counts))},
        "seconds": ended - began,
    }


def main() -> None:
    """Call a driver's verb; see the module's text."""
    _, name, verb, given = sys.argv
    faulthandler.dump_traceback_later(DEADLINE, exit=True)
    driver = importlib.import_module(f"tests.benchmarks.peers.{name}")
    found = getattr(driver, verb)(**json.loads(given))
    print(json.dumps(found or {}), flush=True)


if __name__ == "__main__":
    main()
