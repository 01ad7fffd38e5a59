"""R2: a worker is struck at twelve points in five ways; each of the sixty outcomes is written down."""

import random
import signal
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from django_tasks_seq import executor, registry
from django_tasks_seq.models import Job, JobEvent, TaskAttempt
from tests.chaos.failpoints import (
    ACTIONS,
    CHOSEN,
    EXIT_CODE,
    INSTALL,
    POINTS,
    SEQUENCE,
    declare,
)
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.zygote import ForkedWorker, Zygote
from tests.engines import STORE
from tests.process.ledger import Ledger
from tests.testapp.chaos import PATCHES
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

LEASE = 1.0
ABREAST = 3
Case = tuple[str, str]
CALLS = Counter({"first": 1, "second": 1, "third": 2, "fourth": 1, "@success": 1})


@dataclass(frozen=True)
class Outcome:
    """What becomes of a worker (its exit code) and of its job.

    *again* are the tasks that were called once more than without, *attempts* the outcomes of those
    that are on record, besides the one failure that the sequence means to have; *lost* counts the
    events of a lost worker.
    """

    code: int = 0
    status: str = "SUCCESSFUL"
    again: tuple[str, ...] = ()
    attempts: tuple[str, ...] = ()
    lost: int = 0


def ends(*again: str, lost: int = 0) -> Callable[[int], Outcome]:
    """The worker ends; another one ends the job well."""
    return lambda code: Outcome(code, again=again, lost=lost)


def goes_on(*again: str, failed: bool = False, lost: int = 0) -> Callable[[int], Outcome]:
    """The worker goes on, and ends the job well; the attempt may have failed, and was tried again."""
    return lambda _: Outcome(0, again=again, attempts=("FAILED",) if failed else (), lost=lost)


def fails() -> Callable[[int], Outcome]:
    """The worker goes on and the job fails: what is no `Exception` is not tried again."""
    return lambda _: Outcome(0, status="FAILED", attempts=("FAILED",))


DIED, RAISED, BASE, CONNECTION = ("kill", "exit"), ("exception",), ("base",), ("connection",)
WAYS = (DIED, RAISED, BASE, CONNECTION)
CODES = {"kill": -signal.SIGKILL, "exit": EXIT_CODE, "exception": 70, "base": 70, "connection": 0}

# For each point: the process dies, an Exception, a BaseException, a lost connection. A job whose
# worker has left it is lost only if its claim was still held: an engine that fails gives back what it
# knows of. An error of the database ends nobody; inside an atomic task it is the task's.
TABLE = {
    "rescue.between": (ends(lost=1), ends(lost=1), ends(lost=1), goes_on(lost=1)),
    "claim.before": (ends(), ends(), ends(), goes_on()),
    "claim.after": (ends(lost=1), ends(lost=1), ends(lost=1), goes_on(lost=1)),
    "task.before": (ends(lost=1), goes_on(failed=True), fails(), goes_on(failed=True)),
    "task.after": (
        ends("first", lost=1),
        goes_on("first", failed=True),
        fails(),
        goes_on("first", failed=True),
    ),
    "checkpoint.before": (ends("first", lost=1), ends(), ends("first", lost=1), goes_on()),
    "checkpoint.after": (ends(lost=1), ends(), ends(lost=1), goes_on()),
    "fence.before": (
        ends("second", lost=1),
        goes_on("second", failed=True),
        fails(),
        goes_on("second", failed=True),
    ),
    "fence.after": (
        ends("second", lost=1),
        goes_on("second", failed=True),
        fails(),
        goes_on("second", failed=True),
    ),
    "atomic.after": (ends(lost=1), goes_on(), goes_on(), goes_on()),
    "failure.after": (ends(), ends(), ends(), goes_on()),
    "handler.after": (
        ends("@success"),
        goes_on("@success", failed=True),
        goes_on("@success", failed=True),
        goes_on("@success", failed=True),
    ),
}


