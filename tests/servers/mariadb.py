"""A private MariaDB server for tests.

    python -m tests.servers.mariadb -- COMMAND ARGS…

starts one, runs the command with `DATABASE_URL` set, stops the server and ends with the command's
exit code. In Python: `with MariaDBServer() as server: …`.

The binaries are those of Debian's `mariadb-server`, on PATH or in /usr/sbin. Where they or Django's
driver (`mysqlclient`) are missing nothing is run: an error if `CI` is set, else a message.
"""

import argparse
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.servers import tied
from tests.servers.postgres import _free_port, _on_sigterm

DATABASE = "tasks_seq"
START_DEADLINE = 60.0
STOP_DEADLINE = 60.0
PLACES = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec")
HOW = "apt-get install --no-install-recommends mariadb-server default-libmysqlclient-dev"

# The server's own default collation takes "A" for "a": tables must not rest on it.
SETTINGS = {
    "bind-address": "127.0.0.1",
    "character-set-server": "utf8mb4",
    "collation-server": "utf8mb4_general_ci",
    "max-connections": "200",
    "innodb-buffer-pool-size": "256M",
    "innodb-log-file-size": "256M",
    "default-time-zone": "+05:30",
    # A commit still survives a crash of the server, though not one of the machine.
    "innodb-flush-log-at-trx-commit": "2",
}
FLAGS = ("--skip-log-bin", "--skip-name-resolve", "--skip-innodb-doublewrite")


class NoMariaDBError(RuntimeError):
    """There is no server on this machine, or no driver."""


class MariaDBServer:
    """One server with its own data directory; `url` for Django.

    `stop()` keeps the data, so that `start()` goes on with them on the same port; `close()`, or the
    end of the `with` block, removes them. The server dies with the thread that started it.
    """

    def __init__(self, *, settings: Mapping[str, str] | None = None) -> None:
        self.program = _find("mariadbd", "mysqld")
        self.settings = {**SETTINGS, **(settings or {})}
        self.user = _unprivileged_user()
        # Not TMPDIR: a socket's path has at most 107 bytes, and the server's user must get there.
        self.base = Path(tempfile.mkdtemp(prefix="tsq-maria-", dir="/tmp"))
        self.data = self.base / "data"
        self.log = self.base / "log"
        self.socket = self.base / "socket"
        self.port = _free_port()
        self.process: subprocess.Popen[bytes] | None = None
        self._said = 0
        if self.user is not None:
            shutil.chown(self.base, self.user)

    @property
    def url(self) -> str:
        """For `DATABASE_URL`."""
        return f"mysql://root@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def version(self) -> str:
        """As `mariadbd --version` says it."""
        done = subprocess.run(
            [self.program, "--no-defaults", "--version"], check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Start it and return when it answers; makes data directory and database the first time."""
        if not self.data.exists():
            self._install()
        options = [f"--{name}={value}" for name, value in self.settings.items()]
        self._said = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command(
                    *(self.program, "--no-defaults", f"--datadir={self.data}", *FLAGS),
                    *(f"--socket={self.socket}", f"--port={self.port}", *options),
                    *(f"--pid-file={self.base / 'pid'}", f"--init-file={self.base / 'init.sql'}"),
                ),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """Shut it down in order; open sessions are ended."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process = None

    def close(self) -> None:
        """Stop it and remove its data."""
        try:
            self.stop()
        finally:
            shutil.rmtree(self.base, ignore_errors=True)

    def _install(self) -> None:
        (self.base / "init.sql").write_text(f"CREATE DATABASE IF NOT EXISTS {DATABASE};\n")
        done = subprocess.run(
            self._command(
                *(_find("mariadb-install-db", "mysql_install_db"), "--no-defaults"),
                *(f"--datadir={self.data}", "--auth-root-authentication-method=normal"),
                *("--skip-test-db", "--skip-name-resolve"),
            ),
            check=False,
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise RuntimeError(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")

    def _command(self, program: str, *args: str) -> list[str]:
        dropped = ["--user", self.user] if self.user is not None else []
        return [sys.executable, str(Path(tied.__file__)), *dropped, program, *args]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_DEADLINE
        while not self._is_ready():
            assert self.process is not None
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"MariaDB did not start:\n{self._log_tail()}")
            time.sleep(0.02)

    def _is_ready(self) -> bool:
        """Whether it has said so since it was started; its init file has been run by then."""
        with self.log.open("rb") as log:
            log.seek(self._said)
            return b"ready for connections" in log.read()

    def _log_tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:] if self.log.exists() else ""


def _find(*names: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), *PLACES])
    for name in names:
        if found := shutil.which(name, path=path):
            return found
    raise NoMariaDBError(f"no {names[0]} on this machine: {HOW}")


def _unprivileged_user() -> str | None:
    """Return the user to run as when this process is root, whom MariaDB refuses."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return "mysql" if "mysql" in known else "nobody"


def is_required() -> bool:
    """Whether a machine without MariaDB is a failure."""
    return bool(os.environ.get("CI"))


def main() -> int:
    """Run a command beside a server of its own; see the module's text."""
    parser = argparse.ArgumentParser(prog="python -m tests.servers.mariadb")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    command = options.command[1:] if options.command[:1] == ["--"] else options.command
    signal.signal(signal.SIGTERM, _on_sigterm)
    try:
        if importlib.util.find_spec("MySQLdb") is None:
            raise NoMariaDBError(f"no mysqlclient: {HOW}, then pip install '.[mysql]'")
        server = MariaDBServer()
    except NoMariaDBError as error:
        print(f"{'FAILED' if is_required() else 'SKIPPED'}: {error}", file=sys.stderr)
        return 1 if is_required() else 0
    with server:
        print(f"{server.version}, {server.url}", file=sys.stderr, flush=True)
        launcher = [sys.executable, str(Path(tied.__file__)), "--signal", "SIGTERM"]
        return subprocess.call(
            [*launcher, *command], env={**os.environ, "DATABASE_URL": server.url}
        )


if __name__ == "__main__":
    sys.exit(main())
