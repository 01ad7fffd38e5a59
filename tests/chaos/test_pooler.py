"""R6: behind a pooler in transaction mode nothing rests on a session, and all works by polls."""

import logging
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_tasks_seq import InlineStartTaskHandler, Retry, TaskSpec, executor, registry
from django_tasks_seq.cache.retention import Prunable
from django_tasks_seq.models import Job, TaskAttempt
from django_tasks_seq.pruning import Pruner
from tests.chaos.proxy import Proxy
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.test_database_faults import reached_by
from tests.engines import STORE, EngineThread, declare
from tests.helpers import DEADLINE, InThread, wait_until
from tests.servers import tied
from tests.servers.postgres import _free_port, _unprivileged_user
from tests.testapp.models import Effect

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True, databases="__all__"),
]

POOLER = shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin")
# Sessions of the server for all of two workers, their tasks and a starter: they must share.
SESSIONS = 4
CONFIGURATION = """
[databases]
* = host={host} port={server} user={user}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 200
"""
# What outlives a transaction: on the next client's session, or on none.
SESSION_STATE = re.compile(
    rb"^\s*(LISTEN|UNLISTEN|PREPARE|DEALLOCATE|LOAD|DISCARD|CREATE\s+TEMP|SET\s+(?!LOCAL\b|CONSTRAINTS\b))"
    rb"|pg_(try_)?advisory_lock|\bWITH\s+HOLD\b|set_config\([^)]*false\s*\)",
    re.IGNORECASE,
)
STARTUP = {"user", "database", "client_encoding", "application_name"}


@pytest.fixture
def silent(settings: Any) -> None:
    """As the page on production says for a pooler: nobody listens."""
    settings.TASKS_SEQ = {"NOTIFY": False}


@contextmanager
def pgbouncer() -> Iterator[int]:
    """A pooler before the suite's server; yields its port."""
    server, port = connection.settings_dict, _free_port()
    with tempfile.TemporaryDirectory(prefix="tsq-pool-", dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        configuration = Path(folder) / "pgbouncer.ini"
        configuration.write_text(
            CONFIGURATION.format(
                host=server["HOST"],
                server=server["PORT"],
                user=server["USER"],
                port=port,
                sessions=SESSIONS,
            )
        )
        user = _unprivileged_user()
        launcher = [sys.executable, str(Path(tied.__file__)), *(["--user", user] if user else [])]
        log = Path(folder) / "log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                [*launcher, str(POOLER), str(configuration)], cwd="/", stdout=out, stderr=out
            )
        try:
            wait_until(lambda: _answers(port), what=f"a pooler: {log.read_text()}")
            yield port
        finally:
            process.kill()
            process.wait(DEADLINE)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def everybody_works(count: int) -> None:
    """Two workers, starts, verbs, a consumer and pruning: what a site does in a day."""

    def with_an_effect(payload: Any, context: Any) -> Any:
        Effect.objects.create(job_id=context.job_id, task_id=context.task_id)
        return payload

    def failing_at_first(payload: Any, context: Any) -> Any:
        if context.attempt == 1:
            raise ValueError("the first attempt fails")
        return payload

    declare(
        "pooled",
        ("first", lambda payload: payload),
        TaskSpec("second", with_an_effect, atomic=True),
        TaskSpec("third", failing_at_first, retry=Retry(2, delay=0.01)),
    )
    declare("inline", ("only", lambda payload: payload), start_task_handler=InlineStartTaskHandler)

    def asks() -> None:
        jobs = executor.start_many("pooled", [{"n": n} for n in range(count - 2)])
        late = executor.start_sequence("pooled", {}, run_after=timedelta(hours=1))
        executor.cancel(late)
        executor.wait(executor.start_sequence("inline", {}, idempotency_key="one"), DEADLINE)
        for job in jobs:
            executor.wait(job, 60)
        pruner = Pruner(STORE, Prunable(0.0, sequences=("inline",)))
        while pruner.batch():
            pass
        assert pruner.jobs == 1

    workers = [EngineThread(name=f"pooled:{n}", poll=0.1) for n in (1, 2)]
    try:
        InThread(asks).result(90)
    finally:
        for worker in workers:
            worker.ask_to_stop()
    assert [worker.thread.result() for worker in workers] == [0, 0]


def what_is_wrong(count: int) -> list[str]:
    """Of jobs and effects, after `everybody_works`."""
    statuses = Counter(Job.objects.values_list("status", flat=True))
    effects = Counter(Effect.objects.values_list("job_id", flat=True))
    outcomes = Counter(TaskAttempt.objects.values_list("outcome", flat=True))
    facts = {
        f"{statuses}": statuses != {"SUCCESSFUL": count - 2, "CANCELLED": 1},
        f"{outcomes}": outcomes != {"FAILED": count - 2},
        "effects": set(effects.values()) != {1} or len(effects) != count - 2,
    }
    return [what for what, is_wrong in facts.items() if is_wrong]


@pytest.mark.skipif(POOLER is None, reason="pgbouncer is not installed")
def test_workers_share_the_sessions_of_a_pooler(
    silent: None, seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """Through PgBouncer in transaction mode, with four sessions for all: no error, nothing lost."""
    count = sizes().pick(cut=60, full=500)
    with registry.isolated(), recorded("R6", seed=seed) as run, pgbouncer() as port:
        with reached_by(HOST="127.0.0.1", PORT=port), caplog.at_level(logging.WARNING):
            everybody_works(count)
        failed = [text for text in caplog.messages if "database failed" in text]
        run.jobs, run.faults = count, f"{SESSIONS} sessions"
        run.lost = len(what_is_wrong(count))
        assert failed == []
        assert what_is_wrong(count) == []


def test_nothing_is_asked_that_outlives_a_transaction(silent: None) -> None:
    """No LISTEN, no SET, nothing prepared, no lock of a session, and no parameter at the start."""
    count = 20
    server = connection.settings_dict
    with (
        registry.isolated(),
        Proxy(server["HOST"], int(server["PORT"])) as proxy,
        recorded("R6 statements") as run,
    ):
        with reached_by(HOST="127.0.0.1", PORT=proxy.port):
            everybody_works(count)
        said = proxy.said["Q"] + proxy.said["P"]
        run.jobs, run.faults = count, {"statements read": len(said)}
        named = [text for text in proxy.said["P"] if not text.startswith(b"\0")]
        parameters = {
            name.decode()
            for text in proxy.said[""]
            for name in text.rstrip(b"\0").split(b"\0")[::2]
        }
        assert len(said) > 10 * count
        assert [text for text in said if SESSION_STATE.search(text)] == []
        assert named == []
        assert parameters <= STARTUP
        assert what_is_wrong(count) == []


@pytest.mark.parametrize(
    "text",
    [
        "LISTEN x",
        "set timezone = 'UTC'",
        "SELECT pg_advisory_lock(1)",
        "PREPARE a AS SELECT 1",
        "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
        "SELECT set_config('a.b', 'c', false)",
    ],
)
def test_the_rule_sees_session_state(text: str) -> None:
    """What would be other people's next."""
    assert SESSION_STATE.search(text.encode())
