"""Databases to measure in: each run has a fresh one, and the server says what it cost."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import psycopg
from psycopg import sql

SETTINGS: Final = (
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
)

LARGE: Final = 2**27


@dataclass(frozen=True)
class Cost:
    """What a server has done so far: transactions of one database, and bytes of WAL of them all."""

    transactions: int = 0
    wal_bytes: int = 0

    def __sub__(self, other: Cost) -> Cost:
        return Cost(self.transactions - other.transactions, self.wal_bytes - other.wal_bytes)


class PostgresDatabases:
    """Databases on the server that *url* names; all that were made are dropped by `close`."""

    vendor: Final = "postgresql"

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = itertools.count(1)
        self._made: list[str] = []
        self._server = psycopg.connect(url, autocommit=True)

    def make(self) -> str:
        """Make an empty database; return its URL."""
        return self._create("template1")

    def copy(self, url: str) -> str:
        """Make a database as that of *url* is, to which nobody may be connected; return its URL."""
        return self._create(_name(url))

    def _create(self, template: str) -> str:
        name = f"tseq_bench_{os.getpid()}_{next(self._numbers)}"
        statement = "CREATE DATABASE {} TEMPLATE {}"
        if self._is_large(template):
            # Else the server writes all of it to the WAL first.
            statement += " STRATEGY FILE_COPY"
        self._run(statement, name, template)
        self._made.append(name)
        # A checkpoint that happens to fall into a run would double its WAL.
        self._server.execute("CHECKPOINT")
        return urlsplit(self._url)._replace(path=f"/{name}").geturl()

    def _is_large(self, name: str) -> bool:
        row = self._server.execute("SELECT pg_database_size(%s)", [name]).fetchone()
        assert row is not None
        return row[0] > LARGE and self._server.info.server_version >= 150000

    def program(self, name: str) -> Path | None:
        """One of the programs that belong to the server, if it is on this machine."""
        row = self._server.execute("SELECT setting FROM pg_config WHERE name = 'BINDIR'").fetchone()
        assert row is not None
        path = Path(row[0]) / name
        return path if path.is_file() else None

    def count(self, url: str, statement: str) -> int:
        """The number that *statement* asks for, on a database of ours."""
        with psycopg.connect(url, autocommit=True) as db:
            row = db.execute(statement.encode()).fetchone()
        assert row is not None
        return int(row[0])

    def drop(self, url: str) -> None:
        """Drop a database that `make` or `copy` has returned."""
        self._made.remove(_name(url))
        self._run("DROP DATABASE {} WITH (FORCE)", _name(url))

    def cost(self, url: str) -> Cost:
        """Read the counters; complete only when the processes that worked there have ended."""
        row = self._server.execute(
            "SELECT xact_commit + xact_rollback, pg_current_wal_insert_lsn() - '0/0'::pg_lsn"
            " FROM pg_stat_database WHERE datname = %s",
            [_name(url)],
        ).fetchone()
        assert row is not None
        return Cost(int(row[0]), int(row[1]))

    def describe(self) -> dict[str, Any]:
        """What the server is and what a commit is worth there."""
        return {
            name: row[0]
            for name in SETTINGS
            if (row := self._server.execute(f"SHOW {name}".encode()).fetchone())
        }

    def close(self) -> None:
        """Drop what was made."""
        for name in list(self._made):
            self._run("DROP DATABASE IF EXISTS {} WITH (FORCE)", name)
        self._server.close()

    def _run(self, statement: str, *names: str) -> None:
        template = sql.SQL(statement)
        self._server.execute(template.format(*map(sql.Identifier, names)))


class SqliteDatabases:
    """The same with files in a directory; a file does not say what it cost."""

    vendor: Final = "sqlite"

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._numbers = itertools.count(1)

    def make(self) -> str:
        """A database that does not exist yet; return its URL."""
        return f"sqlite:///{self._directory / f'bench-{next(self._numbers)}.sqlite3'}"

    def copy(self, url: str) -> str:
        """Make a database as that of *url* is; return its URL."""
        made = self.make()
        _path(made).write_bytes(_path(url).read_bytes())
        return made

    def drop(self, url: str) -> None:
        """Remove the file and what stands beside it."""
        for path in self._directory.glob(f"{_path(url).name}*"):
            path.unlink()

    def cost(self, url: str) -> Cost:
        """Nothing is counted."""
        return Cost()


Databases = PostgresDatabases | SqliteDatabases


@contextmanager
def fresh(databases: Databases, template: str | None = None) -> Iterator[str]:
    """The URL of a new database, empty or as that of *template*, which is gone afterwards."""
    url = databases.make() if template is None else databases.copy(template)
    try:
        yield url
    finally:
        databases.drop(url)


def is_postgresql(url: str) -> bool:
    """Whether *url* names a PostgreSQL database."""
    return url.startswith(("postgres://", "postgresql://"))


def _name(url: str) -> str:
    return urlsplit(url).path.removeprefix("/")


def _path(url: str) -> Path:
    return Path(url.removeprefix("sqlite:///"))
