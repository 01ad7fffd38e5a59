"""Old jobs are deleted with all their rows, and nothing else is."""

import uuid
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.db import connection, models
from django.db.models.signals import post_delete
from django.utils import timezone

from django_tasks_seq import executor
from django_tasks_seq.cache import InMemoryTaskCacheHandler
from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.cache.retention import Prunable, PrunableCount, Pruned
from django_tasks_seq.exceptions import JobNotFound, StoreNotSupported
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus, Worker
from django_tasks_seq.pruning import (
    FIRST_BATCH,
    GOAL,
    LARGEST_BATCH,
    LIMIT,
    LONGEST_AGE,
    Pruner,
)
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, same
from tests.factories import JobEventFactory, JobFactory, TaskAttemptFactory, WorkerFactory

DAY = 86_400.0
MONTH = Prunable(30 * DAY)
STORE = ModelTaskCacheHandler()
TABLES = (Job, TaskStatus, TaskAttempt, JobEvent)

pytestmark = pytest.mark.django_db


def old(days: float = 40, **traits: Any) -> Job:
    """A job that ended so many days ago, with rows of its tasks."""
    traits = traits or {"successful": True}
    job: Job = JobFactory.create(age=days * DAY, took=0, history=2, **traits)
    return job


def counts(alias: str = "default") -> list[int]:
    return [model.objects.using(alias).count() for model in TABLES]


def prune(what: Prunable = MONTH, **options: Any) -> Pruned:
    return STORE.prune(what, 100, **options)


def walk(what: Prunable = MONTH) -> Pruner:
    pruner = Pruner(STORE, what)
    while pruner.batch():
        pass
    return pruner


# What goes and what stays


def test_all_rows_of_an_old_job_go() -> None:
    """Task statuses, attempts and events of a pruned job are gone, those of others are not."""
    gone, kept = old(), old(days=20)
    for job in (gone, kept):
        JobEventFactory.create(job=job)
        TaskAttemptFactory.create(job=job)

    done = prune()

    assert (done.found, done.jobs, done.tasks, done.attempts, done.events) == (1, 1, 2, 1, 1)
    assert counts() == [1, 2, 1, 1]
    assert Job.objects.get() == kept
    assert set(TaskStatus.objects.values_list("job", flat=True)) == {kept.pk}


@pytest.mark.parametrize("trait", ["successful", "failed", "cancelled"])
def test_every_final_status_goes(trait: str) -> None:
    """A job that failed is history as well as one that succeeded."""
    old(**{trait: True})

    assert prune().jobs == 1
    assert counts() == [0, 0, 0, 0]


@pytest.mark.parametrize("trait", ["running", "waiting", "paused", "cancelling"])
def test_what_is_not_final_stays(trait: str) -> None:
    """However long ago it was started."""
    job = old(days=400, **{trait: True})
    ready = JobFactory.create(age=400 * DAY)

    assert prune().found == 0
    assert set(Job.objects.all()) == {job, ready}


def test_a_job_whose_handler_is_due_stays() -> None:
    """It is final and not settled: its handler is still to be run."""
    job = old(failed=True)
    Job.objects.filter(pk=job.pk).update(handler_due="error")

    assert prune().found == 0
    assert counts()[0] == 1


def test_the_age_counts_from_the_end() -> None:
    """A job that was started long ago and ended lately stays."""
    job = old(days=400)
    Job.objects.filter(pk=job.pk).update(finished_at=timezone.now() - timedelta(days=29))

    assert prune().found == 0


def test_the_age_is_by_the_clock_of_the_database() -> None:
    """What `testing.advance` adds to it ages jobs."""
    old(days=29)
    assert prune().jobs == 0

    advance(hours=48)

    assert prune().jobs == 1


def test_a_job_that_was_run_is_pruned(declare: Declare) -> None:
    """From its start to its deletion, with a failure, a retry and their rows."""
    declare(Failing(1), same)
    job = executor.start_sequence("probe")
    drain()
    executor.retry(job, by="anna")
    drain()
    assert counts() == [1, 2, 1, 1]

    advance(hours=31 * 24)

    assert prune().jobs == 1
    assert counts() == [0, 0, 0, 0]


