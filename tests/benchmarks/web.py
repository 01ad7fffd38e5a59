"""A web server beside the worker, as the database sees it: short transactions, some each second."""

from __future__ import annotations

import sys
import threading
import time
from typing import Any, Final

import django
from django.db import OperationalError, transaction

from tests.benchmarks.processes import answer, wait_for_the_others
from tests.benchmarks.tasks_sequences import FILLER

PAUSE: Final = 0.005


def write() -> dict[str, Any]:
    """Write until the other side closes our input: how long each took, and how many were refused."""
    from tests.benchmarks.models import Entry

    seconds: list[float] = []
    locked, end = 0, threading.Event()

    def watch() -> None:
        sys.stdin.read()
        end.set()

    wait_for_the_others()
    threading.Thread(target=watch, daemon=True).start()
    while not end.is_set() or not seconds:
        began = time.perf_counter()
        try:
            with transaction.atomic():
                entry = Entry.objects.create(task_id="web", text=FILLER)
                Entry.objects.filter(pk=entry.pk).update(text=FILLER.upper())
        except OperationalError as error:
            if "locked" not in str(error):
                raise
            locked += 1
        seconds.append(time.perf_counter() - began)
        time.sleep(PAUSE)
    return {"locked": locked, "seconds": seconds, "rows": Entry.objects.count()}


if __name__ == "__main__":
    django.setup()
    answer({"write": write})
