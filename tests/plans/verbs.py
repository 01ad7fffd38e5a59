"""What workers and callers send again and again, and how much of the tables each may read."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_tasks_seq import executor
from django_tasks_seq.cache.changes import Claim, Held, Report
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.cache.retention import Prunable
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.status import TaskStatusManager
from tests.plans import history
from tests.plans.history import (
    EVENT,
    EXPIRED,
    HANDLERS,
    JOB,
    OVERDUE,
    QUEUES,
    READY,
    UNSENT,
    WORKER,
)
from tests.plans.reading import PRIMARY, SORT, Plan, Read, explain, sent
from tests.plans.statistics import told

STORE = ModelTaskCacheHandler(history.ALIAS)
MANAGER = TaskStatusManager()
IN_HAND = 512
KEYS = [f"key-{number}" for number in range(1, 501)]

CLAIM, WAITING = "tseq_job_claim", "tseq_job_waiting"
LEASE, HANDLER, RESEND = "tseq_job_lease", "tseq_job_handler", "tseq_job_resend"
KEY, ENDED = "tseq_job_idempotency", "tseq_job_finished"


@dataclass(frozen=True)
class Verb:
    """A call of the store for *batch* jobs, which it finds through *indexes*.

    *due* jobs of that kind are there. Some of them are passed by where the verb *sifts*, and where a
    planner believes that there are none all may be read; but never those that have ended, or wait.
    SQLite may sort what has been read only where the verb *sorts*.
    """

    call: Callable[[], Any]
    batch: int
    indexes: tuple[str, ...] = ()
    due: int = 0
    sifts: bool = False
    sorts: bool = False

    @property
    def rows(self) -> int:
        """Rows of jobs that one statement may read: its batch twice, to find and to write it."""
        return self.batch + max(self.batch, self.due if self.sifts else 0)

    @property
    def rows_if_misled(self) -> int:
        """The same when the statistics are wrong; a bitmap meets dead versions as well."""
        return 4 * (self.batch + self.due)

    @property
    def steps(self) -> int:
        """Instructions of SQLite's machine that all of it may take: a scan takes a million."""
        return 2_000 + 500 * self.batch + (20 * self.due if self.sifts else 0)

    def faults(self, plan: Plan, rows: float) -> list[str]:
        """What *plan* reads that it should not."""
        found = [str(read) for read in plan.reads if not self._may(read)]
        if plan.rows(JOB) > rows:
            found.append(f"{plan.rows(JOB):.0f} rows of jobs, not {rows:.0f}")
        return found

    def _may(self, read: Read) -> bool:
        if read.table == SORT:
            return self.sorts
        if read.index == PRIMARY:
            return read.has_condition
        if read.table == JOB:
            return read.index in self.indexes
        # Tables of few rows are read as they are.
        return bool(read.index) or read.table in (WORKER, EVENT)


def faults(
    connection: BaseDatabaseWrapper,
    verbs: Mapping[str, Verb],
    states: Iterable[str] = ("as it is",),
    modes: Iterable[str] = ("",),
    *,
    run: bool = True,
    rows: int | None = None,
) -> dict[str, list[str]]:
    """What each statement of *verbs* reads that it should not, with the statistics in these *states*.

    Rows are counted when it is *run*; *rows* is the limit instead of the verb's own.
    """
    found: dict[str, list[str]] = {}
    asked = {name: sent(connection, verb.call) for name, verb in verbs.items()}
    for state in states:
        with told(connection, state):
            for name, verb in verbs.items():
                limit = verb.rows if state == "as it is" else verb.rows_if_misled
                for mode, statement in product(modes, asked[name]):
                    plan = explain(connection, statement, mode, run=run)
                    if wrong := verb.faults(plan, rows or limit):
                        text = f"{statement.sql[:300]}\n{plan.text}"
                        found[f"{name}, {state} {mode}"] = [*wrong, text]
    return found


def claimed(number: int = IN_HAND, queue: str = "default") -> list[Claim]:
    """Jobs in hand, which stand before their second task."""
    claims: list[Claim] = STORE.claim((queue,), number, 60, None)
    assert [claim.task_id for claim in claims] == ["two"] * number
    return claims


def checkpoints(claims: list[Claim]) -> list[Any]:
    """Each second job ends."""
    for claim in claims[::2]:
        claim.plan = claim.plan[:2]
    report = Report(0.1, 0.0)
    return [MANAGER.complete_task(c, '"r"', report, handler="", keep=True) for c in claims]


