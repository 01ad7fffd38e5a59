"""What goes between the engine and a store, as data: claims come in, checkpoints and changes go out.

Results and payloads are JSON *text* here, never values: a store keeps the text, and the next task gets
`json.loads` of that text, in a straight run as after a crash (promise G3).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ..choices import DONE, FINAL
from ..errors_text import ExceptionText


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time by the store's own clock: now plus *seconds* (negative: ago)."""

    seconds: float = 0.0


NOW = Moment()


@dataclass(slots=True)
class TaskRow:
    """A task status as a store knows it."""

    task_id: str
    position: int
    status: str
    attempts: int = 0
    budget_start: int = 0
    crashes: int = 0
    cursor: str | None = None
    payload: str | None = None
    fails_when_lost: bool = False
    result: str | None = None
    error: str = ""

    @property
    def finished(self) -> bool:
        """Whether the job goes on behind it: SUCCESSFUL or SKIPPED."""
        return self.status in DONE


@dataclass(slots=True)
class Claim:
    """The right to advance one job, until its lease ends or it is given up.

    It stands before `plan[position]`, whose payload (text) is `payload`; or, when `handler` is set,
    before that handler.
    """

    job_id: UUID
    token: int
    sequence: str
    version: int
    plan: tuple[str, ...]
    queue: str
    job_payload: str | None
    payload: str | None
    position: int = 0
    row: TaskRow | None = None
    suspect: bool = False
    requested: str = ""
    carried: bool = False
    unknown_for: float | None = None  # seconds since a worker first did not know its task
    handler: str = ""
    handler_attempts: int = 0
    verdicts: dict[str, int] = field(default_factory=dict)
    subject_label: str = ""
    age: float = 0.0  # seconds since its first task began, when it was claimed
    claimed_at: float = field(default_factory=time.monotonic)
    begun: bool = False  # a RUNNING row of this attempt is committed
    # Rows of later tasks, which have begun before: their attempts go on counting.
    later: dict[str, TaskRow] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Characters of the payloads it holds; before its first task the two are one."""
        own = 0 if self.payload is self.job_payload else len(self.payload or "")
        return own + len(self.job_payload or "")

    @property
    def took(self) -> float:
        """Seconds since the job's first task began."""
        return self.age + time.monotonic() - self.claimed_at

    @property
    def task_id(self) -> str:
        """The task it stands before, by the job's own plan."""
        return self.plan[self.position]

    @property
    def spent(self) -> int:
        """Attempts of the present budget that are used up when this one ends."""
        return self.attempt - (self.row.budget_start if self.row else 0)

    @property
    def is_through(self) -> bool:
        """Whether all its tasks are done, though nobody has ended the job."""
        return self.position == len(self.plan)

    @property
    def is_last(self) -> bool:
        """Whether no task follows this one."""
        return self.position + 1 == len(self.plan)

    @property
    def attempt(self) -> int:
        """Number of the attempt that this claim begins; from 1, never falls."""
        return (self.row.attempts if self.row else 0) + 1

    def advance(self, result: str | None) -> None:
        """Stand before the next task, after the checkpoint of the last."""
        self.position += 1
        self.payload = result
        self.row = self.later.get(self.task_id)
        self.begun = False
        self.suspect = False
        self.unknown_for = None


@dataclass(slots=True)
class Checkpoint:
    """A task succeeded and nothing unusual goes with it: the hot path, committed in groups.

    *started* and *ended* are seconds before the commit. With *ends* the job is SUCCESSFUL by it, and
    *handler* is then due under the same claim ("" for none).
    """

    job_id: UUID
    token: int
    task_id: str
    position: int
    attempt: int
    result: str | None
    started: float
    ended: float
    ends: bool = False
    handler: str = ""


@dataclass(slots=True)
class TaskWrite:
    """One task status to write; *sources* are the statuses it may replace (no row counts as READY)."""

    task_id: str
    position: int
    sources: tuple[str, ...]
    values: dict[str, Any]


