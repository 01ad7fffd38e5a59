"""What keeps jobs moving: renewals, promotion, rescue, sweep; each in small batches that never wait."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any
from uuid import UUID

from ...choices import HANDLER_TASK_ID, HandlerDue, JobStatus, Requested
from ...conf import get_config
from ..changes import Change, Due, Held, Outlook, Snapshot, TickResult
from .claims import DUE_HANDLER, task_rows
from .sql import JOB, TASK, WORKER, Database, marks
from .stored import read_plan, read_verdicts
from .writes import Fenced, write_changes

READY, RUNNING, WAITING = JobStatus.READY.value, JobStatus.RUNNING.value, JobStatus.WAITING.value
LEASE = "tseq_job_lease"
RENEW_BELOW = 2 / 3  # of a lease left
LONGEST_RESEND = 3600
# A claim may hold: somebody runs the job, or a handler of it. One without a lease was given up; that is
# said so that no planner takes it for the condition of the lease's index, which it then reads in full.
STILL = (
    f"(status = '{RUNNING}' OR NOT (handler_due = ''))"
    " AND CASE WHEN lease_until IS NULL THEN 0 ELSE 1 END = 1"
)


def tick(db: Database, held: Sequence[Held], lease: float) -> TickResult:
    """See `BaseJobStore.tick`."""
    result = TickResult()
    if not held:
        return result
    rows = db.query(
        *db.lookup(
            JOB, f"id, requested, {db.seconds_until('lease_until')}", _keys(db, held), where=STILL
        )
    )
    left = {db.as_uuid(job_id): (requested, seconds) for job_id, requested, seconds in rows}
    for one in held:
        if one.job_id in left:
            result.requested[one.job_id] = left[one.job_id][0]
        else:
            result.lost.add(one.job_id)
    renew(db, [one for one in held if _is_low(left.get(one.job_id), lease)], lease)
    return result


def _is_low(row: tuple[str, float] | None, lease: float) -> bool:
    return row is not None and row[1] < lease * RENEW_BELOW


def _keys(db: Database, held: Sequence[Held]) -> dict[str, list[Any]]:
    return {
        "id": db.uuids(one.job_id for one in held),
        "claim_token": [one.token for one in held],
    }


def renew(db: Database, held: Sequence[Held], lease: float) -> None:
    """Renew these leases; a row somebody holds is renewed by the next tick."""
    if not held:
        return
    pick, params = db.lookup(JOB, "id", _keys(db, held), where=STILL, lock=True)
    db.update(JOB, f"lease_until = {db.now('%s')}", [lease], pick, params)


def look(db: Database, queues: Sequence[str]) -> Outlook:
    """See `BaseJobStore.look`: five looks into five small indexes, one round trip."""
    among = f" AND queue IN ({marks(queues)})" if queues else ""
    now = db.instant()
    handler = f"{DUE_HANDLER.format(now=now)} AND {db.not_carried}{among}"
    handlers = [
        _first(db, "handler", f"{due} AND {handler}", "run_after") for due in db.handlers_due
    ]
    ready = f"status = '{READY}' AND {db.not_carried}{among}"
    looks = (
        _first(db, "claim", ready, "queue, rank, run_after, id"),
        _first(db, "waiting", f"status = '{WAITING}' AND run_after <= {now}", "run_after"),
        _first(db, "lease", f"status = '{RUNNING}' AND lease_until < {now}", "lease_until"),
        " OR ".join(handlers),
        _first(db, "resend", f"resend_at IS NOT NULL AND resend_at <= {now}", "resend_at"),
    )
    (row,) = db.query(f"SELECT {', '.join(looks)}", [*queues] * (1 + len(handlers)))
    return Outlook(*map(bool, row))


def _first(db: Database, index: str, where: str, order: str) -> str:
    # The order is the index's: without it a plan may read the whole table for the first row.
    jobs = db.jobs(f"tseq_job_{index}")
    return f"(SELECT 1 FROM {jobs} WHERE {where} ORDER BY {order} LIMIT 1) IS NOT NULL"


def promote(db: Database, limit: int) -> list[UUID]:
    """Make WAITING jobs that are due READY; return those that are carried."""
    pick = (
        f"SELECT id FROM {db.jobs('tseq_job_waiting')}"
        f" WHERE status = '{WAITING}' AND run_after <= {db.instant()}"
        f" ORDER BY run_after LIMIT %s{db.skip_locked}"
    )
    sets = f"status = '{READY}', resends = 0, resend_at = CASE WHEN carried THEN {db.now('%s')} END"
    resend = [get_config().resend_seconds]
    rows = db.update(JOB, sets, resend, pick, [limit], db.still(WAITING), "id, carried")
    return [db.as_uuid(job_id) for job_id, carried in rows if carried]


def rescue(db: Database, decide: Callable[[Snapshot], Change], limit: int) -> list[Change]:
    """Take jobs whose lease has ended; what becomes of each is decided under its row's lock."""
    expired = f"status = '{RUNNING}' AND lease_until < {db.instant()} ORDER BY lease_until"
    if not db.query(f"SELECT 1 FROM {db.jobs(LEASE)} WHERE {expired} LIMIT 1", ()):
        return []
    with db.atomic():
        snapshots = read_snapshots(
            db, f"{expired} LIMIT %s{db.skip_locked}", [limit], jobs=db.jobs(LEASE)
        )
        changes = [decide(snapshot) for snapshot in snapshots]
        held = {s.job_id: Fenced.of(s) for s in snapshots}
        write_changes(db, changes, held, "")
    return changes


