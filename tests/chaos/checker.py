"""Whether a run kept its promises: a pure function of plain data.

`check(history)` compares what the database and the ledger say with what may be. The order of the steps
of *one* job is that of its commits; between jobs it says nothing.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Any, NamedTuple

from django_tasks_seq.choices import DONE, FINAL
from django_tasks_seq.transitions import JOB, TASK, Transition
from tests.testapp.hard_sequences import link

Place = tuple[str, str]  # a job's id and one of its tasks


class JobRow(NamedTuple):
    """A job as it stands at the end."""

    id: str
    status: str
    plan: tuple[str, ...]
    payload: Any = None
    result: Any = None


class TaskRow(NamedTuple):
    """A task status as it stands at the end."""

    job: str
    task: str
    position: int
    status: str = "SUCCESSFUL"
    attempts: int = 1
    result: Any = None


class EffectRow(NamedTuple):
    """What an atomic task has committed."""

    job: str
    task: str
    attempt: int = 1


class Call(NamedTuple):
    """A line of the ledger: a task was called, whatever came of it."""

    job: str
    task: str
    attempt: int = 1
    pid: int = 0


class AttemptRow(NamedTuple):
    """An attempt that did not succeed."""

    job: str
    task: str
    attempt: int
    outcome: str


class EventRow(NamedTuple):
    """An anomaly that the database keeps."""

    job: str
    kind: str


class JobStep(NamedTuple):
    """A committed change of a job: *pid* is the worker that held it before."""

    job: str
    old: str
    new: str
    old_token: int = 1
    new_token: int = 1
    pid: int | None = None
    at: float = 0.0


class TaskStep(NamedTuple):
    """A committed write of a task's row; *old* is empty when it was new."""

    job: str
    task: str
    old: str
    new: str


class Fault(NamedTuple):
    """What was done to a worker, when by the database's clock: `kill` or `stop`."""

    kind: str
    pid: int
    at: float


@dataclass
class History:
    """All that a run has left behind."""

    jobs: Sequence[JobRow] = ()
    tasks: Sequence[TaskRow] = ()
    effects: Sequence[EffectRow] = ()
    calls: Sequence[Call] = ()
    attempts: Sequence[AttemptRow] = ()
    events: Sequence[EventRow] = ()
    job_steps: Sequence[JobStep] = ()
    task_steps: Sequence[TaskStep] = ()
    faults: Sequence[Fault] = ()


