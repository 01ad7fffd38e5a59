"""An engine that was told to stop ends in its time, whoever else is still busy: promise G8."""

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from django_tasks_seq import executor, signals
from tests.engines import declare, engine
from tests.helpers import DEADLINE

LIMIT = 0.2
# Seconds that a receiver once had, whatever the limit was.
TOO_LONG = 4.0


def nothing(payload: Any) -> Any:
    return payload


class Hanging:
    """A receiver that does not come back."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.left = threading.Event()

    def __call__(self, **facts: Any) -> None:
        self.entered.set()
        self.left.wait(2 * DEADLINE)


@pytest.fixture
def hanging() -> Iterator[Hanging]:
    """Connected to `task_finished`, and let go at the end."""
    receiver = Hanging()
    signals.task_finished.connect(receiver)
    yield receiver
    signals.task_finished.disconnect(receiver)
    receiver.left.set()


def test_a_receiver_that_hangs_does_not_keep_a_worker_beyond_its_drain_limit(
    hanging: Hanging,
) -> None:
    """It is told of a task and never returns: the worker leaves it behind, as it would a task."""
    declare("plain", ("only", nothing))
    with engine(drain_timeout=LIMIT) as worker:
        executor.start_sequence("plain", 1)
        assert hanging.entered.wait(DEADLINE)

        asked_at = time.monotonic()
        assert worker.stop() == 0

    assert time.monotonic() - asked_at < TOO_LONG


def test_what_is_still_to_be_told_is_told_before_the_limit() -> None:
    """A slow receiver has what is left of the drain: nothing it was to hear is dropped."""
    heard: list[Any] = []
    began, go_on = threading.Event(), threading.Event()

    def slow(task_id: str, **facts: Any) -> None:
        began.set()
        go_on.wait(DEADLINE)
        heard.append(task_id)

    declare("plain", ("first", nothing), ("second", nothing))
    signals.task_finished.connect(slow)
    try:
        with engine(drain_timeout=DEADLINE) as worker:
            job = executor.start_sequence("plain", 1)
            assert executor.wait(job, timeout=DEADLINE).status == "SUCCESSFUL"
            assert began.wait(DEADLINE)
            worker.ask_to_stop()
            go_on.set()
    finally:
        signals.task_finished.disconnect(slow)

    assert heard == ["first", "second"]
