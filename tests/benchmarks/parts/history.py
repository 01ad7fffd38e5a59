"""P5: what a million finished tasks in the tables cost claims and throughput."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks import filling
from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import APP, Figures, Measurement, quantile
from tests.benchmarks.processes import measure

BATCHES = (1, 32, 128)
# A tenth of the ready jobs is on other queues, and claims on all queues take from each.
SPARE = 1.5


def measurements(bench: Bench) -> Iterator[Measurement]:
    """The work, and claims of three sizes, with the history in the tables."""
    of = partial(Measurement, "history", APP, bench.vendor)
    yield of("work with history", lambda: _work(bench))
    yield of("claims with history", lambda: _claims(bench))


def _work(bench: Bench) -> Figures:
    jobs = bench.sizes.jobs
    return bench.work(bench.queued(jobs, onto=bench.history), jobs)


def _claims(bench: Bench) -> Figures:
    calls = bench.sizes.claims
    queued = bench.queued(bench.sizes.jobs, onto=bench.history)
    with bench.fresh(queued) as url:
        # What was added since the last ANALYZE no statistics know of: as on a busy day.
        ready = int(2 * calls * sum(BATCHES) * SPARE)
        filling.fill_ready(url, ready, is_settled=False)
        found = measure("claims", "claim", url, batches=BATCHES, calls=calls)
    return {
        f"claim_p{percent}_ms_{name}": 1000 * quantile(seconds, percent / 100)
        for percent in (50, 99)
        for name, seconds in found.items()
    }
