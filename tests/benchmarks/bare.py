"""The bare limit: what the database and Python allow when nothing has to be right but the commits.

Jobs are claimed in a batch, tasks run on as many threads as the app has, all outcomes at hand are
committed with one statement: no leases, no fence, no retries, no checks of what a task returned. Run
without threads, it is a floor for what the commits themselves cost.
"""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any, Final, Protocol

import psycopg

from tests.benchmarks.databases import is_postgresql
from tests.benchmarks.processes import answer
from tests.benchmarks.tasks_sequences import FILLER, TASKS

PAYLOAD: Final = json.dumps({"count": 0})
ROW: Final = "r" * 250
LAST: Final = TASKS - 1

Task = tuple[Any, int, dict[str, Any], str]
Ended = Sequence[tuple[Any, str, str, bool]]


class Queue(Protocol):
    """Jobs and outcomes in two tables."""

    def prepare(self, jobs: int) -> None:
        """Make the tables and queue that many jobs."""
        ...

    def claim(self, limit: int) -> list[tuple[Any, str]]:
        """Take jobs: (id, payload)."""
        ...

    def commit(self, ended: Ended) -> None:
        """Write (id, task id, result, whether the job has ended)."""
        ...

    def insert(self, text: str) -> None:
        """Commit one row: what starting a job costs at least."""
        ...

    def count(self) -> tuple[int, int]:
        """Ended jobs, and outcomes."""
        ...


class PostgresQueue:
    """On PostgreSQL, with server-side binding and prepared statements."""

    CLAIM = """
        UPDATE bare_job SET status = 'RUNNING', token = token + 1, started_at = clock_timestamp()
        WHERE id = ANY(ARRAY(SELECT id FROM bare_job WHERE status = 'READY' ORDER BY id LIMIT %s
          FOR NO KEY UPDATE SKIP LOCKED))
        RETURNING id, payload"""
    COMMIT = """
        WITH ended AS MATERIALIZED (
          SELECT * FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::bool[])
          AS e(id, task_id, result, ends)
        ), finished AS (
          UPDATE bare_job j SET status = 'SUCCESSFUL', result = e.result,
            finished_at = clock_timestamp()
          FROM ended e WHERE e.ends AND j.id = e.id
        )
        INSERT INTO bare_task (job_id, task_id, result, finished_at)
        SELECT id, task_id, result, clock_timestamp() FROM ended"""

    def __init__(self, url: str) -> None:
        self._db = psycopg.connect(url, autocommit=True, prepare_threshold=0)

    def prepare(self, jobs: int) -> None:
        self._db.execute(
            "CREATE TABLE bare_job (id uuid PRIMARY KEY, status text NOT NULL, payload text,"
            " result text, token bigint NOT NULL DEFAULT 0, started_at timestamptz,"
            " finished_at timestamptz);"
            " CREATE INDEX ON bare_job (id) WHERE status = 'READY';"
            " CREATE TABLE bare_task (job_id uuid, task_id text, result text,"
            " finished_at timestamptz, PRIMARY KEY (job_id, task_id));"
            " CREATE TABLE bare_start (id uuid PRIMARY KEY, text text)",
            prepare=False,
        )
        ids = [uuid.UUID(int=n) for n in range(jobs)]
        statement = (
            "INSERT INTO bare_job (id, status, payload) SELECT unnest(%s::uuid[]), 'READY', %s"
        )
        self._db.execute(statement, [ids, PAYLOAD])

    def claim(self, limit: int) -> list[tuple[Any, str]]:
        return self._db.execute(self.CLAIM, [limit]).fetchall()

    def commit(self, ended: Ended) -> None:
        self._db.execute(self.COMMIT, [list(column) for column in zip(*ended, strict=True)])

    def insert(self, text: str) -> None:
        self._db.execute("INSERT INTO bare_start VALUES (%s, %s)", [uuid.uuid4(), text])

    def count(self) -> tuple[int, int]:
        jobs = self._db.execute("SELECT count(*) FROM bare_job WHERE status = 'SUCCESSFUL'")
        return jobs.fetchall()[0][0], self._db.execute("SELECT count(*) FROM bare_task").fetchall()[
            0
        ][0]


