"""Migration 0002: how the tables are stored, and an index that is built while jobs are running."""

import io
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection, connections
from django.db.migrations.loader import MigrationLoader

from django_tasks_seq.models import Job, TaskStatus

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")

APP = "django_tasks_seq"
INDEX = "tseq_job_finished"
JOB_OPTIONS = {
    "autovacuum_vacuum_scale_factor=0.02",
    "autovacuum_vacuum_threshold=1000",
    "fillfactor=70",
}
TASK_OPTIONS = {
    "autovacuum_vacuum_scale_factor=0.05",
    "autovacuum_vacuum_insert_scale_factor=0.05",
}


def options(model: Any, alias: str) -> set[str]:
    """The storage parameters of a model's table."""
    with connections[alias].cursor() as cursor:
        cursor.execute("SELECT reloptions FROM pg_class WHERE relname = %s", [model._meta.db_table])
        return set(cursor.fetchone()[0] or ())


def indexes(alias: str) -> dict[str, Any]:
    with connections[alias].cursor() as cursor:
        return connections[alias].introspection.get_constraints(cursor, Job._meta.db_table)


def migrate(alias: str, *target: str) -> None:
    call_command("migrate", APP, *target, database=alias, verbosity=0)


@pytest.fixture
def unmigrated() -> Iterator[Callable[[str], None]]:
    """`unmigrated(alias)` leaves that database as version 0.1 had it until the test ends."""
    undone: list[str] = []

    def undo(alias: str) -> None:
        undone.append(alias)
        migrate(alias, "0001")

    yield undo
    for alias in undone:
        migrate(alias)


@pytest.mark.postgresql
@pytest.mark.parametrize("alias", ["default", "jobs"])
def test_each_alias_has_the_storage_that_was_measured(alias: str) -> None:
    """`migrate` sets autovacuum and fill factor wherever it makes the tables."""
    assert options(Job, alias) == JOB_OPTIONS
    assert options(TaskStatus, alias) == TASK_OPTIONS


@pytest.mark.postgresql
def test_backwards_nothing_is_left_of_it(unmigrated: Callable[[str], None]) -> None:
    """On the alias that is migrated back, and on no other; forwards again it is as it was."""
    unmigrated("jobs")

    assert options(Job, "jobs") == options(TaskStatus, "jobs") == set()
    assert INDEX not in indexes("jobs")
    assert options(Job, "default") == JOB_OPTIONS
    migrate("jobs")
    assert options(Job, "jobs") == JOB_OPTIONS
    assert options(TaskStatus, "jobs") == TASK_OPTIONS


def test_the_index_comes_and_goes(unmigrated: Callable[[str], None]) -> None:
    """On every database, with rows in the table."""
    Job.objects.create(sequence="probe", plan=["t1"])
    unmigrated("default")

    assert INDEX not in indexes("default")
    migrate("default")
    assert indexes("default")[INDEX]["columns"] == ["finished_at"]
    assert Job.objects.count() == 1


@pytest.mark.postgresql
def test_what_an_interrupted_build_left_is_replaced(unmigrated: Callable[[str], None]) -> None:
    """An index of that name does not stop the next attempt, and is not taken for the one wanted."""
    unmigrated("default")
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE INDEX {INDEX} ON {Job._meta.db_table} (created_at)")

    migrate("default")

    assert indexes("default")[INDEX]["columns"] == ["finished_at"]


@pytest.mark.parametrize("alias", ["default", "jobs"])
def test_sqlmigrate_shows_it(alias: str) -> None:
    """Forwards and backwards; only PostgreSQL is told how to store tables."""
    shown = []
    for backwards in (False, True):
        out = io.StringIO()
        call_command("sqlmigrate", APP, "0002", database=alias, backwards=backwards, stdout=out)
        shown.append([line for line in out.getvalue().splitlines() if not line.startswith("--")])
    forwards, back = shown
    index = connections[alias].ops.quote_name(INDEX)

    if connections[alias].vendor == "postgresql":
        assert forwards[0].startswith(f'ALTER TABLE "{Job._meta.db_table}" SET (')
        assert forwards[1].startswith(f'ALTER TABLE "{TaskStatus._meta.db_table}" SET (')
        assert forwards[-1].startswith(f'CREATE INDEX CONCURRENTLY "{INDEX}"')
        assert [line.split(" (")[0].split()[-1] for line in back[-2:]] == ["RESET", "RESET"]
    else:
        assert [line.split(" ON ")[0] for line in forwards] == [f"CREATE INDEX {index}"]
        assert [line.split(" ON ")[0].rstrip(";") for line in back] == [f"DROP INDEX {index}"]


def test_a_database_that_a_router_leaves_out_is_left_alone(settings: Any) -> None:
    """With `JobRouter` and `DATABASE="jobs"` the other database is sent nothing."""
    settings.DATABASE_ROUTERS = ["django_tasks_seq.routers.JobRouter"]
    settings.TASKS_SEQ = {"DATABASE": "jobs"}
    migration = import_module(f"{APP}.migrations.0002_table_growth").Migration
    before = MigrationLoader(connection).project_state((APP, "0001_initial"))
    sent = {}
    for alias in ("default", "jobs"):
        with connections[alias].schema_editor(collect_sql=True, atomic=False) as editor:
            state = before.clone()
            for operation in migration.operations:
                old = state.clone()
                operation.state_forwards(APP, state)
                operation.database_forwards(APP, editor, old, state)
                operation.database_backwards(APP, editor, state, old)
        sent[alias] = len(editor.collected_sql)

    assert sent["default"] == 0
    assert sent["jobs"] > 0
