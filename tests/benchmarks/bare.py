"""The bare limit: what the database and Python allow when nothing has to be right but the commits.

Jobs are claimed in a batch, tasks run on as many threads as the app has, all outcomes at hand are
committed together: no leases, no fence, no retries, no checks of what a task returned. It works
on the app's own tables and indexes, on jobs that the app has queued: what is written is the same
record. The limit is written as one writes it with a driver alone, by
`executemany` in a transaction; run without threads it sends arrays in one statement instead, which
is a floor for what the commits themselves cost.
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

JOB: Final = "django_tasks_seq_job"
TASK: Final = "django_tasks_seq_taskstatus"
READY: Final = (
    f"SELECT id FROM {JOB} WHERE status = 'READY' AND NOT carried AND queue = 'default'"
    " ORDER BY rank, run_after, id LIMIT {limit}"
)
COUNT: Final = f"SELECT (SELECT count(*) FROM {JOB} WHERE status = 'SUCCESSFUL'), (SELECT count(*) FROM {TASK})"
ROW: Final = "r" * 250
LAST: Final = TASKS - 1

Task = tuple[Any, int, dict[str, Any], str]
Ended = Sequence[tuple[Any, str, int, str, bool]]
WORKER: Final = "bare-limit:4711"
TASK_COLUMNS: Final = (
    "job_id, task_id, position, status, attempts, result, worker_name, started_at, finished_at"
)


class Queue(Protocol):
    """Jobs and outcomes in the app's own tables, queued by the app."""

    def claim(self, limit: int) -> list[tuple[Any, str]]:
        """Take jobs: (id, payload)."""
        ...

    def commit(self, ended: Ended) -> None:
        """Write (id, task id, position, result, whether the job has ended)."""
        ...

    def insert(self, text: str) -> None:
        """Commit one row: what starting a job costs at least."""
        ...

    def count(self) -> tuple[int, int]:
        """Ended jobs, and outcomes."""
        ...

    def make_room(self) -> None:
        """Make the table of `insert`."""
        ...


class PostgresQueue:
    """On PostgreSQL, with server-side binding and prepared statements."""

    CLAIM = f"""
        UPDATE {JOB} SET status = 'RUNNING', claim_token = claim_token + 1,
          started_at = clock_timestamp()
        WHERE id = ANY(ARRAY({READY.format(limit="%s")} FOR NO KEY UPDATE SKIP LOCKED))
        RETURNING id, payload"""
    INSERT = f"""
        INSERT INTO {TASK} ({TASK_COLUMNS})
        VALUES (%s, %s, %s, 'SUCCESSFUL', 1, %s, %s, clock_timestamp(), clock_timestamp())"""
    FINISH = f"""
        UPDATE {JOB} SET status = 'SUCCESSFUL', result = %s, finished_at = clock_timestamp()
        WHERE id = %s"""
    TOGETHER = f"""
        WITH ended AS MATERIALIZED (
          SELECT * FROM unnest(%s::uuid[], %s::text[], %s::int[], %s::text[], %s::bool[])
          AS e(id, task_id, position, result, ends)
        ), finished AS (
          UPDATE {JOB} j SET status = 'SUCCESSFUL', result = e.result,
            finished_at = clock_timestamp()
          FROM ended e WHERE e.ends AND j.id = e.id
        )
        INSERT INTO {TASK} ({TASK_COLUMNS})
        SELECT id, task_id, position, 'SUCCESSFUL', 1, result, %s, clock_timestamp(),
          clock_timestamp() FROM ended"""

    def __init__(self, url: str, *, together: bool) -> None:
        self._db = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self.commit = self._commit_together if together else self._commit_rows

    def claim(self, limit: int) -> list[tuple[Any, str]]:
        return self._db.execute(self.CLAIM, [limit]).fetchall()

    def _commit_rows(self, ended: Ended) -> None:
        with self._db.transaction(), self._db.cursor() as cursor:
            cursor.executemany(self.INSERT, [(*row[:4], WORKER) for row in ended])
            finished = [(row[3], row[0]) for row in ended if row[4]]
            if finished:
                cursor.executemany(self.FINISH, finished)

    def _commit_together(self, ended: Ended) -> None:
        columns = [list(column) for column in zip(*ended, strict=True)]
        self._db.execute(self.TOGETHER, [*columns, WORKER])

    def insert(self, text: str) -> None:
        self._db.execute("INSERT INTO bare_start VALUES (%s, %s)", [uuid.uuid4(), text])

    def count(self) -> tuple[int, int]:
        row = self._db.execute(COUNT).fetchone()
        assert row is not None
        return row[0], row[1]

    def make_room(self) -> None:
        """The table of `insert`."""
        self._db.execute("CREATE TABLE bare_start (id uuid PRIMARY KEY, text text)", prepare=False)


