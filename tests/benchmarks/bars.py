"""What must be reached: each bar a question to the medians, and what its answer is held against."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from tests.benchmarks.measurements import APP, BARE, PGBENCH, Measured
from tests.benchmarks.parts.history import BATCHES

POSTGRESQL: Final = "postgresql"
SQLITE: Final = "sqlite"
COMPARE: Final = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}


class Found:
    """The medians of all that was measured; *peers* names the other systems, and which are durable."""

    def __init__(self, measured: Sequence[Measured], peers: Mapping[str, bool]) -> None:
        self.peers = peers
        self._found = {(one.of.system, one.of.vendor, one.of.work): one for one in measured}

    def median(self, system: str, vendor: str, work: str, figure: str) -> float | None:
        """The median, or None when that was not measured or has failed."""
        found = self._found.get((system, vendor, work))
        return found.medians.get(figure) if found else None

    def of_peer(self, name: str, work: str, figure: str) -> float | None:
        """The same of a peer, whatever its database is."""
        mine = [one for one in self._found.values() if (one.of.system, one.of.work) == (name, work)]
        return mine[0].medians.get(figure) if mine else None

    def best_durable_peer(self, work: str, figure: str) -> float | None:
        """The highest median among the durable peers."""
        rates = [
            rate
            for name, durable in self.peers.items()
            if durable and (rate := self.of_peer(name, work, figure)) is not None
        ]
        return max(rates, default=None)


@dataclass(frozen=True)
class Answer:
    """A figure, and for a ratio what it was made of."""

    value: float
    made_of: str = ""


Question = Callable[[Found], Answer | None]


def figure(system: str, work: str, name: str, vendor: str = POSTGRESQL) -> Question:
    """The median of one figure."""

    def ask(found: Found) -> Answer | None:
        value = found.median(system, vendor, work, name)
        return None if value is None else Answer(value)

    return ask


def best_peer(found: Found) -> Answer | None:
    """The throughput of the best durable peer."""
    rate = found.best_durable_peer("work", "tasks_per_second")
    return None if rate is None else Answer(rate)


def first_of(*questions: Question) -> Question:
    """The first that has an answer."""
    return lambda found: next(filter(None, (ask(found) for ask in questions)), None)


def ratio(over: Question, under: Question) -> Question:
    """One figure as a share of another."""

    def ask(found: Found) -> Answer | None:
        above, below = over(found), under(found)
        if above is None or below is None or not below.value:
            return None
        made_of = f"{shown(above.value)} / {shown(below.value)}"
        return Answer(above.value / below.value, made_of)

    return ask


def _chosen(choose: Callable[..., Answer], questions: Sequence[Question]) -> Question:
    def ask(found: Found) -> Answer | None:
        answers = [answer for question in questions if (answer := question(found))]
        if len(answers) < len(questions):
            return None
        return choose(answers, key=lambda answer: answer.value)

    return ask


def highest(*questions: Question) -> Question:
    """The highest of some figures, when all are there."""
    return _chosen(max, questions)


def lowest(*questions: Question) -> Question:
    """The lowest of some figures, when all are there."""
    return _chosen(min, questions)


def shown(value: float) -> str:
    """Enough digits to compare by."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if value else "0"


@dataclass(frozen=True)
class Verdict:
    """A bar, what was measured, and whether that reaches it."""

    bar: str
    what: str
    figure: float
    made_of: str
    needed: str
    holds: bool


@dataclass(frozen=True)
class Bar:
    """One figure that must be reached."""

    name: str
    what: str
    sign: str
    needed: float
    question: Question
    unit: str = ""

    def judge(self, found: Found) -> Verdict | None:
        """The verdict, or None when it was not measured."""
        answer = self.question(found)
        if answer is None:
            return None
        holds = COMPARE[self.sign](answer.value, self.needed)
        needed = f"{self.sign} {self.needed:,g}{self.unit}"
        return Verdict(self.name, self.what, answer.value, answer.made_of, needed, holds)


def _work(name: str, system: str = APP) -> Question:
    return figure(system, "work", name)


def _rate(work: str) -> Question:
    return figure(APP, work, "tasks_per_second")


def _large(queues: str) -> Question:
    work = f"large backlog, {queues}"
    return lowest(_rate(work), figure(APP, work, "first_tasks_per_second"))


def _idle(what: str) -> Question:
    return figure(APP, "idle claims", f"{what}_p99_ms")


INSERTS: Final = first_of(
    figure(PGBENCH, "start", "one_by_one"), figure(BARE, "start", "one_by_one")
)
CLAIMS: Final = [
    figure(APP, "claims with history", f"claim_p99_ms_{queues}_{batch}")
    for queues in ("named", "all")
    for batch in BATCHES
]
BESIDE_WEB: Final = "work beside web writes"

