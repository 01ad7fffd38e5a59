"""Taking jobs: claims in batches, one statement for each queue, and where each job stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any
from uuid import UUID

from ...choices import DONE, FINAL, HANDLER_TASK_ID, HandlerDue, JobStatus, Requested
from ...transitions import JOB as JOB_TRANSITIONS
from ..changes import Claim, TaskRow
from .frontier import Frontier, Place
from .sql import JOB, TASK, Database, listed, marks
from .stored import read_plan, read_verdicts

READY, RUNNING, WAITING = JobStatus.READY.value, JobStatus.RUNNING.value, JobStatus.WAITING.value

COLUMNS = (
    "id, claim_token, sequence, version, plan, queue, payload, result, suspect, requested, carried,"
    " handler_due, handler_attempts, verdicts, subject_label, rank, run_after"
)
# A job can have task rows before its first claim: a person may have skipped its first task. Not by
# EXISTS, which PostgreSQL may answer by reading the whole table into a hash; and in the order of the
# primary key, for it may take a scan for the shortest way to any first row.
HAS_TASKS = f"(SELECT 1 FROM {TASK} WHERE {TASK}.job_id = {JOB}.id ORDER BY {TASK}.task_id LIMIT 1)"

NO_BOUND = 2**53

DUE_HANDLER = "run_after <= {now} AND (lease_until IS NULL OR lease_until < {now})"


@dataclass
class Wanted:
    """A worker's claim: so many jobs for *lease* seconds, with payloads of so many bytes (None: any)."""

    limit: int
    lease: float
    worker_id: int | None
    most_bytes: int | None = None
    taken: list[Claim] = field(default_factory=list)

    @property
    def is_filled(self) -> bool:
        """Whether it has enough."""
        is_heavy = self.most_bytes is not None and self.most_bytes <= 0 and bool(self.taken)
        return len(self.taken) >= self.limit or is_heavy

    @property
    def left(self) -> int:
        """How many jobs it may still take."""
        return self.limit - len(self.taken)

    @property
    def bound(self) -> int:
        """The weight that what is taken next must not have reached; the first job always is taken."""
        return NO_BOUND if self.most_bytes is None else max(self.most_bytes, 1)

    def take(self, claims: list[Claim]) -> None:
        """Add these."""
        self.taken += claims
        if self.most_bytes is not None:
            self.most_bytes -= sum(len((claim.job_payload or "").encode()) for claim in claims)


def claim(db: Database, frontier: Frontier, queues: Sequence[str], wanted: Wanted) -> list[Claim]:
    """Claim READY jobs, queue after queue (none named: of all); within one by priority and due time."""
    frontier.renew()
    for queue in queues:
        for start in frontier.starts(queue):
            _claim_from(db, frontier, queue, start, wanted)
    if not queues:
        for queue in frontier.names():
            _claim_from(db, frontier, queue, frontier.places[queue], wanted)
        if not wanted.is_filled:
            frontier.places = dict.fromkeys(ready_queues(db))
            for queue in frontier.names():
                _claim_from(db, frontier, queue, None, wanted)
    return wanted.taken


def _claim_from(
    db: Database, frontier: Frontier, queue: str, start: Place | None, wanted: Wanted
) -> None:
    if wanted.is_filled:
        return
    pick, limit = _pick(db, behind=start is not None), wanted.left
    params = [queue, *(start or ()), limit, wanted.bound]
    rows = _take_rows(db, pick, params, wanted.lease, wanted.worker_id)
    wanted.take(_claims(db, rows))
    if len(rows) < limit:
        frontier.places.pop(queue, None)
    else:
        # Not behind the last: whoever passes by dead entries marks them, and that is to be done
        # bit by bit.
        frontier.places[queue] = (rows[0][15], rows[0][16], rows[0][0])


def _pick(db: Database, *, behind: bool = False) -> str:
    """The first READY jobs of a queue, as far as the payloads before each come to less than a bound.

    What is locked beyond it is let go by the same commit. *behind* a row: rank, due time and id.
    """
    after = " AND (rank, run_after, id) > (%s, %s, %s)" if behind else ""
    by, order = (
        ("", "") if db.keeps_order else (", rank, run_after", "ORDER BY rank, run_after, id ")
    )
    return f"""SELECT id FROM (
  SELECT id, bytes, sum(bytes) OVER ({order}ROWS UNBOUNDED PRECEDING) AS so_far FROM (
    SELECT id, {db.bytes("payload")} AS bytes{by} FROM {db.jobs("tseq_job_claim")}
    WHERE status = '{READY}' AND {db.not_carried} AND queue = %s{after}
    ORDER BY rank, run_after, id LIMIT %s{db.skip_locked}
  ) AS first
) AS weighed WHERE so_far - bytes < %s"""


