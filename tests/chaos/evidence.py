"""What a run has left behind: triggers that note each change of a status, and all rows as plain data."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection

from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus, Worker
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
)
from tests.process.ledger import Ledger
from tests.testapp.models import Effect

JOB, TASK = Job._meta.db_table, TaskStatus._meta.db_table
NOW = {
    "postgresql": "extract(epoch FROM clock_timestamp())::float8",
    "sqlite": "((julianday('now') - 2440587.5) * 86400.0)",
    "mysql": "(TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6)) / 1e6)",
}
JOB_CHANGED = "OLD.status <> NEW.status OR OLD.claim_token <> NEW.claim_token"
JOB_VALUES = "OLD.status, NEW.status, OLD.claim_token, NEW.claim_token, OLD.worker_id"
TABLES = (
    """CREATE TABLE chaos_job ({key}, job_id {uuid}, old text, new text, old_token bigint,
  new_token bigint, worker_id bigint, at {real})""",
    "CREATE TABLE chaos_task ({key}, job_id {uuid}, task_id text, old text, new text)",
)
TYPES = {
    "postgresql": {"key": "n bigserial PRIMARY KEY", "uuid": "uuid", "real": "float8"},
    "sqlite": {"key": "n integer PRIMARY KEY AUTOINCREMENT", "uuid": "text", "real": "real"},
    "mysql": {"key": "n bigint AUTO_INCREMENT PRIMARY KEY", "uuid": "uuid", "real": "double"},
}
TRIGGERS = {
    "postgresql": (
        f"""CREATE FUNCTION chaos_job_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO chaos_job (job_id, old, new, old_token, new_token, worker_id, at)
  VALUES (NEW.id, {JOB_VALUES}, {NOW["postgresql"]}); RETURN NULL; END $$""",
        """CREATE FUNCTION chaos_task_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  INSERT INTO chaos_task (job_id, task_id, old, new) VALUES (NEW.job_id, NEW.task_id,
    CASE WHEN TG_OP = 'INSERT' THEN '' ELSE OLD.status END, NEW.status); RETURN NULL; END $$""",
        f"""CREATE TRIGGER chaos_job_changed AFTER UPDATE ON {JOB} FOR EACH ROW
  WHEN ({JOB_CHANGED}) EXECUTE FUNCTION chaos_job_changed()""",
        f"""CREATE TRIGGER chaos_task_changed AFTER INSERT OR UPDATE ON {TASK} FOR EACH ROW
  EXECUTE FUNCTION chaos_task_changed()""",
    ),
    "sqlite": (
        f"""CREATE TRIGGER chaos_job_changed AFTER UPDATE ON {JOB} WHEN {JOB_CHANGED} BEGIN
  INSERT INTO chaos_job (job_id, old, new, old_token, new_token, worker_id, at)
  VALUES (NEW.id, {JOB_VALUES}, {NOW["sqlite"]}); END""",
        f"""CREATE TRIGGER chaos_task_added AFTER INSERT ON {TASK} BEGIN
  INSERT INTO chaos_task (job_id, task_id, old, new)
  VALUES (NEW.job_id, NEW.task_id, '', NEW.status); END""",
        f"""CREATE TRIGGER chaos_task_changed AFTER UPDATE ON {TASK} BEGIN
  INSERT INTO chaos_task (job_id, task_id, old, new)
  VALUES (NEW.job_id, NEW.task_id, OLD.status, NEW.status); END""",
    ),
}
TRIGGERS["mysql"] = (
    (
        f"CREATE TRIGGER chaos_job_changed AFTER UPDATE ON {JOB} FOR EACH ROW IF {JOB_CHANGED} THEN"
        " INSERT INTO chaos_job (job_id, old, new, old_token, new_token, worker_id, at)"
        f" VALUES (NEW.id, {JOB_VALUES}, {NOW['mysql']}); END IF"
    ),
    *(
        f"CREATE TRIGGER chaos_task_{done} AFTER {what} ON {TASK} FOR EACH ROW INSERT INTO chaos_task"
        f" (job_id, task_id, old, new) VALUES (NEW.job_id, NEW.task_id, {old}, NEW.status)"
        for done, what, old in (("added", "INSERT", "''"), ("changed", "UPDATE", "OLD.status"))
    ),
)
REMOVAL = {
    "postgresql": (
        f"DROP TRIGGER chaos_job_changed ON {JOB}",
        f"DROP TRIGGER chaos_task_changed ON {TASK}",
        "DROP FUNCTION chaos_job_changed",
        "DROP FUNCTION chaos_task_changed",
    ),
    "sqlite": (
        "DROP TRIGGER chaos_job_changed",
        "DROP TRIGGER chaos_task_added",
        "DROP TRIGGER chaos_task_changed",
    ),
}
REMOVAL["mysql"] = REMOVAL["sqlite"]


class Audit:
    """Two tables, filled by triggers on the rows of jobs and of task statuses."""

    def install(self) -> None:
        """Make tables and triggers."""
        vendor = connection.vendor
        tables = (one.format(**TYPES[vendor]) for one in TABLES)
        _execute([*tables, *TRIGGERS[vendor]])

    def remove(self) -> None:
        """Drop them."""
        tables = ("DROP TABLE chaos_job", "DROP TABLE chaos_task")
        # A worker that a failed test has left must not hold it up for ever.
        limit = ["SET lock_timeout = '10s'"] if connection.vendor == "postgresql" else []
        _execute([*limit, *REMOVAL[connection.vendor], *tables])
        _execute(["RESET lock_timeout"] if limit else [])

    def job_steps(self) -> list[JobStep]:
        """Each change of a job's status or token; those of one job in the order they were made."""
        pids = dict(Worker.objects.values_list("id", "pid"))
        rows = _rows(
            "SELECT job_id, old, new, old_token, new_token, worker_id, at FROM chaos_job ORDER BY n"
        )
        return [
            JobStep(_key(job), old, new, before, after, pids.get(worker), at)
            for job, old, new, before, after, worker, at in rows
        ]

    def task_steps(self) -> list[TaskStep]:
        """Each write of a task's row; those of one job in the order they were made."""
        rows = _rows("SELECT job_id, task_id, old, new FROM chaos_task ORDER BY n")
        return [TaskStep(_key(job), *facts) for job, *facts in rows]