BARS: Final = (
    Bar("P1", "durable tasks/s of one worker, of the bare limit's", "≥", 0.8,
        ratio(_work("tasks_per_second"), _work("tasks_per_second", BARE))),
    Bar("P1", "durable tasks/s, of the best durable peer's", "≥", 10,
        ratio(_work("tasks_per_second"), best_peer)),
    Bar("P2", "Python CPU a task, of the bare limit's (ms)", "≤", 2,
        ratio(_work("cpu_ms_per_task"), _work("cpu_ms_per_task", BARE))),
    Bar("P2", "WAL a task, of the bare limit's (bytes)", "≤", 1.25,
        ratio(_work("wal_bytes_per_task"), _work("wal_bytes_per_task", BARE))),
    Bar("P2", "transactions a task", "≤", 0.05, _work("transactions_per_task")),
    Bar("P3", "`start_sequence`, of one client's INSERTs (a second)", "≥", 0.3,
        ratio(figure(APP, "start", "one_by_one"), INSERTS)),
    Bar("P3", "`start_many`", "≥", 10_000, figure(APP, "start", "in_batches"), " jobs/s"),
    Bar("P3", "what NOTIFY costs eight writers", "<", 30,
        figure(APP, "writers", "notify_cost_percent"), " %"),
    Bar("P4", "idle worker, 5-task job, from the start's commit, p50", "≤", 8,
        figure(APP, "latency", "finished_p50_ms"), " ms"),
    Bar("P4", "the same, p99", "≤", 25, figure(APP, "latency", "finished_p99_ms"), " ms"),
    Bar("P5", "claim with the history, the slowest p99 of batches of 1, 32 and 128", "≤", 5,
        highest(*CLAIMS), " ms"),
    Bar("P5", "tasks/s with the history, of those with empty tables", "≥", 0.9,
        ratio(_rate("work with history"), _rate("work"))),
    Bar("P6", "tasks/s of the large backlog, one queue, of the small one's", "≥", 0.8,
        ratio(_large("one queue"), _rate("small backlog"))),
    Bar("P6", "the same, all queues", "≥", 0.8,
        ratio(_large("all queues"), _rate("small backlog"))),
    Bar("P6", "idle claim beside jobs due tomorrow, or the look before it, p99, one queue", "≤", 5,
        highest(_idle("named"), _idle("named_look")), " ms"),
    Bar("P6", "the same, all queues", "≤", 5, highest(_idle("all"), _idle("all_look")), " ms"),
    Bar("P7", "durable tasks/s on SQLite, beside web writes", "≥", 5000,
        figure(APP, BESIDE_WEB, "tasks_per_second", SQLITE)),
    Bar("P7", 'web writes that met "database is locked"', "≤", 0,
        figure(APP, BESIDE_WEB, "web_writes_locked", SQLITE)),
    Bar("P8", "two processes of one command, of one (tasks/s)", "≥", 1.3,
        ratio(_rate("two processes"), _rate("one process"))),
    Bar("P8", "two commands, of one (tasks/s)", "≥", 1.3,
        ratio(_rate("two commands"), _rate("one process"))),
    Bar("P8", "queries/s of 16 idle workers together", "≤", 20,
        figure(APP, "idle workers", "idle_transactions_per_second")),
    Bar("P9", "memory of a worker after 100,000 tasks", "≤", 90,
        figure(APP, "long run", "rss_mb"), " MB"),
    Bar("P9", "its growth by them, after a warm-up", "<", 5,
        figure(APP, "long run", "growth_mb"), " MB"),
    Bar("P9", "payloads in hand", "≤", 16, figure(APP, "heavy payloads", "in_hand_mb"), " MB"),
    Bar("P10", "`atomic=True` tasks that write a row, of the bare loop's (tasks/s)", "≥", 0.6,
        ratio(_rate("atomic tasks"), figure(BARE, "atomic tasks", "tasks_per_second"))),
    Bar("P11", "1,000 async tasks of `sleep(1)` at a time, of the ideal", "≥", 0.9,
        lowest(figure(APP, "async tasks", "share"),
               figure(APP, "async tasks, one a job", "share"))),
    Bar("P11", "200 threads of `sleep(0.05)`, of the ideal", "≥", 0.85,
        figure(APP, "threads", "share")),
)  # fmt: skip


def judge(found: Found) -> list[Verdict]:
    """The verdicts on all bars that were measured."""
    return [verdict for bar in BARS if (verdict := bar.judge(found))]