def claim_handlers(
    db: Database, queues: Sequence[str], limit: int, lease: float, worker_id: int | None
) -> list[Claim]:
    """Claim final jobs with a handler due; an ended lease means that its last holder is gone."""
    rows: list[tuple[Any, ...]] = []
    among = f" AND queue IN ({marks(queues)})" if queues else ""
    for is_due in db.handlers_due:
        if len(rows) >= limit:
            break
        pick = (
            f"SELECT id FROM {db.jobs('tseq_job_handler')}"
            f" WHERE {is_due} AND {DUE_HANDLER.format(now=db.instant())} AND {db.not_carried}{among}"
            f" ORDER BY run_after LIMIT %s{db.skip_locked}"
        )
        params = [*queues, limit - len(rows)]
        rows += _take_rows(db, pick, params, lease, worker_id, to_running=False)
    return _claims(db, rows)


def ready_queues(db: Database) -> list[str]:
    """Names of queues that have claimable jobs: a loose scan that reads one index entry for each."""
    ready = f"{db.jobs('tseq_job_claim')} WHERE status = '{READY}' AND {db.not_carried}"
    if not db.skips_by_columns:
        return _ready_queues_one_by_one(db, ready)
    rows = db.query(
        f"WITH RECURSIVE q(name) AS (SELECT * FROM (SELECT queue FROM {ready}"
        f" ORDER BY queue LIMIT 1) AS first UNION ALL"
        f" SELECT (SELECT queue FROM {ready} AND queue > q.name"
        f" ORDER BY queue LIMIT 1) FROM q WHERE q.name IS NOT NULL)"
        " SELECT name FROM q WHERE name IS NOT NULL",
        (),
    )
    return [name for (name,) in rows]


def _ready_queues_one_by_one(db: Database, ready: str) -> list[str]:
    names = [""]
    following = f"SELECT queue FROM {ready} AND queue > %s ORDER BY queue LIMIT 1"
    while rows := db.query(following, [names[-1]]):
        names += rows[0]
    return names[1:]


def claim_job(db: Database, job_id: UUID, task_id: str, lease: float) -> Claim | str:
    """Claim this one job for a consumer, if it is due and *task_id* is next; else say why not."""
    handler = next((due for due, name in HANDLER_TASK_ID.items() if name == task_id), None)
    with db.atomic():
        rows = db.query(
            f"SELECT status, handler_due, run_after <= {db.now()},"
            f" lease_until IS NULL OR lease_until < {db.now()} FROM {JOB}"
            f" WHERE id = %s{db.skip_locked}",
            (db.uuid(job_id),),
        )
        if not rows:
            return "running" if _exists(db, job_id) else "unknown_job"
        refusal = _refusal(rows[0], handler)
        if refusal:
            return refusal
        if handler is None:
            standing = _standing(db, job_id)
            if standing != task_id:
                return (
                    "not_next" if standing is None or task_id not in _done(db, job_id) else "done"
                )
        pick = f"SELECT id FROM {JOB} WHERE id = %s"
        return _take(db, pick, [db.uuid(job_id)], lease, to_running=handler is None)[0]


def _refusal(row: Sequence[Any], handler: str | None) -> str:
    status, handler_due, due, free = row
    if handler is not None:
        if handler_due != handler:
            return "done" if status in FINAL else "not_next"
        return "" if due and free else "not_due"
    if status in FINAL:
        return "final"
    if status == JobStatus.PAUSED:
        return "paused"
    if status == RUNNING:
        return "running"
    return "" if due else "not_due"


def _exists(db: Database, job_id: UUID) -> bool:
    return bool(db.query(f"SELECT 1 FROM {JOB} WHERE id = %s", (db.uuid(job_id),)))


def _done(db: Database, job_id: UUID) -> set[str]:
    rows = db.query(
        f"SELECT task_id FROM {TASK} WHERE job_id = %s AND status IN ({listed(DONE)})",
        (db.uuid(job_id),),
    )
    return {task_id for (task_id,) in rows}


def _standing(db: Database, job_id: UUID) -> str | None:
    """Id of the task that this job stands before."""
    ((plan,),) = db.query(f"SELECT plan FROM {JOB} WHERE id = %s", (db.uuid(job_id),))
    done = _done(db, job_id)
    return next((task_id for task_id in read_plan(plan) if task_id not in done), None)


def _take(
    db: Database, pick: str, params: list[Any], lease: float, *, to_running: bool
) -> list[Claim]:
    return _claims(db, _take_rows(db, pick, params, lease, None, to_running=to_running))


