"""`make demo` and `make serve` as a person runs them: processes of their own, on a new database."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.request import urlopen

import pytest
from django.db import connection
from pytest_django import DjangoDbBlocker

from tests.helpers import ROOT, wait_until

TIMEOUT = 110


@pytest.fixture
def environment(
    tmp_path: Path, django_db_setup: None, django_db_blocker: DjangoDbBlocker
) -> Iterator[dict[str, str]]:
    """The environment of a shop of its own: an empty database, and a directory for its files."""
    fixed = {
        "DJANGO_SETTINGS_MODULE": "example_project.settings",
        "VAR_DIR": str(tmp_path / "var"),
        "PICTURE_PACE": "0.01",
        "PYTHONUNBUFFERED": "1",
    }
    if connection.vendor == "sqlite":
        # Empty is as good as not given.
        yield {**os.environ, **fixed, "DATABASE_URL": ""}
        return
    name = f"acme_{os.getpid()}"
    with django_db_blocker.unblock():
        execute(f"CREATE DATABASE {name}")
        try:
            server = os.environ["DATABASE_URL"].rpartition("/")[0]
            yield {**os.environ, **fixed, "DATABASE_URL": f"{server}/{name}"}
        finally:
            execute(f"DROP DATABASE {name} WITH (FORCE)")


def execute(statement: str) -> None:
    with connection._nodb_cursor() as cursor:
        cursor.execute(statement)


def manage(*arguments: str) -> list[str]:
    return [sys.executable, str(ROOT / "manage.py"), *arguments]


def run_demo(environment: dict[str, str], *options: str) -> str:
    done = subprocess.run(
        manage("demo", *options),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
    )
    log = Path(environment["VAR_DIR"]) / "worker.log"
    worker = log.read_text() if log.exists() else ""
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}\n--- the worker:\n{worker}"
    assert done.stderr == ""
    return done.stdout


def test_demo_runs_to_the_end_and_again(environment: dict[str, str]) -> None:
    """Every order ends as planned, it is shown and checked, and a second run places new orders."""
    first, second = run_demo(environment), run_demo(environment)

    var = Path(environment["VAR_DIR"])
    for said in (first, second):
        assert "✓ 12 orders: 9 fulfilled, 3 failed as planned" in said
        assert "nothing charged twice" in said
        assert len(re.findall(r"^  Order #\d+ .*  successful$", said, re.MULTILINE)) == 9
        assert len(re.findall(r"^  Order #\d+ .* ✗ .*  failed$", said, re.MULTILINE)) == 3
        assert "retry in" in said
    assert "Order #1041" in first
    assert "Order #1053" in second
    assert len(list((var / "media" / "invoices").glob("INV-*.pdf"))) == 18
    assert any((var / "mails").iterdir())


def test_demo_survives_a_killed_worker(environment: dict[str, str]) -> None:
    """A worker that is killed half-way costs nobody money or goods: another one ends its orders."""
    slow = {"PICTURE_PACE": "0.1", "LEASE_SECONDS": "2"}
    said = run_demo({**environment, **slow}, "--crash")

    killed = re.search(r"was killed with (\d+) orders to go", said)
    assert killed
    assert int(killed[1]) > 0
    assert "✓ 12 orders: 9 fulfilled, 3 failed as planned" in said
    assert "nothing charged twice" in said
    assert "✓ stock: every piece accounted for" in said


def test_serve_opens_site_and_admin_and_stops_in_order(environment: dict[str, str]) -> None:
    """The site and its admin answer, a worker runs, and SIGTERM ends all of them."""
    port = free_port()
    command = manage("serve", "--port", str(port))
    log = Path(environment["VAR_DIR"]).parent / "serve.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_until(lambda: "Worker   process" in log.read_text(), what="a worker is started")
        site = f"http://127.0.0.1:{port}/"
        wait_until(lambda: answers(site), what="the site answers")

        assert b"Blue cup" in read(site)
        assert b"Acme Shop admin" in read(f"{site}admin/login/")
        assert "user admin / admin" in log.read_text()

        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
        assert "bye" in log.read_text()
        assert not answers(site)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        print(log.read_text())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def read(address: str) -> bytes:
    with urlopen(address, timeout=10) as answer:
        return bytes(answer.read())


def answers(address: str) -> bool:
    try:
        read(address)
    except OSError:
        return False
    return True
