"""R18: the migrations after 0001, forwards and back, under workers that go on: promise G10."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from django.core.management import call_command
from django.db import connection

from django_tasks_seq import clock, executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, Worker
from tests.chaos.evidence import Audit
from tests.chaos.judging import judge
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.zygote import ForkedWorker, Zygote
from tests.helpers import own_connection, wait_until
from tests.plans.history import COMMON, JOB, insert
from tests.process.ledger import Ledger

pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.postgresql,
]

APP = "django_tasks_seq"
INDEX = "tseq_job_finished"
LONGEST_WAIT = 1.0
# Who waits for a lock and since when, but for the migration itself.
WAITS = """
    SELECT a.query, extract(epoch FROM clock_timestamp() - l.waitstart)
    FROM pg_locks l JOIN pg_stat_activity a USING (pid)
    WHERE NOT l.granted AND l.waitstart IS NOT NULL AND a.datname = current_database()
      AND a.pid <> %s
"""


def fill(count: int) -> None:
    """Ended jobs, as many as a site may have when it upgrades."""
    now = clock.sql("postgresql")
    columns = {
        "id": "lpad(to_hex(i), 32, '0')::uuid",
        **COMMON,
        "status": "'SUCCESSFUL'",
        "run_after": now,
        "created_at": now,
        "finished_at": clock.sql("postgresql", "(-i / 100)"),
    }
    insert(connection, JOB, columns, 1, count)


@contextmanager
def sessions_give_up_after(seconds: float) -> Iterator[None]:
    """Sessions that begin meanwhile get an error where they wait for a lock for so long."""
    name = connection.ops.quote_name(str(connection.settings_dict["NAME"]))
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER DATABASE {name} SET lock_timeout = '{seconds:g}s'")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER DATABASE {name} RESET lock_timeout")


class Watch(threading.Thread):
    """Looks all the time who waits for a lock."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="test-watch")
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_backend_pid()")
            self.migrating = cursor.fetchone()[0]
        self.looks = 0
        self.waited: list[tuple[str, float]] = []
        self._stop_asked = threading.Event()

    def run(self) -> None:
        with own_connection() as mine, mine.cursor() as cursor:
            while not self._stop_asked.wait(0.01):
                cursor.execute(WAITS, [self.migrating])
                self.waited += [(sql, float(age)) for sql, age in cursor.fetchall()]
                self.looks += 1

    def stop(self) -> float:
        """Stop looking; the longest wait that was seen."""
        self._stop_asked.set()
        self.join(10)
        return max((age for _, age in self.waited), default=0.0)


def migrate(*target: str) -> None:
    call_command("migrate", APP, *target, verbosity=0)


@pytest.fixture
def schema_before() -> Iterator[None]:
    """The tables as the first migration makes them."""
    migrate("0001")
    yield
    migrate()


def successes() -> int:
    return Job.objects.filter(sequence="chain", status="SUCCESSFUL").count()


def has_index() -> bool:
    with connection.cursor() as cursor:
        return INDEX in connection.introspection.get_constraints(cursor, JOB)


def test_workers_go_on_while_a_large_table_is_migrated(
    schema_before: None, zygotes: Callable[..., Zygote], ledger: Ledger, audit: Audit
) -> None:
    """Forwards, back and forwards again: nobody waits for a lock for a second, no claim fails."""
    rows = sizes().pick(cut=20_000, full=300_000)
    with recorded("R18") as run:
        fill(rows)
        zygote = zygotes(LEASE_SECONDS=5, RETENTION_DAYS=None)
        with sessions_give_up_after(LONGEST_WAIT):
            workers = [zygote.fork("--concurrency=8") for _ in range(2)]
            wait_until(lambda: Worker.objects.count() == len(workers), what="both workers")
        work = [{"n": n, "seconds": 0.01} for n in range(sizes().pick(cut=300, full=1500))]
        jobs = executor.start_many("chain", work)
        wait_until(successes, what="jobs that end")

        watch = Watch()
        watch.start()
        begun = successes()
        for target in ((), ("0001",), ()):
            migrate(*target)
            assert has_index() == (not target)
        meanwhile = successes() - begun
        longest = watch.stop()
        active = Job.objects.active()
        wait_until(lambda: not active.exists(), timeout=60, what="the end of all jobs")

        run.faults = {"migrations": 3}
        run.figures = {"rows": rows, "ended meanwhile": meanwhile, "longest wait": longest}
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {JOB} WHERE sequence <> 'chain'")
        judge(run, ledger, audit, jobs)
        assert meanwhile, "nothing ended while it was migrated: nobody was there to be held up"
        assert watch.looks > 3
        assert longest <= LONGEST_WAIT, watch.waited
        assert [line for worker in workers for line in complaints_of(worker)] == []
        assert not TaskAttempt.objects.exists()
        assert not JobEvent.objects.exists()


def complaints_of(worker: ForkedWorker) -> list[str]:
    """What a worker says of a database that fails it."""
    words = ("failed", "timeout", "Traceback", "lost", "refused")
    return [line for line in worker.output().splitlines() if any(word in line for word in words)]