def _take_rows(
    db: Database,
    pick: str,
    params: list[Any],
    lease: float,
    worker_id: int | None,
    *,
    to_running: bool = True,
) -> list[tuple[Any, ...]]:
    """Raise the token of the jobs that *pick* selects; their rows, the most urgent first."""
    fields = (
        f"status = '{RUNNING}', started_at = COALESCE(started_at, {db.now()})"
        if to_running
        else "handler_attempts = handler_attempts + 1"
    )
    # A rescue finds lost tasks, a sweep the lost handlers of carried jobs.
    resend = "NULL" if to_running else f"CASE WHEN carried THEN {db.now('%s')} END"
    leases = [lease] if to_running else [lease, lease]
    sources = JOB_TRANSITIONS["claim"].sources if to_running else FINAL
    rows = db.update(
        JOB,
        f"{fields}, claim_token = claim_token + 1, worker_id = %s,"
        f" lease_until = {db.now('%s')}, resend_at = {resend}",
        [worker_id, *leases],
        pick,
        params,
        f"status IN ({listed(sources)})",
        f"{COLUMNS}, -{db.seconds_until('unknown_since')}, {HAS_TASKS},"
        f" -{db.seconds_until('started_at')}",
    )
    rows.sort(key=itemgetter(15, 16, 0))
    return rows


def _claims(db: Database, rows: Sequence[tuple[Any, ...]]) -> list[Claim]:
    """What *rows* say, and where each job stands."""
    claims = [_claim(db, row) for row in rows]
    place(
        db,
        [
            c
            for c, row in zip(claims, rows, strict=True)
            if row[18] and c.handler != HandlerDue.SUCCESS
        ],
    )
    return claims


def _claim(db: Database, row: tuple[Any, ...]) -> Claim:
    handler = row[11]
    return Claim(
        job_id=db.as_uuid(row[0]),
        token=row[1],
        sequence=row[2],
        version=row[3],
        plan=read_plan(row[4]),
        queue=row[5],
        job_payload=row[6],
        payload=row[7] if handler == HandlerDue.SUCCESS else row[6],
        suspect=bool(row[8]),
        requested=row[9] if row[9] in Requested.values else "",
        carried=bool(row[10]),
        handler=handler,
        handler_attempts=row[12],
        verdicts=read_verdicts(row[13]),
        subject_label=row[14],
        unknown_for=row[17],
        age=row[19] or 0.0,
    )


def place(db: Database, claims: Sequence[Claim]) -> None:
    """Set position, payload and row of claims whose jobs have begun before."""
    if not claims:
        return
    rows = task_rows(db, [claim.job_id for claim in claims])
    previous: dict[tuple[UUID, str], Claim] = {}
    for claim in claims:
        mine = rows.get(claim.job_id, {})
        standing = (
            i
            for i, task_id in enumerate(claim.plan)
            if not (task_id in mine and mine[task_id].finished)
        )
        claim.position = next(standing, len(claim.plan))
        claim.row = None if claim.is_through else mine.get(claim.task_id)
        claim.later = {t: mine[t] for t in claim.plan[claim.position + 1 :] if t in mine}
        if claim.position:
            previous[claim.job_id, claim.plan[claim.position - 1]] = claim
    for (job_id, task_id), text in _results(db, previous).items():
        previous[job_id, task_id].payload = text
    for claim in claims:
        if claim.row and claim.row.payload is not None:
            claim.payload = claim.row.payload


def task_rows(db: Database, job_ids: Iterable[UUID]) -> dict[UUID, dict[str, TaskRow]]:
    """Task rows of these jobs, without their results."""
    columns = (
        "job_id, task_id, position, status, attempts, budget_start, crashes, cursor, payload,"
        " fails_when_lost"
    )
    keys = {"job_id": db.uuids(job_ids)}
    found: dict[UUID, dict[str, TaskRow]] = {}
    for job_id, *values in db.query(*db.lookup(TASK, columns, keys, order="task_id")):
        found.setdefault(db.as_uuid(job_id), {})[values[0]] = TaskRow(*values)
    return found


def _results(db: Database, keys: Iterable[tuple[UUID, str]]) -> dict[tuple[UUID, str], str | None]:
    pairs = list(keys)
    if not pairs:
        return {}
    wanted = {
        "job_id": db.uuids(job_id for job_id, _ in pairs),
        "task_id": [task_id for _, task_id in pairs],
    }
    rows = db.query(*db.lookup(TASK, "job_id, task_id, result", wanted))
    return {(db.as_uuid(job_id), task_id): result for job_id, task_id, result in rows}