class SqliteQueue:
    """On SQLite as the app has it: WAL, synchronous=NORMAL."""

    NOW = "strftime('%Y-%m-%d %H:%M:%f', 'now')"
    CLAIM = f"""
        UPDATE {JOB} SET status = 'RUNNING', claim_token = claim_token + 1, started_at = {NOW}
        WHERE id IN ({READY.format(limit="?")}) RETURNING id, payload"""
    INSERT = f"""
        INSERT INTO {TASK} ({TASK_COLUMNS})
        VALUES (?, ?, ?, 'SUCCESSFUL', 1, ?, ?, {NOW}, {NOW})"""
    FINISH = f"""
        UPDATE {JOB} SET status = 'SUCCESSFUL', result = ?, finished_at = {NOW} WHERE id = ?"""

    def __init__(self, url: str) -> None:
        self._db = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
        self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")

    def claim(self, limit: int) -> list[tuple[Any, str]]:
        return self._db.execute(self.CLAIM, [limit]).fetchall()

    def commit(self, ended: Ended) -> None:
        self._db.execute("BEGIN IMMEDIATE")
        self._db.executemany(self.INSERT, [(*row[:4], WORKER) for row in ended])
        self._db.executemany(self.FINISH, [(row[3], row[0]) for row in ended if row[4]])
        self._db.execute("COMMIT")

    def insert(self, text: str) -> None:
        self._db.execute("INSERT INTO bare_start VALUES (?, ?)", [uuid.uuid4().hex, text])

    def count(self) -> tuple[int, int]:
        jobs, outcomes = self._db.execute(COUNT).fetchone()
        return jobs, outcomes

    def make_room(self) -> None:
        """The table of `insert`."""
        self._db.execute("CREATE TABLE bare_start (id text PRIMARY KEY, text text)")


def _queue(*, together: bool = False) -> Queue:
    url = os.environ["DATABASE_URL"]
    return PostgresQueue(url, together=together) if is_postgresql(url) else SqliteQueue(url)


def work(in_hand: int, threads: int) -> dict[str, Any]:
    """Run all jobs on so many threads, or on this one; tasks a second, and what they cost."""
    queue = _queue(together=not threads)
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
        self._queue.commit([(id_, f"task_{n}", n, text, n == LAST) for id_, n, _, text in ended])
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
                    (id_, f"task_{n}", n, json.dumps(result), n == LAST)
                    for id_, result in payloads.items()
                ]
            )


def _noop(payload: dict[str, Any]) -> dict[str, Any]:
    return {"text": FILLER, "count": payload["count"] + 1}


def start(starts: int) -> dict[str, Any]:
    """Commit rows one by one."""
    queue = _queue()
    queue.make_room()
    began = time.perf_counter()
    for _ in range(starts):
        queue.insert(ROW)
    return {"one_by_one": starts / (time.perf_counter() - began)}


if __name__ == "__main__":
    verbs: dict[str, Callable[..., Any]] = {"work": work, "start": start}
    answer(verbs)