@dataclass
class Verdict:
    """What was wrong, by kind; and what was only remarkable.

    *lost*: jobs that did not end as they should, or whose tasks left no row or no effect; *doubled*:
    (job, task) that committed more than once; *unexplained*: (job, task) called again without a loss
    or a failure that could be the reason. *repeats* counts calls of plain tasks beyond the first.
    """

    lost: list[str] = field(default_factory=list)
    doubled: list[Place] = field(default_factory=list)
    out_of_order: list[str] = field(default_factory=list)
    broken_chains: list[str] = field(default_factory=list)
    illegal: list[str] = field(default_factory=list)
    unexplained: list[Place] = field(default_factory=list)
    repeats: int = 0
    losses: int = 0
    rescues: list[float] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing was wrong."""
        return not any(self.wrong().values())

    def wrong(self) -> dict[str, list[Any]]:
        """The first of what was wrong, by kind."""
        kinds = ("lost", "doubled", "out_of_order", "broken_chains", "illegal", "unexplained")
        return {kind: getattr(self, kind)[:5] for kind in kinds if getattr(self, kind)}

    @property
    def recovery_p99(self) -> float | None:
        """Seconds from the kill of a worker until a job of it was claimed again."""
        return percentile(self.recoveries, 0.99)


def percentile(values: Iterable[float], share: float) -> float | None:
    """The smallest value that is not below *share* of all; None of none."""
    ordered = sorted(values)
    return ordered[max(0, ceil(share * len(ordered)) - 1)] if ordered else None


def check(
    history: History,
    *,
    started: Iterable[str] = (),
    atomic: frozenset[str] = frozenset(),
    ends: Mapping[str, str] | None = None,
) -> Verdict:
    """Judge a run.

    *started* are the ids of all jobs whose start was committed, *atomic* the ids of tasks that leave
    an `Effect`, *ends* the jobs that are to end otherwise than SUCCESSFUL.
    """
    plans = {job.id: job.plan for job in history.jobs}
    losses = Counter(event.job for event in history.events if event.kind == "lost")
    rescues, recoveries = _recoveries(history)
    return Verdict(
        lost=_lost(history, set(started), atomic, ends or {}),
        doubled=_doubled(history),
        out_of_order=sorted(_out_of_order(history, plans)),
        broken_chains=list(_broken_chains(history)),
        illegal=[*_illegal_job_steps(history), *_illegal_task_steps(history)],
        unexplained=_unexplained(history, losses, atomic),
        repeats=sum(_repeats(history, atomic).values()),
        losses=sum(losses.values()),
        rescues=rescues,
        recoveries=recoveries,
    )


def _lost(
    history: History, started: set[str], atomic: frozenset[str], ends: Mapping[str, str]
) -> list[str]:
    done = {(row.job, row.task) for row in history.tasks if row.status in DONE}
    effects = {(row.job, row.task) for row in history.effects}
    traceless = done - effects
    found = started - {job.id for job in history.jobs}
    for job in history.jobs:
        is_successful = job.status == "SUCCESSFUL"
        missing = [task for task in job.plan if (job.id, task) not in done]
        silent = [task for task in job.plan if task in atomic and (job.id, task) in traceless]
        if job.status != ends.get(job.id, "SUCCESSFUL") or (is_successful and missing) or silent:
            found.add(job.id)
    return sorted(found)


def _doubled(history: History) -> list[Place]:
    """Effects, and outcomes, that were committed twice."""
    effects = Counter((row.job, row.task) for row in history.effects)
    outcomes = Counter((s.job, s.task) for s in history.task_steps if s.new == "SUCCESSFUL")
    return sorted({place for kind in (effects, outcomes) for place in kind if kind[place] > 1})


def _out_of_order(history: History, plans: Mapping[str, tuple[str, ...]]) -> Iterator[str]:
    """Jobs whose outcomes, effects or calls do not follow their plan."""
    outcomes = [(s.job, s.task) for s in history.task_steps if s.new == "SUCCESSFUL"]
    effects = [(row.job, row.task) for row in history.effects]
    # Who stood still may call a task that others have passed: its outcome is what is refused.
    stopped = {fault.pid for fault in history.faults if fault.kind == "stop"}
    calls = [(call.job, call.task) for call in history.calls if call.pid not in stopped]
    written, left, called = map(_by_job, (outcomes, effects, calls))
    for job, plan in plans.items():
        if (
            tuple(written[job]) != plan[: len(written[job])]
            or left[job] != sorted(left[job], key=plan.index)
            or not _follows(called[job], plan, may_skip=bool(stopped))
        ):
            yield job


def _follows(tasks: Sequence[str], plan: tuple[str, ...], *, may_skip: bool) -> bool:
    """Each call is of the last called task or of the next; a skipped one was called by who stood still."""
    last = -1
    for task in tasks:
        place = plan.index(task) if task in plan else len(plan)
        if place < last or (place > last + 1 and not may_skip):
            return False
        last = place
    return True


def _by_job(places: Iterable[Place]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for job, task in places:
        found[job].append(task)
    return found


def _broken_chains(history: History) -> Iterator[str]:
    """Jobs whose results are not those of their tasks, each called once with the result before it."""
    results = {(row.job, row.task): row.result for row in history.tasks}
    for job in history.jobs:
        if job.status != "SUCCESSFUL" or not isinstance(job.result, dict):
            continue
        chain = (job.payload or {}).get("chain", "")
        for task in job.plan:
            chain = link(chain, task)
            if results.get((job.id, task)) != {**(job.payload or {}), "chain": chain}:
                yield job.id
                break
        else:
            if job.result.get("chain") != chain:
                yield job.id


def pairs(table: Mapping[str, Transition]) -> frozenset[tuple[str, str]]:
    """Which status may become which; a verb with the same sources and targets leaves it as it is."""
    return frozenset(
        (str(old), str(new))
        for step in table.values()
        for old in step.sources
        for new in step.targets
        if step.sources != step.targets or old == new
    )


LEGAL_JOB, LEGAL_TASK = pairs(JOB), pairs(TASK)
CLAIMED = {(str(old), str(new)) for old in JOB["claim"].sources for new in JOB["claim"].targets}
HANDLER_CLAIMED = {(str(status), str(status)) for status in FINAL}


def _illegal_job_steps(history: History) -> Iterator[str]:
    standing: dict[str, tuple[str, int]] = {}
    for step in history.job_steps:
        move, rise = (step.old, step.new), step.new_token - step.old_token
        is_claim = move in CLAIMED or move in HANDLER_CLAIMED
        if standing.get(step.job, (step.old, step.old_token)) != (step.old, step.old_token):
            yield f"{step.job}: {step} does not follow {standing[step.job]}"
        elif move not in LEGAL_JOB or rise != int(is_claim):
            yield f"{step.job}: {step}"
        standing[step.job] = (step.new, step.new_token)


def _illegal_task_steps(history: History) -> Iterator[str]:
    for step in history.task_steps:
        # A task without a row is READY, and a row that stays as it is has only got other notes.
        move = (step.old or "READY", step.new)
        if move not in LEGAL_TASK and move[0] != move[1]:
            yield f"{step.job}: {step}"


def _repeats(history: History, atomic: frozenset[str]) -> Counter[Place]:
    """Calls of plain tasks beyond the first."""
    calls = Counter((call.job, call.task) for call in history.calls if call.task not in atomic)
    return Counter({place: count - 1 for place, count in calls.items() if count > 1})


def _unexplained(history: History, losses: Counter[str], atomic: frozenset[str]) -> list[Place]:
    """Tasks called again though their job was never lost and they never failed."""
    failures = Counter((a.job, a.task) for a in history.attempts if a.outcome != "LOST")
    return sorted(
        (job, task)
        for (job, task), count in _repeats(history, atomic).items()
        if count > losses[job] + failures[job, task]
    )


def _recoveries(history: History) -> tuple[list[float], list[float]]:
    """Seconds from a worker's death until its jobs were free again, and until others claimed them."""
    died = {fault.pid: fault.at for fault in history.faults if fault.kind == "kill"}
    lost_at: dict[str, float] = {}
    rescues: list[float] = []
    recoveries: list[float] = []
    for step in history.job_steps:
        death = None if step.pid is None else died.get(step.pid)
        if (step.old, step.new) == ("RUNNING", "READY") and death is not None and death < step.at:
            lost_at[step.job] = death
            rescues.append(step.at - death)
        elif step.new == "RUNNING" and step.job in lost_at:
            recoveries.append(step.at - lost_at.pop(step.job))
    return rescues, recoveries
