"""How many jobs a worker takes in hand, and what it gives back."""

import time
from typing import Any

from django_tasks_seq import executor
from django_tasks_seq.engine.claiming import LARGEST_WINDOW, Claiming
from django_tasks_seq.engine.hands import BYTES_IN_HAND, Hands
from django_tasks_seq.engine.options import EngineOptions
from django_tasks_seq.engine.runners import TaskRunner
from django_tasks_seq.models import Job, TaskAttempt, TaskStatus
from tests.engines import STORE, Gate, declare, engine
from tests.helpers import wait_until


def nothing(payload: Any) -> Any:
    return payload


def held(name: str) -> int:
    return Job.objects.filter(status="RUNNING", worker__name=name).count()


def all_successful() -> bool:
    return not Job.objects.exclude(status="SUCCESSFUL").exists()


def record_claims(running: Any) -> list[int]:
    """Sizes of this engine's claims as they are made."""
    sizes: list[int] = []
    claim = STORE.claim

    def claim_and_note(*args: Any) -> Any:
        found = claim(*args)
        sizes.append(len(found))
        return found

    running.engine.claiming.store = type(
        "Noting",
        (),
        {"claim": staticmethod(claim_and_note), "claim_handlers": STORE.claim_handlers},
    )
    return sizes


def test_the_window_grows_with_short_tasks() -> None:
    """It begins with one job for each thread, at most doubles, and has an end."""
    declare("lines", ("a", nothing), ("b", nothing))
    with engine(name="one:1", concurrency=4) as one:
        wait_until(lambda: one.engine.claiming.worker_id)
        sizes = record_claims(one)
        executor.start_many("lines", [{"n": n} for n in range(3000)])
        wait_until(all_successful, what="the end of all")

    found = [size for size in sizes if size]
    assert found[0] <= 4 * 2
    assert max(found) > 50
    assert max(found) <= LARGEST_WINDOW


def test_a_starved_engine_does_not_claim_without_end() -> None:
    """What has been claimed and waits for the engine counts, though all threads look idle."""
    declare("lines", ("a", nothing))
    executor.start_many("lines", [{"n": n} for n in range(3 * LARGEST_WINDOW)])
    hands = Hands()
    runner = TaskRunner(concurrency=4, async_concurrency=4, wake=lambda: None)
    claiming = Claiming(STORE, hands, runner, EngineOptions(concurrency=4))

    while claiming.claim():
        assert runner.idle() == 4

    assert len(hands) == LARGEST_WINDOW
    runner.close()


def test_long_tasks_are_not_hoarded() -> None:
    """With a task on each thread no further job is claimed: a second worker gets it."""
    gate = Gate()

    def waits(payload: Any) -> Any:
        gate()
        return payload

    declare("long", ("a", waits))
    executor.start_many("long", [{"n": n} for n in range(4)])
    with engine(name="one:1", concurrency=2):
        gate.wait_for(2)
        with engine(name="two:2", concurrency=2):
            gate.wait_for(2)
            assert (held("one:1"), held("two:2")) == (2, 2)
            gate.open()
            wait_until(all_successful, what="the end of all")


def test_jobs_that_wait_too_long_in_hand_are_given_back() -> None:
    """Claimed for short tasks, they meet long ones: after a second others can run them, at no cost."""
    gate = Gate()

    def waits(payload: dict[str, Any]) -> Any:
        if payload["n"] < 0:
            gate()
        return payload

    declare("mixed", ("a", waits), ("b", nothing))
    with engine(name="one:1", concurrency=1) as one:
        executor.start_many("mixed", [{"n": n} for n in range(2000)])
        wait_until(lambda: one.engine.claiming._window > 20, what="a wide window")
        executor.start_many("mixed", [{"n": -1}], priority=50)
        gate.wait_for()
        with engine(name="two:2", concurrency=1):
            left = Job.objects.exclude(status="SUCCESSFUL")
            wait_until(lambda: left.count() == 1, what="all but the long one")
        assert held("one:1") == 1
        gate.open()
        wait_until(all_successful, what="the end of all")

    assert not TaskAttempt.objects.exists()
    assert set(TaskStatus.objects.values_list("attempts", flat=True)) == {1}


def test_payloads_in_hand_are_bounded() -> None:
    """Once it knows how heavy jobs are, a worker claims no more than may be in hand."""
    gate = Gate()

    def waits(payload: Any) -> None:
        gate()

    declare("heavy", ("a", waits))
    executor.start_many("heavy", ["x" * 900_000] * 60)
    with engine(name="one:1", concurrency=3) as one:
        gate.wait_for(3)
        claiming = one.engine.claiming
        # As after many short tasks: the window alone would let hundreds in.
        claiming._window, claiming._rate, claiming.is_due = 256.0, 1e9, True
        one.wakeup.set()
        wait_until(lambda: held("one:1") > 3, what="a claim for the window")
        in_hand = one.engine.hands.bytes
        gate.open()
        wait_until(all_successful, what="the end of all")

    assert in_hand < BYTES_IN_HAND + 2 * 900_000


def test_heavy_jobs_behind_light_ones_are_claimed_by_their_own_weight() -> None:
    """A window that light jobs have opened lets in no more payload than is to be in hand."""
    declare("heavy", ("a", nothing))
    executor.start_many("heavy", ["x" * 900_000] * 40)
    hands = Hands()
    runner = TaskRunner(concurrency=4, async_concurrency=4, wake=lambda: None)
    claiming = Claiming(STORE, hands, runner, EngineOptions(concurrency=4))
    claiming._window, claiming._rate = 256.0, 1e9

    while claiming.claim():
        pass

    assert BYTES_IN_HAND <= hands.bytes < BYTES_IN_HAND + 2 * 900_000
    assert claiming.is_due
    runner.close()


def test_jobs_whose_results_no_longer_fit_are_given_back() -> None:
    """Light jobs that become heavy by what their tasks return go back, and are run a few at a time."""

    def grows(payload: Any) -> Any:
        return "x" * 900_000

    gate = Gate()

    def waits(payload: Any) -> None:
        gate()

    declare("growing", ("a", grows), ("b", waits))
    with engine(name="one:1", concurrency=2) as one:
        wait_until(lambda: one.engine.claiming.worker_id)
        one.engine.claiming._window, one.engine.claiming._rate = 256.0, 1e9
        executor.start_many("growing", [{"n": n} for n in range(60)])
        gate.wait_for(2)
        most = BYTES_IN_HAND + 2 * 900_000
        wait_until(lambda: 900_000 * held("one:1") < most, what="what is too much to go back")
        gate.open()
        wait_until(all_successful, what="the end of all")

    assert gate.entries == 60
    assert not TaskAttempt.objects.exists()


def test_a_retry_that_is_due_soon_is_run_when_it_is_due() -> None:
    """With a poll interval far longer than the delay, the worker looks when its own retry is due."""
    from django_tasks_seq import Retry, TaskSpec

    def second_time(payload: Any, context: Any) -> Any:
        if context.attempt == 1:
            raise ValueError("once")
        return payload

    declare("again", TaskSpec("a", second_time, retry=Retry(2, delay=0.5, jitter=False)))
    job = executor.start_sequence("again", {})
    begun_at = time.monotonic()
    with engine(name="one:1", poll=600.0):
        executor.wait(job, 30)

    assert time.monotonic() - begun_at >= 0.5
    job.refresh()
    assert job.status == "SUCCESSFUL"
    assert job.run_after <= TaskStatus.objects.get().started_at