class SqliteQueue:
    """On SQLite as the app has it: WAL, synchronous=NORMAL."""

    CLAIM = """
        UPDATE bare_job SET status = 'RUNNING', token = token + 1, started_at = julianday('now')
        WHERE id IN (SELECT id FROM bare_job WHERE status = 'READY' ORDER BY id LIMIT ?)
        RETURNING id, payload"""
    FINISH = """
        UPDATE bare_job SET status = 'SUCCESSFUL', result = ?, finished_at = julianday('now')
        WHERE id = ?"""

    def __init__(self, url: str) -> None:
        self._db = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")

    def prepare(self, jobs: int) -> None:
        self._db.executescript(
            "CREATE TABLE bare_job (id text PRIMARY KEY, status text, payload text, result text,"
            " token int NOT NULL DEFAULT 0, started_at real, finished_at real);"
            " CREATE INDEX bare_ready ON bare_job (id) WHERE status = 'READY';"
            " CREATE TABLE bare_task (job_id text, task_id text, result text, finished_at real,"
            " PRIMARY KEY (job_id, task_id));"
            " CREATE TABLE bare_start (id text PRIMARY KEY, text text)"
        )
        rows = [(uuid.UUID(int=n).hex, "READY", PAYLOAD) for n in range(jobs)]
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany("INSERT INTO bare_job (id, status, payload) VALUES (?, ?, ?)", rows)
        self._db.execute("COMMIT")

    def claim(self, limit: int) -> list[tuple[Any, str]]:
        return self._db.execute(self.CLAIM, [limit]).fetchall()

    def commit(self, ended: Ended) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(
            "INSERT INTO bare_task VALUES (?, ?, ?, julianday('now'))", [row[:3] for row in ended]
        )
        self._db.executemany(self.FINISH, [(result, id_) for id_, _, result, ends in ended if ends])
        self._db.execute("COMMIT")

    def insert(self, text: str) -> None:
        self._db.execute("INSERT INTO bare_start VALUES (?, ?)", [uuid.uuid4().hex, text])

    def count(self) -> tuple[int, int]:
        jobs = self._db.execute("SELECT count(*) FROM bare_job WHERE status = 'SUCCESSFUL'")
        return jobs.fetchall()[0][0], self._db.execute("SELECT count(*) FROM bare_task").fetchall()[
            0
        ][0]


def _queue() -> Queue:
    url = os.environ["DATABASE_URL"]
    return PostgresQueue(url) if is_postgresql(url) else SqliteQueue(url)


def prepare(jobs: int) -> None:
    """Make the tables and queue the jobs."""
    _queue().prepare(jobs)


def work(in_hand: int, threads: int) -> dict[str, Any]:
    """Run all jobs on so many threads, or on this one; tasks a second, and what they cost."""
    queue = _queue()
    run = Threads(queue, in_hand, threads).run if threads else partial(_run_here, queue, in_hand)
    cpu, began = time.process_time(), time.perf_counter()
    run()
    took, cpu = time.perf_counter() - began, time.process_time() - cpu
    done, outcomes = queue.count()
    return {"jobs": done, "outcomes": outcomes, "seconds": took, "cpu_seconds": cpu}


class Threads:
    """Tasks on threads: what has ended when the last commit is through is the next commit."""

    def __init__(self, queue: Queue, in_hand: int, threads: int) -> None:
        self._queue = queue
        self._limit = in_hand
        self._in_hand = 0
        self._todo: SimpleQueue[Task] = SimpleQueue()
        self._ended: SimpleQueue[Task] = SimpleQueue()
        for _ in range(threads):
            threading.Thread(target=self._work, daemon=True).start()

    def run(self) -> None:
        is_dry = False
        while True:
            # Half of a claim's room, so that a claim is for many.
            if not is_dry and self._in_hand <= self._limit // 2:
                is_dry = self._claim()
            if is_dry and not self._in_hand:
                return
            self._commit()

    def _claim(self) -> bool:
        jobs = self._queue.claim(self._limit - self._in_hand)
        self._in_hand += len(jobs)
        for id_, payload in jobs:
            self._todo.put((id_, 0, json.loads(payload), ""))
        return not jobs

    def _commit(self) -> None:
        ended = [self._ended.get(timeout=60)]
        with suppress(Empty):
            while True:
                ended.append(self._ended.get_nowait())
        self._queue.commit([(id_, f"task_{n}", text, n == LAST) for id_, n, _, text in ended])
        for id_, n, result, _ in ended:
            if n == LAST:
                self._in_hand -= 1
            else:
                self._todo.put((id_, n + 1, result, ""))

    def _work(self) -> None:
        while True:
            id_, n, payload, _ = self._todo.get()
            result = _noop(payload)
            self._ended.put((id_, n, result, json.dumps(result)))


def _run_here(queue: Queue, in_hand: int) -> None:
    """No threads: the next task of all jobs in hand, then their commit."""
    while jobs := queue.claim(in_hand):
        payloads = {id_: json.loads(payload) for id_, payload in jobs}
        for n in range(TASKS):
            payloads = {id_: _noop(payload) for id_, payload in payloads.items()}
            queue.commit(
                [
                    (id_, f"task_{n}", json.dumps(result), n == LAST)
                    for id_, result in payloads.items()
                ]
            )


def _noop(payload: dict[str, Any]) -> dict[str, Any]:
    return {"text": FILLER, "count": payload["count"] + 1}


def start(starts: int) -> dict[str, Any]:
    """Commit rows one by one."""
    queue = _queue()
    queue.prepare(0)
    began = time.perf_counter()
    for _ in range(starts):
        queue.insert(ROW)
    return {"one_by_one": starts / (time.perf_counter() - began)}


if __name__ == "__main__":
    verbs: dict[str, Callable[..., Any]] = {"prepare": prepare, "work": work, "start": start}
    answer(verbs)
