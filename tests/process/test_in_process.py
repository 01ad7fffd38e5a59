"""`run_task_worker` called by other code, and what it refuses to run with."""

import logging
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import override_settings

from django_tasks_seq import BaseTaskCacheHandler, executor
from django_tasks_seq.models import Job
from tests.helpers import InThread, wait_until
from tests.process.conftest import Start

pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")


class ThreeMethods(BaseTaskCacheHandler):
    """What a third party writes."""

    def get(self, key: str) -> Any:
        return None

    def set(self, key: str, value: Any) -> None:
        pass

    def delete(self, key: str) -> None:
        pass


def run(**options: Any) -> None:
    call_command("run_task_worker", burst=True, verbosity=0, **options)


def test_a_call_returns_normally_and_leaves_things_as_they_were() -> None:
    """Signal handlers, log handlers and the caller's connection are as before; the job is done."""
    signals = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    logger = logging.getLogger("django_tasks_seq")
    before = list(logger.handlers), logger.level, logger.propagate
    job = executor.start_sequence("chain", {"n": 1})

    run()

    assert job.refresh().status == "SUCCESSFUL"
    assert {number: signal.getsignal(number) for number in signals} == signals
    assert (list(logger.handlers), logger.level, logger.propagate) == before
    assert not connection.in_atomic_block


def test_a_call_leaves_no_thread_behind() -> None:
    """Threads that ran tasks end with the worker."""
    executor.start_many("chain", [{"n": n} for n in range(10)])

    run()

    def left() -> list[str]:
        return [thread.name for thread in threading.enumerate() if "tasks-seq" in thread.name]

    wait_until(lambda: not left(), what="the end of the threads")


def test_a_call_outside_the_main_thread_works() -> None:
    """Where no signal handler can be set, none is, and the work is done."""
    job = executor.start_sequence("chain", {"n": 1})

    InThread(run).result()

    assert job.refresh().status == "SUCCESSFUL"


@pytest.mark.postgresql
def test_a_call_does_not_leave_the_connection_listening() -> None:
    """The caller's session hears no notifications of ours afterwards."""
    executor.start_sequence("chain", {"n": 1})

    call_command("run_task_worker", until_empty=True, verbosity=0)

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_listening_channels()")
        assert cursor.fetchall() == []


def test_without_tables_the_command_says_what_to_run(start: Start, tmp_path: Path) -> None:
    """An unmigrated database is named, with the command that helps."""
    url = f"sqlite:///{tmp_path / 'empty.sqlite3'}"
    names = {f"TASKS_SEQ_TEST_NAME_{a}": str(tmp_path / a) for a in ("DEFAULT", "JOBS")}
    worker = start(env={"DATABASE_URL": url, "JOBS_DATABASE_URL": url, **names})

    assert worker.wait() == 1
    assert "The tables of django_tasks_seq are missing in database 'default'" in worker.output()
    assert "manage.py migrate django_tasks_seq" in worker.output()
    assert "Traceback" not in worker.output()


def test_a_store_without_claims_is_refused() -> None:
    """No worker can run the jobs of a handler that has only get, set and delete."""
    path = f"{__name__}.ThreeMethods"
    with (
        override_settings(TASKS_SEQ={"CACHE_HANDLER": path}),
        pytest.raises(CommandError, match="has no claims, so no worker can run its jobs"),
    ):
        run()


@pytest.mark.postgresql
def test_no_transaction_is_open_while_a_task_runs(start: Start, tmp_path: Path) -> None:
    """A plain task may take hours: no session of its worker holds a transaction, or a snapshot."""
    job = executor.start_sequence("until_file", {"until": str(tmp_path / "go")})
    worker = start()
    wait_until(lambda: job.task_statuses.filter(status="RUNNING").exists(), what="a RUNNING row")

    def open_ones() -> list[Any]:
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT state, query FROM pg_stat_activity WHERE datname = current_database()"
                " AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
                " AND (state LIKE 'idle in transaction%%' OR"
                " (state = 'idle' AND (xact_start IS NOT NULL OR backend_xmin IS NOT NULL)))"
            )
            return list(cursor.fetchall())

    # Many looks: the engine's own short statements come and go between them.
    beats = Job.objects.get().worker.heartbeat_at
    seen: list[Any] = []

    def looked_long_enough() -> bool:
        seen.extend(open_ones())
        return (Job.objects.get().worker.heartbeat_at - beats).total_seconds() > 2

    wait_until(looked_long_enough, what="two beats")
    (tmp_path / "go").touch()
    wait_until(lambda: job.refresh().status == "SUCCESSFUL", what="the end")
    assert seen == []
    assert worker.running


@override_settings(TASKS_SEQ={"DATABASE": "defualt"})
def test_an_unknown_alias_is_refused() -> None:
    """A DATABASE that DATABASES lacks is one sentence, with the name that was probably meant."""
    with pytest.raises(CommandError, match=r"'defualt'.*Did you mean 'default'"):
        run()


def test_a_misspelt_queue_is_doubted(capsys: pytest.CaptureFixture[str]) -> None:
    """A queue that no job is on, but for a letter, gets a hint; the worker waits for it anyway."""
    executor.start_sequence("chain", {"n": 1}, queue="mail")

    call_command("run_task_worker", burst=True, queues="mial,mail,new", verbosity=1)

    hints = [line for line in capsys.readouterr().err.splitlines() if line]
    (hint,) = hints
    assert hint.startswith("No job is on queue 'mial' now. Did you mean 'mail'?")
    assert hint.endswith("Queues: default, mail. Waiting for it anyway.")