def test_a_pruned_job_is_not_found(declare: Declare) -> None:
    """Verbs say that it is not there."""
    declare(same)
    job = old(failed=True)
    prune()

    verbs: tuple[Any, ...] = (executor.retry, executor.cancel, executor.get_job)
    for verb in verbs:
        with pytest.raises(JobNotFound):
            verb(job.pk)


def test_an_idempotency_key_is_free_again(declare: Declare) -> None:
    """A start with the key of a pruned job starts another."""
    declare(same)
    first = executor.start_sequence("probe", 1, idempotency_key="k")
    drain()
    advance(hours=31 * 24)
    prune()

    second = executor.start_sequence("probe", 2, idempotency_key="k")

    assert second.was_started
    assert second.pk != first.pk


@pytest.mark.parametrize(
    ("what", "jobs"),
    [
        (Prunable(30 * DAY, statuses=("SUCCESSFUL",)), 2),
        (Prunable(30 * DAY, statuses=("FAILED", "CANCELLED")), 2),
        (Prunable(30 * DAY, sequences=("imports",)), 1),
        (Prunable(30 * DAY, statuses=("FAILED",), sequences=("imports",)), 0),
        (Prunable(0), 5),
        (Prunable(LONGEST_AGE), 0),
    ],
)
def test_only_what_was_chosen_goes(what: Prunable, jobs: int) -> None:
    """Statuses and sequences narrow it down; what is counted is what goes."""
    old(days=1)
    old()
    old(failed=True)
    old(cancelled=True)
    old(successful=True, sequence="imports")

    counted = STORE.count_prunable(what)
    done = prune(what)

    assert done.jobs == sum(counted.jobs.values()) == jobs
    assert (done.tasks, done.attempts, done.events) == (
        counted.tasks,
        counted.attempts,
        counted.events,
    )
    assert counts()[0] == 5 - jobs


def test_a_count_is_by_status() -> None:
    """It says how many of each, and changes nothing."""
    old()
    old(failed=True)
    old(failed=True)

    counted = STORE.count_prunable(MONTH)

    assert counted == PrunableCount({"FAILED": 2, "SUCCESSFUL": 1}, tasks=8, attempts=6)
    assert counts()[0] == 3


# Batches


def test_the_oldest_go_first() -> None:
    """A batch takes those that ended first, whatever their ids."""
    jobs = [old(days=days) for days in (35, 60, 40, 50)]

    done = STORE.prune(MONTH, 2)

    assert done.jobs == 2
    assert set(Job.objects.all()) == {jobs[0], jobs[2]}


def test_batches_go_on_where_the_last_ended() -> None:
    """Jobs that ended at the same moment are met once each."""
    for _ in range(5):
        old()
    Job.objects.update(finished_at=timezone.now() - timedelta(days=40))
    met, after = [], None
    for _ in range(4):
        done = STORE.prune(MONTH, 2, after=after)
        met.append(done.jobs)
        after = done.reached

    assert met == [2, 2, 1, 0]


def test_a_place_in_the_walk_is_behind_what_stands_there() -> None:
    """Given the place of a batch, what that batch met is not met again, though it is still there."""
    for _ in range(3):
        old()
    Job.objects.update(finished_at=timezone.now().replace(microsecond=0) - timedelta(days=40))
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT undone")
        done = STORE.prune(MONTH, 2)
        cursor.execute("ROLLBACK TO SAVEPOINT undone")

    assert Job.objects.count() == 3
    assert STORE.prune(MONTH, 9, after=done.reached).found == 1


def test_a_walk_deletes_all() -> None:
    """Batch after batch; what was deleted is counted."""
    for _ in range(FIRST_BATCH * 3 + 1):
        old()

    pruner = walk()

    assert (pruner.jobs, pruner.tasks) == (FIRST_BATCH * 3 + 1, 2 * (FIRST_BATCH * 3 + 1))
    assert pruner.batches >= 2
    assert not pruner.passed
    assert pruner.longest > 0
    assert counts() == [0, 0, 0, 0]


