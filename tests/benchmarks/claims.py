"""How long the store takes to claim: each call is one that a worker makes, its commit included."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import django

from tests.benchmarks.processes import answer

LEASE = 60.0
QUEUES = {"named": ("default",), "all": ()}


def claim(batches: list[int], calls: int) -> dict[str, Any]:
    """So many claims of each size, for a worker on one queue and for one on all; seconds of each."""
    store, worker = _store()
    found: dict[str, list[float]] = {}
    for batch in batches:
        for name, queues in QUEUES.items():
            found[f"{name}_{batch}"] = _timed(
                calls, partial(store.claim, queues, batch, LEASE, worker), batch
            )
    return found


def idle(calls: int) -> dict[str, Any]:
    """Claims that find nothing, and the looks of an idle worker; seconds of each."""
    store, worker = _store()
    found: dict[str, list[float]] = {}
    for name, queues in QUEUES.items():
        found[name] = _timed(calls, partial(store.claim, queues, 128, LEASE, worker), 0)
        found[f"{name}_look"] = _timed(calls, partial(store.look, queues), None)
    return found


def _store() -> tuple[Any, int | None]:
    from django_tasks_seq import executor
    from django_tasks_seq.engine import options_from_settings

    store = executor.store()
    return store, store.enter(options_from_settings().introduction())


def _timed(calls: int, call: Callable[[], Any], wanted: int | None) -> list[float]:
    seconds = []
    for _ in range(calls):
        began = time.perf_counter()
        found = call()
        seconds.append(time.perf_counter() - began)
        if wanted is not None and len(found) != wanted:
            raise AssertionError(f"{wanted} jobs were to be claimed, and {len(found)} were")
    return seconds


if __name__ == "__main__":
    django.setup()
    answer({"claim": claim, "idle": idle})
