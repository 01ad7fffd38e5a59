"""The whole PostgreSQL server is gone for a while: no worker ends, and nothing is lost."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.helpers import WorkerProcess, wait_until
from tests.process.conftest import Start
from tests.process.ledger import Ledger
from tests.servers.postgres import DATABASE, PostgresServer

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True, databases="__all__"),
]

BEGIN = """
from django_tasks_seq import executor
executor.start_many("until_file", [{{"until": "{go}"}}] * 2)
executor.start_many("chain", [{{"n": n}} for n in range(20)], run_after=__import__("datetime").timedelta(seconds=1))
"""


class Site:
    """A migrated database on a server of its own, that can crash."""

    def __init__(self, server: PostgresServer, tmp_path: Path) -> None:
        self.server = server
        jobs = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
        self.env = {
            "DATABASE_URL": server.url,
            "JOBS_DATABASE_URL": jobs,
            "TASKS_SEQ_TEST_NAME_DEFAULT": DATABASE,
            "TASKS_SEQ_TEST_NAME_JOBS": str(tmp_path / "jobs.sqlite3"),
        }

    def query(self, sql: str) -> list[Any]:
        with psycopg.connect(self.server.dsn) as connection:
            return list(connection.execute(sql).fetchall())

    def statuses(self) -> set[str]:
        return {status for (status,) in self.query("SELECT status FROM django_tasks_seq_job")}


@pytest.fixture
def site(worker_process: Any, tmp_path: Path) -> Iterator[Site]:
    """The server, with our tables."""
    with PostgresServer() as server:
        found = Site(server, tmp_path)
        migrate = worker_process("-v", "0", command="migrate", env=found.env)
        assert migrate.wait() == 0, migrate.output()
        yield found


def test_workers_outlive_the_server_and_lose_nothing(
    site: Site, start: Start, worker_process: Any, ledger: Ledger, tmp_path: Path
) -> None:
    """It crashes while tasks run, which end meanwhile; when it is back every job ends, once."""
    go = tmp_path / "go"
    worker = start(env=site.env, LEASE_SECONDS=1.5)
    worker.wait_for_output("Ctrl+C")
    begun: WorkerProcess = worker_process(
        "-c", BEGIN.format(go=go), command="shell", env={**site.env, **ledger.environment()}
    )
    wait_until(lambda: len(ledger.lines("call")) >= 2, what="running tasks")
    assert begun.wait() == 0, "both starts are committed"

    site.server.kill()
    worker.wait_for_output("the jobs' database failed, again in 0.8 s")
    go.touch()
    wait_until(lambda: len(ledger.lines("end")) == 2, what="tasks that end without a database")
    # By now every lease has ended: who comes back must renew before it rescues.
    worker.wait_for_output("the jobs' database failed, again in 1.6 s")
    site.server.start()
    wait_until(lambda: site.statuses() == {"SUCCESSFUL"}, what="the end of all jobs")

    assert worker.running, worker.output()
    held = [line for line in ledger.lines("call") if line.task_id == "waits"]
    assert len(held) == 2, "nothing was run again"
    assert site.query("SELECT count(*) FROM django_tasks_seq_jobevent") == [(0,)]
    assert site.query("SELECT count(*) FROM django_tasks_seq_taskattempt") == [(0,)]


def test_a_worker_without_its_server_still_ends_in_time(
    site: Site, start: Start, worker_process: Any, ledger: Ledger, tmp_path: Path
) -> None:
    """A stop during an outage does not wait for the database; what it held goes on elsewhere later."""
    worker = start("--drain-timeout=1", env=site.env, LEASE_SECONDS=1.5)
    worker.wait_for_output("Ctrl+C")
    begun = worker_process(
        "-c",
        BEGIN.format(go=tmp_path / "go"),
        command="shell",
        env={**site.env, **ledger.environment()},
    )
    wait_until(lambda: len(ledger.lines("call")) >= 2, what="running tasks")
    assert begun.wait() == 0, "both starts are committed"
    site.server.kill()
    worker.wait_for_output("the jobs' database failed")

    worker.terminate()
    assert worker.wait(1 + 10) == 0, worker.output()

    (tmp_path / "go").touch()
    site.server.start()
    start(env=site.env, LEASE_SECONDS=1.5)
    wait_until(lambda: site.statuses() == {"SUCCESSFUL"}, what="the end of all jobs")