def expected(point: str, action: str) -> Outcome:
    """What the table says."""
    (found,) = (
        outcome for outcome, actions in zip(TABLE[point], WAYS, strict=True) if action in actions
    )
    return found(CODES[action])


def outcome_of(job: Job, worker: ForkedWorker, ledger: Ledger) -> Outcome:
    """What has become of them."""
    assert worker.code is not None
    calls = Counter(line.task_id for line in ledger.lines("call", job))
    attempts = TaskAttempt.objects.filter(job=job).order_by("id")
    return Outcome(
        worker.code,
        job.refresh().status,
        tuple(sorted((calls - CALLS).elements())),
        tuple(a.outcome for a in attempts if "the first attempt fails" not in a.message),
        JobEvent.objects.filter(job=job, kind="lost").count(),
    )


def test_every_point_is_a_function_of_the_package() -> None:
    """A function that is renamed takes its point with it: none is left that nobody passes."""
    assert set(TABLE) == set(POINTS)
    for point in POINTS.values():
        _, found = point.find()
        assert found.__module__.startswith("django_tasks_seq.")
    assert len(TABLE) * len(ACTIONS) == 60


def abreast(cases: list[Case]) -> list[list[Case]]:
    """Some at a time; but any worker may rescue any job, so those of the rescue go one by one, first."""
    alone = [case for case in cases if case[0] == "rescue.between"]
    others = [case for case in cases if case not in alone]
    chunks = [others[start : start + ABREAST] for start in range(0, len(others), ABREAST)]
    return [[case] for case in alone] + chunks


def begin(zygote: Zygote, point: str, action: str) -> tuple[Job, ForkedWorker]:
    """A job in a queue of its own, and the worker that is to be struck."""
    queue = f"{point}-{action}"
    (job,) = executor.start_many(SEQUENCE, [{"n": 1}], queue=queue)
    if point == "rescue.between":
        STORE.claim((queue,), 1, -1.0, None)  # by somebody who is gone
    chosen = {CHOSEN: f"{point}:{action}"}
    return job, zygote.fork(f"--queues={queue}", "--burst", "--concurrency=1", env=chosen)


def test_each_strike_has_the_outcome_that_is_written_down(
    zygotes: Callable[..., Zygote], ledger: Ledger, seed: int
) -> None:
    """Twelve points, five ways: what dies is replaced, what raises goes on or gives back, nothing doubles."""
    cases = [(point, action) for point in POINTS for action in ACTIONS]
    cases = random.Random(seed).sample(cases, sizes().pick(cut=15, full=len(cases)))
    zygote = zygotes(LEASE_SECONDS=LEASE, env={PATCHES: INSTALL})
    struck: dict[tuple[str, str], tuple[Job, ForkedWorker]] = {}
    with registry.isolated(), recorded("R2", seed=seed) as run:
        declare()
        for some in abreast(cases):
            struck |= {case: begin(zygote, *case) for case in some}
            for case in some:
                struck[case][1].wait()
        zygote.fork("--until-empty", "--concurrency=4").wait()

        found = {case: outcome_of(*struck[case], ledger) for case in cases}
        effects = Counter(Effect.objects.values_list("job_id", flat=True))
        well = {job.id for case, (job, _) in struck.items() if found[case].status == "SUCCESSFUL"}
        run.jobs, run.faults = len(cases), {"strikes": len(ledger.lines("struck"))}
        run.doubled = sum(count - 1 for count in effects.values())
        run.lost = sum(one.status not in {"SUCCESSFUL", "FAILED"} for one in found.values())

        assert {case: found[case] for case in cases} == {case: expected(*case) for case in cases}
        assert dict(effects) == dict.fromkeys(well, 1)
        struck_at = [(line.job_id, line.task_id) for line in ledger.lines("struck")]
        assert sorted(struck_at) == sorted(cases), "each once"
