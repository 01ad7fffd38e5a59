"""Random harm to worker processes: a crew that is kept up, and a monkey that kills and stops its members."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from django.db import connection

from django_tasks_seq import executor
from django_tasks_seq.models import Job, Worker
from tests.chaos.checker import Fault
from tests.chaos.evidence import database_seconds
from tests.chaos.zygote import ForkedWorker, Zygote
from tests.helpers import DEADLINE, WorkerProcess, wait_until

AnyWorker = ForkedWorker | WorkerProcess
OPEN = ("READY", "WAITING", "RUNNING")


class Crew:
    """So many workers, replaced when they die; of each ten that start, one starts cold if asked to.

    *env* is the environment of cold starts; forked workers have their zygote's.
    """

    def __init__(
        self,
        zygote: Zygote,
        size: int,
        *args: str,
        env: dict[str, str] | None = None,
        cold_every: int = 0,
    ) -> None:
        self.zygote = zygote
        self.size = size
        self.args = args
        self.env = env
        self.cold_every = cold_every
        self.cold: list[WorkerProcess] = []
        self.members: list[AnyWorker] = []
        # Those that stand still; they come back.
        self.asleep: list[AnyWorker] = []
        self._started = 0

    def fill(self) -> None:
        """Start workers until there are enough that are not asleep."""
        while len(self.members) < self.size:
            self._started += 1
            is_cold = self.cold_every and self._started % self.cold_every == 0
            self.members.append(self._start_cold() if is_cold else self.zygote.fork(*self.args))

    def _start_cold(self) -> WorkerProcess:
        log: Path = self.zygote.folder / f"cold-{len(self.cold)}.log"
        worker = WorkerProcess(["run_task_worker", *self.args], log=log, env=self.env)
        self.cold.append(worker)
        return worker

    def wait_until_there(self) -> None:
        """Wait until each member has signed on."""
        self.fill()
        pids = {worker.pid for worker in self.members}
        wait_until(
            lambda: pids <= set(Worker.objects.values_list("pid", flat=True)), what="the crew"
        )

    def dismiss(self, timeout: float = 2 * DEADLINE) -> list[int]:
        """SIGTERM all, so that each writes what it still has to write; their exit codes."""
        everyone = [*self.members, *self.asleep]
        for worker in everyone:
            worker.send_signal(signal.SIGCONT)  # who sleeps would not hear
            worker.terminate()
        codes = [worker.wait(timeout) for worker in everyone]
        self.members, self.asleep = [], []
        return codes

    def close(self) -> None:
        """SIGKILL those that were started cold; the zygote ends the others."""
        for worker in self.cold:
            worker.kill()

    def output(self) -> str:
        """What all its workers, the dead ones too, have written."""
        everyone: list[AnyWorker] = [*self.zygote.workers, *self.cold]
        logs = [worker.log for worker in everyone]
        return "\n".join(log.read_text(errors="replace") for log in logs if log.exists())


def _continue(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def _others_can_write() -> bool:
    if connection.vendor != "sqlite":
        return True
    # Far below a third of a lease: who is to renew one waits as long.
    other = sqlite3.connect(connection.settings_dict["NAME"], timeout=0.2, isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    finally:
        other.close()
    return True


def holders() -> set[int]:
    """Process ids of the workers that hold jobs now."""
    rows = Job.objects.filter(status="RUNNING", worker__isnull=False)
    return set(rows.values_list("worker__pid", flat=True).distinct())


class Monkey:
    """Kills and stops members of a crew that hold jobs, chosen by a seeded generator."""

    def __init__(self, crew: Crew, seed: int) -> None:
        self.crew = crew
        self.random = random.Random(seed)
        self.faults: list[Fault] = []
        self._wake_at: list[tuple[float, AnyWorker]] = []

    def count(self, kind: str) -> int:
        """How many faults of this kind have really happened."""
        return sum(fault.kind == kind for fault in self.faults)

    def choose(self) -> AnyWorker:
        """A member that holds jobs now."""

        def busy() -> list[AnyWorker]:
            held = holders()
            return [one for one in self.crew.members if one.pid in held and one.running]

        return self.random.choice(wait_until(busy, what="a worker that holds jobs"))

    def kill(self) -> None:
        """SIGKILL one, and start another in its place."""
        victim = self.choose()
        at = database_seconds()
        victim.kill()
        self.faults.append(Fault("kill", victim.pid, at))
        self.crew.members.remove(victim)
        self.crew.fill()

    def stop(self, seconds: float) -> None:
        """SIGSTOP one for so long; another is started in its place."""
        victim = self._put_to_sleep()
        self.faults.append(Fault("stop", victim.pid, database_seconds()))
        # A thread wakes it: what this thread does next may wait for a lock that the sleeper holds.
        alarm = threading.Timer(seconds, _continue, [victim.pid])
        alarm.daemon = True
        alarm.start()
        self._wake_at.append((time.monotonic() + seconds, victim))
        self.crew.members.remove(victim)
        self.crew.asleep.append(victim)
        self.crew.fill()

    def _put_to_sleep(self) -> AnyWorker:
        while True:
            victim = self.choose()
            victim.send_signal(signal.SIGSTOP)
            if _others_can_write():
                return victim
            # With SQLite's only write lock it would keep all others from what this is to show.
            victim.send_signal(signal.SIGCONT)

    def wake(self) -> None:
        """Those whose time is up are members again."""
        now = time.monotonic()
        for at, worker in [one for one in self._wake_at if one[0] <= now]:
            self._wake_at.remove((at, worker))
            self.crew.asleep.remove(worker)
            self.crew.members.append(worker)

    def rest(self, shortest: float, longest: float) -> None:
        """Let things go on for a random while."""
        time.sleep(self.random.uniform(shortest, longest))
        self.wake()

    def wake_all(self) -> None:
        """Wait until nobody stands still any more."""

        def nobody() -> bool:
            self.wake()
            return not self._wake_at

        wait_until(nobody, what="the end of all stops")


@dataclass(frozen=True)
class Storm:
    """How much of what: faults are spread evenly, and each brings a part of the jobs with it.

    *nap* is how long a stopped worker stands still, *pause* the shortest and the longest time between
    two faults.
    """

    jobs: int
    kills: int = 0
    stops: int = 0
    nap: float = 0.0
    pause: tuple[float, float] = (0.02, 0.2)
    sequence: str = "chain"
    seconds: float = 0.01

    def faults(self) -> list[str]:
        """Kinds in the order they come: stops evenly among the kills."""
        every = max(1, self.kills // self.stops) if self.stops else 0
        kinds: list[str] = []
        for number in range(max(self.kills, self.stops)):
            if number < self.kills:
                kinds.append("kill")
            if every and number % every == 0 and kinds.count("stop") < self.stops:
                kinds.append("stop")
        return kinds

    def portions(self) -> list[range]:
        """Numbers of the jobs that start at first, and right before each fault."""
        first = self.jobs // 8
        rest = self.jobs - first
        count = max(1, len(self.faults()))
        marks = [first + rest * i // count for i in range(count + 1)]
        return [range(first), *(range(a, b) for a, b in pairwise(marks))]


def rage(storm: Storm, monkey: Monkey, *, every: Callable[[], object] | None = None) -> list[str]:
    """Start the jobs while the monkey rages; returns their ids. All faults have happened then."""
    started: list[str] = []

    def start(numbers: Sequence[int]) -> None:
        payloads = [{"n": n, "seconds": storm.seconds} for n in numbers]
        started.extend(str(job.id) for job in executor.start_many(storm.sequence, payloads))

    first, *portions = storm.portions()
    start(first)
    for kind, portion in zip(storm.faults(), portions, strict=True):
        monkey.rest(*storm.pause)
        start(portion)
        monkey.rest(0, 0.05)
        if kind == "kill":
            monkey.kill()
        else:
            monkey.stop(storm.nap)
    monkey.wake_all()
    return started


def open_jobs() -> int:
    """How many jobs have not ended."""
    return Job.objects.filter(status__in=OPEN).count()
