"""The PostgreSQL harness itself, which every test on PostgreSQL stands on."""

import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest

from tests.helpers import ROOT
from tests.servers.postgres import PostgresServer

pytestmark = pytest.mark.postgresql


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer(durable=True, settings={"max_connections": "20"}) as started:
        yield started


def setting(server: PostgresServer, name: str) -> str:
    with psycopg.connect(server.dsn) as connection:
        row = connection.execute("SELECT current_setting(%s)", [name]).fetchone()
    assert row is not None
    return str(row[0])


def test_a_durable_server_is_durable(server: PostgresServer) -> None:
    """Benchmarks ask for a durable server and get one, with the settings they name."""
    assert setting(server, "fsync") == "on"
    assert setting(server, "synchronous_commit") == "on"
    assert setting(server, "max_connections") == "20"


def test_what_was_committed_survives_a_kill(server: PostgresServer) -> None:
    """After `kill()` and `start()` the committed rows are there, under the same address."""
    with psycopg.connect(server.dsn) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS value")

    server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.dsn)
    server.start()

    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT value FROM kept").fetchall() == [(42,)]


def test_the_command_line_gives_the_address_and_the_exit_code() -> None:
    """`python -m tests.servers.postgres -- …` sets DATABASE_URL, ends as the command, leaves nothing."""
    code = "import os, sys; print(os.environ['DATABASE_URL']); sys.exit(7)"
    module = [sys.executable, "-m", "tests.servers.postgres"]
    done = subprocess.run(
        [*module, "--", sys.executable, "-c", code],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 7
    url = done.stdout.strip()
    assert url in done.stderr
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
