"""R23: several worker processes and a busy web site on one SQLite file."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from uuid import UUID

import pytest
from django.db import OperationalError, transaction

from django_tasks_seq import executor
from tests.chaos.checker import check, percentile
from tests.chaos.evidence import Audit, gather
from tests.chaos.monkey import Crew, Monkey, open_jobs
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.test_kills import fill_in
from tests.chaos.zygote import Zygote
from tests.helpers import InThread, wait_until
from tests.process.ledger import Ledger
from tests.testapp.models import Order

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.sqlite,
]

LEASE = 2.0
WORKERS = 4
KILLS = sizes().pick(cut=4, full=30)
PER_SECOND = 50
# The bar is 500 ms; a small run shares its two cores with whatever else a machine does.
P99 = sizes().pick(cut=5.0, full=0.5)


class Site:
    """A web site that starts a job with an order, 50 times a second, until told to stop."""

    def __init__(self) -> None:
        self.ids: list[UUID] = []
        self.seconds: list[float] = []
        self.errors: list[OperationalError] = []
        self._is_closed = threading.Event()

    def serve(self) -> None:
        due = time.monotonic()
        while not self._is_closed.wait(max(0.0, due - time.monotonic())):
            due = max(due + 1 / PER_SECOND, time.monotonic())
            begun = time.monotonic()
            try:
                self._request()
            except OperationalError as error:
                self.errors.append(error)
            self.seconds.append(time.monotonic() - begun)

    def _request(self) -> None:
        number = len(self.seconds)
        with transaction.atomic():
            order = Order.objects.create(number=str(number))
            job = executor.start_sequence("chain3", {"n": number, "seconds": 0.02}, subject=order)
        self.ids.append(job.id)

    def close(self) -> None:
        self._is_closed.set()


def test_a_web_site_meets_no_lock_while_workers_are_killed(
    zygotes: Callable[..., Zygote], ledger: Ledger, audit: Audit, seed: int
) -> None:
    """Four workers write to one file and are killed: no request meets "database is locked"."""
    monkey = Monkey(Crew(zygotes(LEASE_SECONDS=LEASE, MAX_CRASHES=1000), WORKERS), seed)
    site = Site()
    with recorded("R23", seed=seed) as run:
        monkey.crew.wait_until_there()
        serving = InThread(site.serve)
        try:
            for _ in range(KILLS):
                monkey.rest(0.2, 0.8)
                monkey.kill()
        finally:
            site.close()
            serving.result()
        wait_until(lambda: not open_jobs(), timeout=60, what="the end of all jobs")
        monkey.crew.dismiss()
        started = list(map(str, site.ids))
        history = gather(ledger, audit, monkey.faults)
        verdict = check(history, started=started, atomic=frozenset({"second"}))
        fill_in(run, verdict, monkey, len(started))
        p99 = percentile(site.seconds, 0.99)
        run.figures |= {
            "requests": len(site.seconds),
            "locked": len(site.errors),
            "enqueue_p99": p99,
        }

        assert monkey.count("kill") == KILLS
        assert site.errors == []
        assert verdict.wrong() == {}
        assert p99 is not None
        assert p99 < P99