def claims() -> dict[str, Verb]:
    """Claims of batches of all sizes."""

    def claim(queues: tuple[str, ...], number: int) -> Callable[[], Any]:
        return lambda: STORE.claim(queues, number, 60, 1)

    return {
        "one queue": Verb(claim(("mail",), 50), 50, (CLAIM,), READY),
        "one job": Verb(claim(("mail",), 1), 1, (CLAIM,), READY),
        "512 jobs": Verb(claim(("mail",), 512), 512, (CLAIM,), READY),
        "several queues": Verb(claim(("none", "mail", "reports"), 800), 700, (CLAIM,), READY),
        "all queues": Verb(claim((), 50), 50, (CLAIM,), READY * len(QUEUES)),
        "nothing": Verb(claim(("none",), 50), 0, (CLAIM,)),
    }


def upkeep() -> dict[str, Verb]:
    """What is looked for beside claims, and what is done about it."""
    looks = (CLAIM, WAITING, LEASE, HANDLER, RESEND)
    anything = EXPIRED + HANDLERS + OVERDUE + UNSENT + READY * len(QUEUES)
    few = ("mail",)
    return {
        "look": Verb(lambda: STORE.look(()), len(looks), looks, anything, sifts=True),
        "look at queues": Verb(
            lambda: STORE.look(("mail", "none")), 5, looks, anything, sifts=True
        ),
        "look for nothing": Verb(
            lambda: STORE.look(("none", "no")), 5, looks, anything, sifts=True
        ),
        "promote": Verb(STORE.promote, 500, (WAITING,), OVERDUE),
        "rescue": Verb(lambda: STORE.rescue(lose), 100, (LEASE,), EXPIRED),
        "sweep": Verb(lambda: STORE.sweep(60.0), 100, (RESEND,), UNSENT),
        "handlers": Verb(lambda: STORE.claim_handlers((), 8, 60, 1), 8, (HANDLER,), HANDLERS),
        "handlers of a queue": Verb(
            lambda: STORE.claim_handlers(few, 8, 60, 1), 8, (HANDLER,), HANDLERS, sifts=True
        ),
        "next due": Verb(lambda: STORE.next_due(()), 3, (WAITING, HANDLER, LEASE), anything),
        "next due of queues": Verb(
            lambda: STORE.next_due(few), 3, (WAITING, HANDLER, LEASE), 2000, sifts=True
        ),
        "beat": Verb(lambda: STORE.beat(500, draining=False), 0),
        "leave": Verb(lambda: STORE.leave(500), 0),
    }


def in_hand() -> dict[str, Verb]:
    """What is said and asked about as many jobs as a worker has in hand at most."""
    claims = claimed()
    held = [Held(claim.job_id, claim.token) for claim in claims]
    carried = [claim.job_id for claim in claims[:100]]

    def apply(verb: Callable[[Claim], Any]) -> Callable[[], Any]:
        writes = [verb(claim) for claim in claims]
        return lambda: STORE.apply(writes, "worker")

    return {
        "tick": Verb(lambda: STORE.tick(held, 60), IN_HAND),
        "renewal": Verb(lambda: STORE.tick(held, 3600), IN_HAND),
        "running rows": Verb(apply(lambda c: MANAGER.start_task(c, Report(0.1))), IN_HAND),
        "release": Verb(apply(MANAGER.release), IN_HAND),
        "lost": Verb(lambda: STORE.tick([Held(h.job_id, 99) for h in held], 60), IN_HAND),
        "refused": Verb(apply(_of_another), IN_HAND),
        "due": Verb(lambda: STORE.due(carried), 100),
    }


def _of_another(claim: Claim) -> Any:
    write = MANAGER.release(claim)
    write.token = 99
    return write


def callers() -> dict[str, Verb]:
    """What web processes ask."""
    claim = claimed(1)[0]
    job = claim.job_id
    return {
        "start with a key": Verb(
            lambda: executor.start_sequence("plans", idempotency_key="key-7"), 1, (KEY,)
        ),
        "starts with keys": Verb(
            lambda: executor.start_many("plans", [None] * 500, idempotency_keys=KEYS), 500, (KEY,)
        ),
        "wait": Verb(lambda: STORE.load(job), 1),
        "results": Verb(lambda: STORE.results(job), 1, sorts=True),
        "failure": Verb(lambda: STORE.failure(job), 1),
        "cancel": Verb(lambda: executor.cancel(job), 1, sorts=True),
        "consumer's claim": Verb(
            lambda: STORE.apply([MANAGER.release(claim)]) and STORE.claim_job(job, "two", 60, ""), 1
        ),
    }


def pruning() -> dict[str, Verb]:
    """A batch of what ended first."""
    batch = Prunable(86_400.0)
    return {"prune": Verb(lambda: STORE.prune(batch, 500), 500, (ENDED,), sorts=True)}
