"""P3: starts by one client beside pgbench's INSERTs, and what NOTIFY costs many writers."""

from __future__ import annotations

import re
import select
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from tests.benchmarks.bench import Bench, on_postgresql
from tests.benchmarks.measurements import APP, PGBENCH, Figures, Measurement
from tests.benchmarks.processes import DEADLINE, RunFailedError, measure, measure_together

CHANNEL = "django_tasks_seq"
TABLE = "CREATE TABLE bench_insert (id uuid PRIMARY KEY, text text)"
SCRIPT = f"INSERT INTO bench_insert VALUES (gen_random_uuid(), '{'r' * 250}');"


def measurements(bench: Bench) -> Iterator[Measurement]:
    """One client, pgbench, and eight writers with and without NOTIFY."""
    vendor = bench.vendor
    yield Measurement("starting", APP, vendor, "start", lambda: _start(bench), ("peers",))
    if (program := on_postgresql(bench).program("pgbench")) is not None:
        yield Measurement("starting", PGBENCH, vendor, "start", lambda: _pgbench(bench, program))
    yield Measurement("starting", APP, vendor, "writers", lambda: _writers(bench))


def _start(bench: Bench) -> Figures:
    with bench.fresh(bench.migrated) as url:
        return measure("app", "start", url, starts=bench.sizes.starts, many=bench.sizes.many)


def _pgbench(bench: Bench, program: Path) -> Figures:
    """One client, one INSERT of some 300 bytes a transaction, by the server's own tool."""
    with bench.fresh() as url, tempfile.NamedTemporaryFile("w", suffix=".sql") as script:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute(TABLE)
        script.write(SCRIPT)
        script.flush()
        arguments = ["--no-vacuum", "--client=1", f"--transactions={bench.sizes.starts}"]
        done = subprocess.run(
            [program, *arguments, f"--file={script.name}", url],
            check=False,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
        )
        found = re.search(r"^tps = ([\d.]+)", done.stdout, re.MULTILINE)
        rows = on_postgresql(bench).count(url, "SELECT count(*) FROM bench_insert")
    if found is None or rows != bench.sizes.starts:
        raise RunFailedError(f"pgbench committed {rows} rows\n{done.stdout}{done.stderr}")
    return {"one_by_one": float(found[1])}


def _writers(bench: Bench) -> Figures:
    """Each writer a process that calls `start_sequence`; somebody listens, as idle workers do."""
    quiet = _write_together(bench, notify=False)
    telling = _write_together(bench, notify=True)
    return {
        "starts_without_notify": quiet,
        "starts_with_notify": telling,
        "notify_cost_percent": 100 * (1 - telling / quiet),
    }


def _write_together(bench: Bench, *, notify: bool) -> float:
    sizes = bench.sizes
    with bench.fresh(bench.migrated) as url:
        with _ear(url):
            found = measure_together(
                sizes.writers,
                "app",
                "start_beside_others",
                url,
                {"NOTIFY": "auto" if notify else False},
                seconds=sizes.writer_seconds,
            )
        started = sum(one["starts"] for one in found) + sizes.writers
        rows = on_postgresql(bench).count(url, "SELECT count(*) FROM django_tasks_seq_job")
    if rows != started:
        raise RunFailedError(f"{started} jobs were started, and {rows} are there")
    return float(sum(one["starts_per_second"] for one in found))


@contextmanager
def _ear(url: str) -> Iterator[None]:
    """A connection that listens and reads what it is told, and does nothing about it."""
    done = threading.Event()
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"LISTEN {CHANNEL}".encode())

        def hear() -> None:
            while not done.is_set():
                if select.select([db.pgconn.socket], [], [], 0.1)[0]:
                    db.pgconn.consume_input()
                    while db.pgconn.notifies():
                        pass

        thread = threading.Thread(target=hear)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
