"""P11: tasks that wait, on the event loop and on many threads."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import APP, Figures, Measurement
from tests.benchmarks.tasks_sequences import AWAITING, AWAITING_ONCE, SLEEPING, TASKS


def measurements(bench: Bench) -> Iterator[Measurement]:
    """Jobs of five tasks that wait; and jobs of one, so that as many must be claimed as end."""
    of = partial(Measurement, "waiting", APP, bench.vendor)
    yield of("async tasks", lambda: _async(bench, AWAITING, TASKS))
    yield of("async tasks, one a job", lambda: _async(bench, AWAITING_ONCE, 1))
    yield of("threads", lambda: _threads(bench))


def _async(bench: Bench, sequence: str, tasks: int) -> Figures:
    slots, seconds = bench.sizes.async_tasks, bench.sizes.async_seconds
    jobs = max(slots, slots * bench.sizes.waits // tasks)
    template = bench.queued(jobs, sequence, {"seconds": seconds})
    figures = bench.work(template, jobs, sequence=sequence, tasks=tasks, async_concurrency=slots)
    return {**figures, "share": figures["tasks_per_second"] * seconds / slots}


def _threads(bench: Bench) -> Figures:
    threads, seconds = bench.sizes.threads, bench.sizes.thread_seconds
    # As many seconds as the async ones have turns.
    jobs = max(threads, int(threads * bench.sizes.waits / seconds / TASKS))
    template = bench.queued(jobs, SLEEPING, {"seconds": seconds})
    figures = bench.work(template, jobs, sequence=SLEEPING, concurrency=threads)
    return {**figures, "share": figures["tasks_per_second"] * seconds / threads}