def database_seconds() -> float:
    """Now by the database's clock, in seconds since 1970."""
    ((now,),) = _rows(f"SELECT {NOW[connection.vendor]}")
    return float(now)


def gather(ledger: Ledger, audit: Audit, faults: Iterable[Fault]) -> History:
    """All that a run has left behind."""
    effects = Effect.objects.order_by("id").values_list("job_id", "task_id", "attempt")
    attempts = TaskAttempt.objects.values_list("job_id", "task_id", "attempt", "outcome")
    return History(
        jobs=[
            JobRow(str(job.id), job.status, tuple(job.plan), job.payload, job.result)
            for job in Job.objects.all()
        ],
        tasks=[
            TaskRow(str(t.job_id), t.task_id, t.position, t.status, t.attempts, t.result)
            for t in TaskStatus.objects.all()
        ],
        effects=[EffectRow(str(job), task, attempt) for job, task, attempt in effects],
        calls=[
            Call(line.job_id, line.task_id, line.attempt, line.pid) for line in ledger.lines("call")
        ],
        attempts=[AttemptRow(str(job), *rest) for job, *rest in attempts],
        events=[EventRow(str(j), k) for j, k in JobEvent.objects.values_list("job_id", "kind")],
        job_steps=audit.job_steps(),
        task_steps=audit.task_steps(),
        faults=list(faults),
    )


def _key(value: Any) -> str:
    """A job's id as text, as everywhere; SQLite keeps it without dashes."""
    from uuid import UUID

    return str(value if isinstance(value, UUID) else UUID(value))


def _execute(statements: Sequence[str]) -> None:
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def _rows(statement: str) -> list[tuple[Any, ...]]:
    with connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall())