class Scripted(ModelTaskCacheHandler):
    """A store whose batches take as long as the test says."""

    def __init__(self, *answers: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[tuple[int, float | None]] = []

    def prune(self, what: Prunable, limit: int, **options: Any) -> Pruned:
        self.asked.append((limit, options["seconds"]))
        answer = self.answers.pop(0) if self.answers else {"found": 0}
        full = {"found": limit, "jobs": limit, "reached": ("then", uuid.UUID(int=len(self.asked)))}
        return Pruned(**{**full, **answer})


def sizes(*answers: Any) -> list[int]:
    store = Scripted(*answers)
    pruner = Pruner(store, MONTH)
    while pruner.batch():
        pass
    return [limit for limit, _ in store.asked]


def test_quick_batches_grow_to_a_limit() -> None:
    """Each is at most twice as large as the one before."""
    found = sizes(*[{"seconds": 0.0}] * 9)

    assert found[:4] == [FIRST_BATCH, FIRST_BATCH * 2, FIRST_BATCH * 4, FIRST_BATCH * 8]
    assert found[-1] == LARGEST_BATCH


def test_batches_become_as_large_as_their_time_allows() -> None:
    """One that took twice its time is followed by one of half the size."""
    assert sizes({"seconds": GOAL * 2}, {"seconds": GOAL}) == [
        FIRST_BATCH,
        FIRST_BATCH // 2,
        FIRST_BATCH // 2,
    ]


SLOW = {"is_slow": True, "jobs": 0, "seconds": LIMIT}


def test_a_batch_that_was_undone_is_tried_in_parts() -> None:
    """A quarter each time; at last a job that is large by itself, alone and without a limit."""
    store = Scripted(SLOW, SLOW, SLOW, {"seconds": 1.0})
    pruner = Pruner(store, MONTH)
    while pruner.batch():
        pass

    assert store.asked == [(20, LIMIT), (5, LIMIT), (1, LIMIT), (1, None), (1, LIMIT)]
    assert (pruner.jobs, pruner.passed, pruner.longest) == (1, 0, 1.0)


def test_a_job_whose_rows_are_held_is_passed_by() -> None:
    """Alone it could not be deleted either: the walk goes on behind it."""
    store = Scripted(SLOW, SLOW, SLOW, SLOW, {"seconds": GOAL})
    pruner = Pruner(store, MONTH)
    while pruner.batch():
        pass

    assert [limit for limit, _ in store.asked] == [20, 5, 1, 1, 1, 1]
    assert (pruner.jobs, pruner.passed, pruner.refused) == (1, 1, 0)


def test_a_batch_most_of_which_somebody_holds_is_contended() -> None:
    """Whoever prunes the same jobs at the same time can be told."""
    pruner = Pruner(Scripted({"jobs": 9}, {"jobs": 40}), MONTH)

    assert pruner.batch()
    assert (pruner.is_contended, pruner.passed) == (True, 11)
    pruner.batch()
    assert (pruner.is_contended, pruner.passed) == (False, 11)


# Statements


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """The statements of this connection."""
    statements: list[str] = []

    def note(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        statements.append(sql)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(note):
        yield statements


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("number", [1, 30])
def test_a_batch_costs_so_many_statements(sent: list[str], number: int) -> None:
    """For any number of jobs; BEGIN and COMMIT not counted."""
    for _ in range(number):
        old()
    sent.clear()

    assert prune().jobs == number

    words = [sql.split()[0] for sql in sent if not sql.startswith("BEGIN")]
    if connection.vendor == "postgresql":
        assert words == ["SELECT", "SET", "SELECT", "SELECT", "WITH"]
    elif connection.vendor == "mysql":
        limits = ["SELECT", "SET"]
        assert words == ["SELECT", *limits, "SELECT", *["DELETE"] * 4, "SET"]
    else:
        assert words == ["SELECT", "UPDATE", "SELECT", *["DELETE"] * 4]


@pytest.mark.django_db(transaction=True)
def test_a_look_that_finds_nothing_is_one_statement(sent: list[str]) -> None:
    """No transaction is begun and no lock is taken."""
    old(days=1)
    sent.clear()

    assert prune().found == 0
    assert [sql.split()[0] for sql in sent] == ["SELECT"]


@pytest.mark.postgresql
@pytest.mark.sqlite
@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("is_analyzed", [False, True], ids=["never analyzed", "analyzed"])
def test_a_batch_enters_every_table_by_an_index(is_analyzed: bool) -> None:
    """Whatever the statistics say, neither finding nor deleting reads a table from end to end."""
    now = timezone.now()
    fields: dict[str, Any] = {"sequence": "plans", "plan": ["a", "b"], "status": "SUCCESSFUL"}
    jobs = [Job(finished_at=now - timedelta(days=n % 60), **fields) for n in range(6000)]
    Job.objects.bulk_create(jobs, batch_size=1000)
    TaskStatus.objects.bulk_create(
        [
            TaskStatus(job=job, task_id=task_id, position=place, status="SUCCESSFUL")
            for job in jobs
            for place, task_id in enumerate("ab")
        ],
        batch_size=1000,
    )
    is_postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        # What other tests have rolled back is still in the indexes, and makes them look dear.
        cursor.execute(f"REINDEX TABLE {Job._meta.db_table}" if is_postgresql else "REINDEX")
        if is_analyzed:
            cursor.execute("ANALYZE")
    explain = "EXPLAIN " if is_postgresql else "EXPLAIN QUERY PLAN "
    plans: list[str] = []

    def look(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        if sql.startswith(("SELECT id", "WITH", "DELETE")):
            rows = execute(explain + sql, params, many, context).fetchall()
            plans.append("\n".join(str(row[-1]) for row in rows))
        return execute(sql, params, many, context)

    with connection.execute_wrapper(look):
        done = STORE.prune(MONTH, 200)

    assert done.jobs == 200
    assert "tseq_job_finished" in plans[0]
    whole = "Seq Scan" if is_postgresql else "SCAN django"
    assert [plan for plan in plans if whole in plan] == []


@pytest.mark.postgresql
@pytest.mark.django_db(transaction=True)
def test_its_limits_end_with_its_transaction() -> None:
    """What a batch sets for itself is not left to whatever uses the connection next."""
    old()
    names = ("statement_timeout", "lock_timeout", "synchronous_commit", "enable_seqscan", "jit")

    def settings() -> list[str]:
        found = []
        with connection.cursor() as cursor:
            for name in names:
                cursor.execute(f"SHOW {name}")
                found.append(cursor.fetchone()[0])
        return found

    before = settings()
    assert prune().jobs == 1

    assert settings() == before


@pytest.mark.django_db(transaction=True)
def test_a_batch_that_takes_too_long_is_undone() -> None:
    """Nothing of it is deleted, and the next one can be."""
    jobs = [old() for _ in range(60)]
    TaskStatus.objects.bulk_create(
        TaskStatus(job=job, task_id=f"t{n}", position=n, status="SUCCESSFUL")
        for job in jobs
        for n in range(100, 400)
    )
    before = counts()

    done = STORE.prune(MONTH, 100, seconds=0.001)

    assert done.is_slow
    assert done.jobs == 0
    assert counts() == before
    assert STORE.prune(MONTH, 100, seconds=None).jobs == 60
    assert counts() == [0, 0, 0, 0]


@pytest.mark.django_db(transaction=True)
def test_a_job_that_is_large_by_itself_goes_all_the_same() -> None:
    """Its rows are never deleted in parts."""
    job = old()
    TaskStatus.objects.bulk_create(
        TaskStatus(job=job, task_id=f"t{n}", position=n % 1000, status="SUCCESSFUL")
        for n in range(3000)
    )

    pruner = walk()

    assert (pruner.jobs, pruner.tasks) == (1, 3002)
    assert counts() == [0, 0, 0, 0]


# What else there is


@pytest.mark.django_db(databases=["default", "jobs"])
def test_the_second_alias_is_pruned_alone(configure: Callable[..., None]) -> None:
    """With `DATABASE="jobs"` the default alias keeps what it has."""
    fields: dict[str, Any] = {"sequence": "probe", "plan": ["t1"], "status": "SUCCESSFUL"}
    for alias in ("default", "jobs"):
        job = Job.objects.using(alias).create(
            finished_at=timezone.now() - timedelta(days=40), **fields
        )
        TaskStatus.objects.using(alias).create(
            job=job, task_id="t1", position=0, status="SUCCESSFUL"
        )
    configure(DATABASE="jobs")

    assert STORE.prune(MONTH, 10).jobs == 1
    assert counts("jobs") == [0, 0, 0, 0]
    assert counts("default") == [1, 1, 0, 0]
    assert ModelTaskCacheHandler("default").prune(MONTH, 10).jobs == 1
    assert counts("default") == [0, 0, 0, 0]


def test_documents_are_left_alone() -> None:
    """A store of documents says that it cannot delete by age, and keeps what it has."""
    store = InMemoryTaskCacheHandler("pruning")
    store.set("job:1", {"status": "SUCCESSFUL", "finished_at": "2001-01-01T00:00:00Z"})

    assert not store.supports_pruning
    with pytest.raises(StoreNotSupported, match="cannot delete jobs by age"):
        store.prune(MONTH, 10)
    with pytest.raises(StoreNotSupported, match="cannot count jobs by age"):
        store.count_prunable(MONTH)
    assert store.prune_workers(0) == 0
    assert store.get("job:1") is not None
    store.clear()


def ago(days: float) -> Any:
    return timezone.now() - timedelta(days=days)


def test_workers_that_are_long_gone_are_forgotten() -> None:
    """Those not seen for so long, whether they ended in order or vanished."""
    WorkerFactory.create(heartbeat_at=ago(40), stopped_at=ago(40))
    WorkerFactory.create(heartbeat_at=ago(35))
    kept = [WorkerFactory.create(heartbeat_at=ago(20)), WorkerFactory.create()]

    assert STORE.prune_workers(30 * DAY) == 2
    assert list(Worker.objects.order_by("pk")) == kept


def test_workers_are_forgotten_in_batches() -> None:
    """At most as many as asked for, the longest gone first."""
    workers = [WorkerFactory.create(heartbeat_at=ago(days)) for days in (50, 60, 40)]

    assert STORE.prune_workers(30 * DAY, 2) == 2
    assert Worker.objects.get() == workers[2]


def test_a_worker_that_was_seen_today_stays() -> None:
    """However short the retention is."""
    WorkerFactory.create(heartbeat_at=ago(0.9))

    assert STORE.prune_workers(0) == 0


def test_a_worker_whose_jobs_are_still_to_be_rescued_stays() -> None:
    """Whoever rescues them names it."""
    gone = WorkerFactory.create(heartbeat_at=ago(40))
    job = JobFactory.create(running=True, worker=gone)
    assert STORE.prune_workers(30 * DAY) == 0

    Job.objects.filter(pk=job.pk).update(lease_until=None, status="READY")

    assert STORE.prune_workers(30 * DAY) == 1


# Foreign keys of a site's own


@pytest.fixture
def refer(transactional_db: None) -> Iterator[Callable[..., type[models.Model]]]:
    """`refer(on_delete)` makes a model, with its table, that refers to jobs."""
    made: list[type[models.Model]] = []

    def make(on_delete: Any, **options: Any) -> type[models.Model]:
        fields = {
            "job": models.ForeignKey(Job, on_delete, null=True, **options),
            "__module__": __name__,
            "Meta": type("Meta", (), {"app_label": "testapp"}),
        }
        model = type("Parcel", (models.Model,), fields)
        made.append(model)
        with connection.schema_editor() as editor:
            editor.create_model(model)
        return model

    yield make
    for model in made:
        with connection.schema_editor() as editor:
            editor.delete_model(model)
        del apps.all_models["testapp"]["parcel"]
        apps.clear_cache()


def test_a_reference_of_a_site_is_set_to_null(refer: Callable[..., Any]) -> None:
    """What `on_delete` says happens, and all rows of the job go."""
    parcels = refer(models.SET_NULL)
    referred, other = old(), old()
    parcels.objects.create(job=referred)
    JobEventFactory.create(job=other)

    pruner = walk()

    assert (pruner.jobs, pruner.tasks, pruner.events) == (2, 4, 1)
    assert counts() == [0, 0, 0, 0]
    assert parcels.objects.get().job_id is None


def test_rows_of_a_site_go_with_their_job(refer: Callable[..., Any]) -> None:
    """With CASCADE, and only those of pruned jobs."""
    parcels = refer(models.CASCADE)
    kept = old(days=1)
    parcels.objects.create(job=old())
    parcels.objects.create(job=kept)

    assert walk().jobs == 1
    assert parcels.objects.get().job == kept


@pytest.mark.parametrize("on_delete", [models.PROTECT, models.RESTRICT, models.DO_NOTHING])
def test_a_job_that_a_site_protects_stays(refer: Callable[..., Any], on_delete: Any) -> None:
    """It is not even found, so it holds up no other."""
    parcels = refer(on_delete)
    kept, _ = old(), old()
    parcels.objects.create(job=kept)

    assert sum(STORE.count_prunable(MONTH).jobs.values()) == 1
    pruner = walk()

    assert (pruner.jobs, pruner.passed, pruner.refused) == (1, 0, 0)
    assert Job.objects.get() == kept
    assert parcels.objects.get().job == kept


def test_a_reference_without_a_constraint_protects_nothing(refer: Callable[..., Any]) -> None:
    """DO_NOTHING where the database does not mind: the job goes, the row stays as it is."""
    parcels = refer(models.DO_NOTHING, db_constraint=False)
    parcels.objects.create(job=old())

    assert walk().jobs == 1
    assert parcels.objects.count() == 1


def test_a_reference_that_django_does_not_know_is_refused_by_the_database(
    transactional_db: None,
) -> None:
    """All other jobs go; the refusal is told in the database's words."""
    kept, *_ = jobs = [old() for _ in range(9)]
    kind = Job._meta.pk.db_type(connection)
    with connection.cursor() as cursor:
        cursor.execute(
            f"CREATE TABLE foreign_parcel (job_id {kind} REFERENCES {Job._meta.db_table} (id)"
            f"{'' if connection.vendor == 'mysql' else ' DEFERRABLE INITIALLY DEFERRED'})"
        )
        try:
            value = kept.pk if connection.features.has_native_uuid_field else kept.pk.hex
            cursor.execute("INSERT INTO foreign_parcel VALUES (%s)", [value])
            pruner = walk()
            left = list(Job.objects.all())
        finally:
            cursor.execute("DROP TABLE foreign_parcel")

    assert pruner.jobs == len(jobs) - 1
    assert pruner.refused == 1
    assert "foreign" in pruner.refusal.lower()
    assert left == [kept]


def test_receivers_of_deletions_are_told(transactional_db: None) -> None:
    """A site that removes files with its jobs hears of each."""
    gone: list[Any] = []

    def remember(instance: Job, **_: Any) -> None:
        gone.append(instance.pk)

    jobs = [old() for _ in range(3)]
    post_delete.connect(remember, sender=Job)
    try:
        pruner = walk()
    finally:
        post_delete.disconnect(remember, sender=Job)

    assert set(gone) == {job.pk for job in jobs}
    assert (pruner.jobs, pruner.tasks) == (3, 6)
    assert counts() == [0, 0, 0, 0]
