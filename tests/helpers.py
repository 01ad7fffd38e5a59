"""Waiting for conditions, threads that own a connection, and worker processes."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Generic, TypeVar

from django.conf import settings
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.servers import tied

ROOT = Path(__file__).resolve().parent.parent
DEADLINE = 30.0

T = TypeVar("T")


def wait_until(condition: Callable[[], T], timeout: float = DEADLINE, what: str = "") -> T:
    """Return the first true value of `condition()`; fail when there is none within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {timeout} s: {what or condition!r} (last: {value!r})")
        time.sleep(0.01)


@contextmanager
def own_connection(alias: str = "default") -> Iterator[BaseDatabaseWrapper]:
    """Yield a connection of its own to the (test) database of `alias`, usable from any thread."""
    connection = connections[alias].copy()
    connection.inc_thread_sharing()
    try:
        yield connection
    finally:
        connection.close()


class InThread(threading.Thread, Generic[T]):
    """A call in a thread of its own, whose database connections are closed when it ends.

    `InThread(cancel, job).result()` returns what the call returned or raises what it raised.
    """

    def __init__(self, call: Callable[..., T], *args: Any, **kwargs: Any) -> None:
        super().__init__(daemon=True, name=f"test-{getattr(call, '__name__', 'call')}")
        self._job = (call, args, kwargs)
        self._value: T | None = None
        self._error: BaseException | None = None
        self.start()

    def run(self) -> None:
        call, args, kwargs = self._job
        try:
            self._value = call(*args, **kwargs)
        except BaseException as error:
            self._error = error
        finally:
            connections.close_all()

    def result(self, timeout: float = DEADLINE) -> T:
        self.join(timeout)
        if self.is_alive():
            raise AssertionError(f"{self.name} did not end within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value  # type: ignore[return-value]


BLOCKED = {
    "postgresql": """
    SELECT pid, query FROM pg_stat_activity
    WHERE datname = current_database() AND wait_event_type = 'Lock'
""",
    # How many: MariaDB's list of them is not renewed while somebody looks more than ten times a second.
    "mysql": """
    SELECT seq, 'unknown' FROM seq_1_to_100 WHERE seq <= (SELECT variable_value
    FROM information_schema.global_status WHERE variable_name = 'INNODB_ROW_LOCK_CURRENT_WAITS')
""",
}


def blocked_backends(alias: str = "default") -> list[tuple[int, str]]:
    """Return (pid, query) of this database's sessions that wait for a lock."""
    # A connection of its own: inside a transaction the view shows the same picture for ever.
    with own_connection(alias) as connection, connection.cursor() as cursor:
        cursor.execute(BLOCKED[connection.vendor])
        return list(cursor.fetchall())


def wait_until_blocked(alias: str = "default", count: int = 1, timeout: float = DEADLINE) -> None:
    """Wait until `count` sessions of this database wait for a lock."""
    wait_until(lambda: len(blocked_backends(alias)) >= count, timeout, "a session waits for a lock")


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment in which a Django process works on this run's test databases."""
    names = {
        f"TASKS_SEQ_TEST_NAME_{alias.upper()}": str(connections[alias].settings_dict["NAME"])
        for alias in settings.DATABASES
    }
    fixed = {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "PYTHONUNBUFFERED": "1",
        "PYTHONWARNINGS": "error",
    }
    return {**os.environ, **fixed, **names, **(extra or {})}


class WorkerProcess:
    """A `manage.py` command in a process (and process group) of its own, on the test databases."""

    def __init__(self, args: list[str], *, log: Path, env: Mapping[str, str] | None = None) -> None:
        self.args = args
        self.log = log
        command = [sys.executable, str(Path(tied.__file__))]
        command += [sys.executable, str(ROOT / "manage.py"), *args]
        with log.open("wb") as out:
            self.process = subprocess.Popen(
                command,
                cwd=ROOT,
                env=child_environment(env),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def __repr__(self) -> str:
        return f"<{' '.join(self.args)}: pid {self.pid}, exit code {self.process.poll()}>"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def running(self) -> bool:
        return self.process.poll() is None

    def output(self) -> str:
        """Return what it has written so far, both streams."""
        return self.log.read_text(errors="replace")

    def wait_for_output(self, text: str, timeout: float = DEADLINE) -> None:
        """Wait until it has written `text`; fail at once when it ended without."""

        def written() -> bool:
            ended = not self.running
            if text in self.output():
                return True
            assert not ended, f"{self!r} ended without {text!r}:\n{self.output()}"
            return False

        wait_until(written, timeout, f"{text!r} in the output of {self!r}")

    def send_signal(self, number: int) -> None:
        """Send a signal to the process itself, as a supervisor would."""
        self.process.send_signal(number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL the whole process group and wait for the end; fine when it is gone."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        self.process.wait(DEADLINE)

    def wait(self, timeout: float = DEADLINE) -> int:
        """Return the exit code; fail with the output when it does not end in time."""
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"{self!r} runs on after {timeout} s:\n{self.output()}") from None
