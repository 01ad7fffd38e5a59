"""The checker finds each kind of fault: it is fed a good history with one fault put in."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.checker import (
    AttemptRow,
    Call,
    EffectRow,
    EventRow,
    Fault,
    History,
    JobRow,
    JobStep,
    TaskRow,
    TaskStep,
    Verdict,
    check,
    percentile,
)
from tests.testapp.hard_sequences import link

PLAN = ("first", "second", "third")
ATOMIC = frozenset({"second"})
JOBS = ("a", "b")


def chains() -> list[str]:
    """The chain after each task of the plan."""
    found = [""]
    for task in PLAN:
        found.append(link(found[-1], task))
    return found[1:]


def good() -> History:
    """Two jobs; `b` lost its first worker in its third task, and was claimed again a second later."""
    rows = list(zip(PLAN, chains(), strict=True))
    calls = [Call(job, task, pid=1) for job in JOBS for task in PLAN]
    steps = [JobStep(job, "READY", "RUNNING", 0, 1, at=10.0) for job in JOBS]
    steps += [
        JobStep("a", "RUNNING", "SUCCESSFUL", pid=1, at=11.0),
        JobStep("b", "RUNNING", "READY", pid=1, at=12.5),
        JobStep("b", "READY", "RUNNING", 1, 2, at=13.0),
        JobStep("b", "RUNNING", "SUCCESSFUL", 2, 2, pid=2, at=13.5),
    ]
    return History(
        jobs=[
            JobRow(job, "SUCCESSFUL", PLAN, {"n": 1}, {"n": 1, "chain": chains()[-1]})
            for job in JOBS
        ],
        tasks=[
            TaskRow(job, task, place, result={"n": 1, "chain": chain})
            for job in JOBS
            for place, (task, chain) in enumerate(rows)
        ],
        effects=[EffectRow(job, "second") for job in JOBS],
        calls=[*calls, Call("b", "third", pid=2)],
        events=[EventRow("b", "lost")],
        job_steps=steps,
        task_steps=[TaskStep(job, task, "", "SUCCESSFUL") for job in JOBS for task in PLAN],
        faults=[Fault("kill", 1, 12.0)],
    )


def judge(history: History, **options: Any) -> Verdict:
    return check(history, started=JOBS, atomic=ATOMIC, **options)


def test_a_good_history_is_good() -> None:
    """Nothing is wrong, the repeated call is counted, and its recovery is measured."""
    verdict = judge(good())

    assert verdict.ok
    assert verdict.wrong() == {}
    assert (verdict.repeats, verdict.losses) == (1, 1)
    assert verdict.recoveries == [1.0]
    assert verdict.recovery_p99 == 1.0


Change = Callable[[History], Any]


def with_status(status: str) -> Change:
    def change(h: History) -> None:
        h.jobs = [h.jobs[0], h.jobs[1]._replace(status=status)]

    return change


def without(name: str, number: int) -> Change:
    def change(h: History) -> None:
        rows = list(getattr(h, name))
        del rows[number]
        setattr(h, name, rows)

    return change


def adding(name: str, row: Any) -> Change:
    def change(h: History) -> None:
        setattr(h, name, [*getattr(h, name), row])

    return change


def swapping(name: str, one: int, other: int) -> Change:
    def change(h: History) -> None:
        rows = list(getattr(h, name))
        rows[one], rows[other] = rows[other], rows[one]
        setattr(h, name, rows)

    return change


def replacing(name: str, number: int, **values: Any) -> Change:
    def change(h: History) -> None:
        rows = list(getattr(h, name))
        rows[number] = rows[number]._replace(**values)
        setattr(h, name, rows)

    return change


LATE = {"n": 1, "chain": "0" * 16}
SEEDED = [
    pytest.param(without("jobs", 1), {"lost"}, id="a job has gone"),
    pytest.param(with_status("RUNNING"), {"lost"}, id="a job has not ended"),
    pytest.param(with_status("FAILED"), {"lost"}, id="a job has failed"),
    pytest.param(without("tasks", 5), {"lost", "broken_chains"}, id="a task left no row"),
    pytest.param(without("effects", 1), {"lost"}, id="an atomic task left no effect"),
    pytest.param(adding("effects", EffectRow("a", "second")), {"doubled"}, id="an effect twice"),
    pytest.param(
        adding("task_steps", TaskStep("a", "third", "SUCCESSFUL", "SUCCESSFUL")),
        {"doubled", "out_of_order"},
        id="an outcome written over",
    ),
    pytest.param(swapping("task_steps", 0, 1), {"out_of_order"}, id="outcomes in another order"),
    pytest.param(swapping("calls", 0, 1), {"out_of_order"}, id="calls in another order"),
    pytest.param(without("calls", 1), {"out_of_order"}, id="a task that was never called"),
    pytest.param(
        replacing("tasks", 4, result=LATE), {"broken_chains"}, id="a result of another payload"
    ),
    pytest.param(replacing("jobs", 0, result=LATE), {"broken_chains"}, id="a job's result"),
    pytest.param(
        adding("job_steps", JobStep("a", "SUCCESSFUL", "RUNNING", 1, 2)),
        {"illegal"},
        id="a final job claimed",
    ),
    pytest.param(
        replacing("job_steps", 4, new_token=1), {"illegal"}, id="a claim that raised no token"
    ),
    pytest.param(replacing("job_steps", 3, new_token=0), {"illegal"}, id="a token that fell"),
    pytest.param(without("job_steps", 3), {"illegal"}, id="a claim of what somebody held"),
    pytest.param(
        adding("task_steps", TaskStep("a", "third", "SUCCESSFUL", "RUNNING")),
        {"illegal"},
        id="a task that began after its end",
    ),
    pytest.param(without("events", 0), {"unexplained"}, id="a call again without a reason"),
    pytest.param(
        adding("calls", Call("a", "third", pid=2)), {"unexplained"}, id="a call of an ended task"
    ),
]


@pytest.mark.parametrize(("change", "kinds"), SEEDED)
def test_each_fault_is_found(change: Change, kinds: set[str]) -> None:
    """One fault in a good history is found, under its kind and no other."""
    history = good()
    change(history)

    verdict = judge(history)

    assert not verdict.ok
    assert set(verdict.wrong()) == kinds


def test_a_failure_explains_a_repeat() -> None:
    """A task that was tried again after an error is no unexplained repeat."""
    history = good()
    history.events = ()
    history.attempts = [AttemptRow("b", "third", 1, "FAILED")]

    assert judge(history).ok


def test_who_stood_still_may_call_late() -> None:
    """A stopped process calls a task that others have passed: no fault, its outcome is refused."""
    history = good()
    late = [Call("b", "first", pid=3)]
    history.calls = [*history.calls, *late]
    assert judge(history).out_of_order == ["b"]

    history.faults = [*history.faults, Fault("stop", 3, 12.0)]
    assert judge(history).out_of_order == []


def test_jobs_may_be_expected_to_fail() -> None:
    """`ends` names the jobs that are to end otherwise; to succeed is then a fault."""
    history = good()
    assert judge(history, ends={"a": "FAILED"}).lost == ["a"]

    history = replace(history, jobs=[history.jobs[0]._replace(status="FAILED"), history.jobs[1]])
    assert judge(history, ends={"a": "FAILED"}).lost == []


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [([], 0.99, None), ([5.0], 0.99, 5.0), ([3.0, 1.0, 2.0], 0.5, 2.0), (range(100), 0.99, 98)],
)
def test_percentiles_are_values_that_occurred(values: Any, share: float, expected: Any) -> None:
    """By nearest rank: the smallest value that is not below so many of all."""
    assert percentile(values, share) == expected