@dataclass(slots=True)
class Change:
    """Everything one verb writes about one job, in one transaction, under the job row's lock.

    It is applied only if the job's status is one of *sources* and, when *token* is given, the claim is
    still that one; else nothing of it is written. *values* are columns of the job.
    """

    verb: str
    job_id: UUID
    token: int | None
    sources: tuple[str, ...]
    values: dict[str, Any] = field(default_factory=dict)
    tasks: tuple[TaskWrite, ...] = ()
    attempts: tuple[dict[str, Any], ...] = ()
    events: tuple[dict[str, Any], ...] = ()
    # A handler's verb: it must still be due, under a lease.
    handler: str = ""
    # What is written instead, by what a person has requested of the job meanwhile.
    instead: dict[str, Change] = field(default_factory=dict)

    def heeding(self, requested: str) -> Change:
        """What is to be written when *requested* is found under the job row's lock."""
        return self.instead.get(requested, self)

    @property
    def settles(self) -> str:
        """The final status that it leaves the job in with no handler due; else nothing."""
        status = str(self.values.get("status", ""))
        return "" if status not in FINAL or self.values.get("handler_due") else status

    @property
    def ends_claim(self) -> bool:
        """Whether the claim is given up by it."""
        return "lease_until" in self.values and self.values["lease_until"] is None


Write = Checkpoint | Change


@dataclass(slots=True)
class Applied:
    """What became of a batch of writes, by job.

    *done* maps to what a person has requested of the job ("" mostly); *lost*: the claim was not ours
    any more, nothing was written; *busy*: somebody holds the row, nothing was written, try again;
    *stale*: the claim is ours, but the task has ended by an earlier commit, nothing was written;
    *broken*: the database refused this write alone. A write that an earlier commit made already,
    whose answer was lost, is *done*.
    """

    done: dict[UUID, str] = field(default_factory=dict)
    lost: set[UUID] = field(default_factory=set)
    busy: set[UUID] = field(default_factory=set)
    stale: set[UUID] = field(default_factory=set)
    broken: dict[UUID, Exception] = field(default_factory=dict)


@dataclass(slots=True)
class NewJob:
    """A job to be added; *due* is a `Moment`, or an aware datetime."""

    id: UUID
    sequence: str
    version: int
    plan: str
    queue: str
    priority: int
    payload: str | None
    carried: bool
    due: Any = NOW
    idempotency_key: str | None = None
    subject_type: str = ""
    subject_id: str = ""
    subject_label: str = ""
    created_by: str = ""
    resend_after: float | None = None


@dataclass(slots=True)
class Snapshot:
    """A job and its task rows, read under the job row's lock."""

    job_id: UUID
    sequence: str
    version: int
    plan: tuple[str, ...]
    status: str
    token: int
    requested: str
    carried: bool
    suspect: bool
    handler: str
    payload: str | None
    label: str
    due_in: float  # seconds until it is due, negative when it is
    worker_name: str = ""
    worker_seen: float | None = None  # seconds since the worker's last beat
    lease_left: float | None = None
    result: str | None = None
    verdicts: dict[str, int] = field(default_factory=dict)
    rows: dict[str, TaskRow] = field(default_factory=dict)

    @property
    def next_position(self) -> int:
        """Index in the plan of the first task that is not done; the plan's length when all are."""
        open_ = (
            i for i, t in enumerate(self.plan) if not (t in self.rows and self.rows[t].finished)
        )
        return next(open_, len(self.plan))

    @property
    def next_row(self) -> TaskRow | None:
        """The row of the task it stands before, if it has one."""
        position = self.next_position
        return self.rows.get(self.plan[position]) if position < len(self.plan) else None


@dataclass(frozen=True, slots=True)
class Due:
    """A carried job whose task, or handler, is due: what `handle_start` is called with."""

    job_id: UUID
    sequence: str
    task_id: str
    payload: str | None


@dataclass(slots=True)
class Held:
    """What a tick says of one job in hand."""

    job_id: UUID
    token: int


@dataclass(slots=True)
class TickResult:
    """What a tick read: *requested* by job still ours; jobs that are not there are lost."""

    requested: dict[UUID, str] = field(default_factory=dict)
    lost: set[UUID] = field(default_factory=set)


@dataclass(slots=True)
class Report:
    """What an attempt leaves besides its outcome: times are seconds ago, the rest is JSON text."""

    started: float | None = None
    ended: float = 0.0
    cursor: str | None = None
    progress: str | None = None
    fails_when_lost: bool = False


@dataclass(slots=True)
class Failure:
    """An attempt that failed: *delay* seconds until the next, None when this was the last."""

    text: ExceptionText
    outcome: str
    delay: float | None


@dataclass(frozen=True, slots=True)
class WorkerInfo:
    """A worker as it introduces itself."""

    name: str
    hostname: str
    pid: int
    queues: tuple[str, ...]
    concurrency: int


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is there to do, by kind; read with one statement."""

    ready: bool = False
    waiting: bool = False
    expired: bool = False
    handlers: bool = False
    resend: bool = False

    @property
    def is_empty(self) -> bool:
        """Whether nothing is due."""
        return not (self.ready or self.waiting or self.expired or self.handlers or self.resend)
