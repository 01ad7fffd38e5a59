"""R20: a task that ends its worker each time is failed, on evidence, and its neighbours are unharmed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from django_tasks_seq import executor
from django_tasks_seq.models import Job
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.zygote import ForkedWorker, Zygote
from tests.helpers import wait_until

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

NEIGHBOURS = sizes().pick(cut=6, full=24)
MB = 2**20
DEATHS = 4  # the first loss leaves no evidence, and three are counted
Zygotes = Callable[..., Zygote]


class Place:
    """One worker of a queue of its own, started again each time it dies, as a supervisor does."""

    def __init__(self, zygote: Zygote, queue: str, memory: int | None = None) -> None:
        self._start = lambda: zygote.fork(f"--queues={queue}", "--concurrency=2", memory=memory)
        self.worker: ForkedWorker = self._start()
        self.codes: list[int] = []

    def look(self) -> None:
        """Start it anew if it has died."""
        if not self.worker.running:
            assert self.worker.code is not None
            self.codes.append(self.worker.code)
            self.worker = self._start()


def start(queue: str, sequence: str, payload: Any) -> Job:
    """The job that kills, with neighbours before and behind it."""
    short = [{"n": n, "seconds": 0.02} for n in range(NEIGHBOURS // 2)]
    executor.start_many("chain", short, queue=queue)
    (job,) = executor.start_many(sequence, [payload], queue=queue)
    executor.start_many("chain", short, queue=queue)
    return job


def test_a_task_that_kills_its_workers_is_failed_alone(zygotes: Zygotes, seed: int) -> None:
    """os._exit, SIGSEGV, SIGABRT and a hunger for memory: each fails its job, and costs 4 workers at most."""
    zygote = zygotes(LEASE_SECONDS=1)
    kinds = ("exit", "SIGSEGV", "SIGABRT")
    with recorded("R20", seed=seed) as run:
        deadly = [start(how, "deadly", {"how": how}) for how in kinds]
        hog = start("hog", "hog", {"bytes": 16 * MB})
        places = {how: Place(zygote, how) for how in kinds} | {
            "hog": Place(zygote, "hog", 768 * MB)
        }

        def all_have_ended() -> bool:
            for place in places.values():
                place.look()
            return not Job.objects.exclude(status__in=("SUCCESSFUL", "FAILED")).exists()

        wait_until(all_have_ended, timeout=60, what="the end of all jobs")
        deaths = {queue: place.codes for queue, place in places.items()}
        others = Job.objects.exclude(pk__in=[job.pk for job in (*deadly, hog)])
        lost = others.exclude(status="SUCCESSFUL").count()
        run.faults = {"deaths": sum(map(len, deaths.values()))}
        run.jobs, run.lost = Job.objects.count(), lost
        run.figures["deaths"] = deaths

        assert lost == 0
        assert others.count() == 4 * (NEIGHBOURS // 2) * 2
        for job in deadly:
            assert job.refresh().status == "FAILED"
            assert "for the 3. time" in job.error
        assert hog.refresh().status == "FAILED"
        assert "MemoryError" in hog.error or "for the 3. time" in hog.error
        assert deaths["exit"] == [3] * DEATHS
        assert deaths["SIGSEGV"] == [-11] * DEATHS
        assert deaths["SIGABRT"] == [-6] * DEATHS
        assert len(deaths["hog"]) <= DEATHS