def sweep(db: Database, resend: float, limit: int) -> list[UUID]:
    """Return carried jobs due to be sent again, and note when they are to be sent next."""
    waited = f"{resend} * POWER(2, LEAST(resends + 1, 10))"
    if db.vendor == "sqlite":
        waited = f"{resend} * (1 << MIN(resends + 1, 10))"
    longest = "MIN" if db.vendor == "sqlite" else "LEAST"
    pick = (
        f"SELECT id FROM {db.jobs('tseq_job_resend')}"
        f" WHERE resend_at <= {db.instant()} AND resend_at IS NOT NULL"
        f" AND run_after <= {db.instant()}"
        f" ORDER BY resend_at LIMIT %s{db.skip_locked}"
    )
    # MariaDB sets one after the other: the count that the time is made of is raised last.
    sets = f"resend_at = {db.now(f'{longest}({waited}, {LONGEST_RESEND})')}, resends = resends + 1"
    rows = db.update(JOB, sets, (), pick, [limit], "carried", "id")
    return [db.as_uuid(job_id) for (job_id,) in rows]


def next_due(db: Database, queues: Sequence[str]) -> float | None:
    """Seconds until something may be due: a waiting job, a handler, or the end of a lease."""
    among = f" AND queue IN ({marks(queues)})" if queues else ""
    questions = (
        ("run_after", "tseq_job_waiting", f"status = '{WAITING}'"),
        *(
            ("run_after", "tseq_job_handler", f"{due} AND lease_until IS NULL")
            for due in db.handlers_due
        ),
        ("lease_until", LEASE, "lease_until IS NOT NULL"),
    )
    soonest = (
        f"SELECT {column} AS at FROM {db.jobs(index)} WHERE {where}{among}"
        f" ORDER BY {column} LIMIT 1"
        for column, index, where in questions
    )
    parts = " UNION ALL ".join(f"SELECT at FROM ({one}) AS s{i}" for i, one in enumerate(soonest))
    ((seconds,),) = db.query(
        f"SELECT {db.seconds_until('MIN(at)')} FROM ({parts}) AS soonest",
        [*queues] * len(questions),
    )
    return None if seconds is None else float(seconds)


def due(db: Database, job_ids: Iterable[UUID]) -> list[Due]:
    """See `BaseJobStore.due`."""
    ids = db.uuids(job_ids)
    if not ids:
        return []
    snapshots = {s.job_id: s for s in read_snapshots(db, f"id IN ({marks(ids)}) AND carried", ids)}
    found = []
    for snapshot in filter(None, map(snapshots.get, map(db.as_uuid, ids))):
        if snapshot.handler in HandlerDue.values:
            task_id, payload = HANDLER_TASK_ID[HandlerDue(snapshot.handler)], snapshot.result
        elif snapshot.status in (READY, WAITING) and snapshot.next_position < len(snapshot.plan):
            task_id, payload = _next(db, snapshot)
        else:
            continue
        if snapshot.due_in <= 0:
            found.append(Due(snapshot.job_id, snapshot.sequence, task_id, payload))
    return found


def _next(db: Database, snapshot: Snapshot) -> tuple[str, str | None]:
    position, row = snapshot.next_position, snapshot.next_row
    task_id = snapshot.plan[position]
    if row is not None and row.payload is not None:
        return task_id, row.payload
    if not position:
        return task_id, snapshot.payload
    return task_id, db.query(
        f"SELECT result FROM {TASK} WHERE job_id = %s AND task_id = %s",
        (db.uuid(snapshot.job_id), snapshot.plan[position - 1]),
    )[0][0]


def read_snapshots(
    db: Database, where: str, params: Sequence[Any], *, jobs: str = JOB
) -> list[Snapshot]:
    """Jobs that *where* selects (it may end in a locking clause), with their task rows."""
    rows = db.query(
        f"SELECT id, sequence, version, plan, status, claim_token, requested, carried, suspect,"
        f" handler_due, payload, {db.seconds_until('run_after')}, result, verdicts, worker_id,"
        f" {db.seconds_until('lease_until')}, subject_label FROM {jobs} WHERE {where}",
        params,
    )
    snapshots = [_snapshot(db, row) for row in rows]
    tasks = task_rows(db, [s.job_id for s in snapshots]) if snapshots else {}
    workers = _workers(db, {row[14] for row in rows if row[14] is not None})
    for snapshot, row in zip(snapshots, rows, strict=True):
        snapshot.rows = tasks.get(snapshot.job_id, {})
        snapshot.worker_name, snapshot.worker_seen = workers.get(row[14], ("", None))
    return snapshots


def _snapshot(db: Database, row: tuple[Any, ...]) -> Snapshot:
    return Snapshot(
        job_id=db.as_uuid(row[0]),
        sequence=row[1],
        version=row[2],
        plan=read_plan(row[3]),
        status=row[4],
        token=row[5],
        requested=row[6] if row[6] in Requested.values else "",
        carried=bool(row[7]),
        suspect=bool(row[8]),
        handler=row[9],
        payload=row[10],
        due_in=row[11],
        result=row[12],
        verdicts=read_verdicts(row[13]),
        lease_left=row[15],
        label=row[16],
    )


def _workers(db: Database, ids: set[int]) -> dict[int, tuple[str, float | None]]:
    if not ids:
        return {}
    rows = db.query(
        f"SELECT id, name, -{db.seconds_until('heartbeat_at')} FROM {WORKER}"
        f" WHERE id IN ({marks(list(ids))})",
        list(ids),
    )
    return {worker_id: (name, seen) for worker_id, name, seen in rows}
