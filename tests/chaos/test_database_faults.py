"""R4: sessions are ended, links half-open, answers lost, the server crashes, is away, is read-only."""

import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import psycopg
import pytest
from django.db import InterfaceError, InternalError, OperationalError, connection, connections

from django_tasks_seq import Retry, TaskSpec, executor, registry
from django_tasks_seq.models import Job, TaskStatus
from tests.chaos.proxy import Proxy
from tests.chaos.report import Run, recorded
from tests.chaos.sizes import sizes
from tests.engines import EngineThread, declare
from tests.helpers import DEADLINE, InThread, WorkerProcess, wait_until
from tests.process.ledger import Ledger
from tests.servers.postgres import DATABASE, USER, PostgresServer
from tests.testapp.hard_sequences import link
from tests.testapp.models import Effect

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True, databases="__all__"),
]

GONE = (OperationalError, InterfaceError, InternalError)
LEASE, POLL = 2.0, 0.1
# Seconds, from the end of a fault until each worker claims again.
RESUMED = 5.0
SLACK = 3.0  # two cores for everything
UNFINISHED = 60


@contextmanager
def reached_by(**where: Any) -> Iterator[None]:
    """Threads that begin inside reach the database `default` there; this thread stays where it is."""
    known = connections.settings["default"]
    connections.settings["default"] = {**known, **where}
    try:
        yield
    finally:
        connections.settings["default"] = known


class Starter:
    """A thread that starts jobs, each under a key, again and again until it knows that one is there."""

    def __init__(self, sequence: str, unfinished: Callable[[], int], **payload: Any) -> None:
        self.sequence = sequence
        self.unfinished = unfinished
        self.payload = payload
        self.count = self.failures = 0
        self.error: Exception | None = None
        self._stop = threading.Event()
        self._thread = InThread(self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            if self.unfinished() > UNFINISHED:
                self._stop.wait(0.02)
                continue
            key = f"key {self.count}"
            while True:
                try:
                    executor.start_sequence(
                        self.sequence, {"n": self.count, **self.payload}, idempotency_key=key
                    )
                except GONE as error:
                    self.failures, self.error = self.failures + 1, error
                    connection.close()
                    self._stop.wait(0.05)
                else:
                    break
            self.count += 1

    def begin(self) -> None:
        """Wait for the first job."""
        try:
            wait_until(lambda: self.count or not self._thread.is_alive(), what="a start")
        except AssertionError as error:
            raise AssertionError(f"{self.failures} starts failed: {self.error!r}") from error
        if not self.count:
            self._thread.result(0)

    def stop(self) -> int:
        """How many were started."""
        self._stop.set()
        self._thread.result(DEADLINE)
        return self.count


def quietly(ask: Callable[[], int]) -> Callable[[], int]:
    """While the database is away, as many as can be."""

    def asked() -> int:
        try:
            return ask()
        except GONE:
            connection.close()
            return 0

    return asked


# --- sessions and links ----------------------------------------------------------------------------


def end_sessions() -> int:
    """As an administrator, or a failover, ends them; how many there were."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            " AND backend_type = 'client backend'"
        )
        return int(cursor.fetchone()[0])


class Storm:
    """Two engines behind one proxy, their tasks behind another, a starter behind a third."""

    def __init__(self, run: Run, seed: int) -> None:
        self.run = run
        self.random = random.Random(seed)
        self.faults: Counter[str] = Counter()
        self.calls: Counter[tuple[Any, str]] = Counter()
        self.recoveries: list[float] = []
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._begin()
        except BaseException:
            self._stack.close()
            raise
        return self

    def _begin(self) -> None:
        server = connection.settings_dict
        target = (server["HOST"], int(server["PORT"]))
        enter = self._stack.enter_context
        self.engines_link, self.tasks_link, self.starts_link = (
            enter(Proxy(*target)) for _ in range(3)
        )
        enter(registry.isolated())
        again = Retry(max_attempts=100, delay=0.05)
        declare(
            "stormy",
            ("first", self.counted),
            TaskSpec("second", self.with_an_effect, atomic=True, retry=again),
            ("third", self.counted),
        )
        with reached_by(HOST="127.0.0.1", PORT=self.engines_link.port):
            # Their own connections are made here, those of their tasks below.
            self.engines = [
                EngineThread(name=f"storm:{n}", lease=LEASE, poll=POLL, concurrency=2)
                for n in (1, 2)
            ]
            for one in self.engines:
                self._stack.callback(one.thread.join, DEADLINE)
                self._stack.callback(one.ask_to_stop)
                wait_until(lambda: one.engine.claiming.worker_id, what="a worker")  # noqa: B023
        with reached_by(HOST="127.0.0.1", PORT=self.starts_link.port):
            unfinished = Job.objects.exclude(status="SUCCESSFUL").count
            self.starter = Starter("stormy", quietly(unfinished))
            self._stack.callback(self.starter.stop)
            self.starter.begin()
        enter(reached_by(HOST="127.0.0.1", PORT=self.tasks_link.port))

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def counted(self, payload: Any, context: Any) -> Any:
        self.calls[context.job_id, context.task_id] += 1
        time.sleep(0.005)
        return {**payload, "chain": link(payload.get("chain", ""), context.task_id)}

    def with_an_effect(self, payload: Any, context: Any) -> Any:
        result = self.counted(payload, context)
        Effect.objects.create(job_id=context.job_id, task_id=context.task_id)
        return result

    def resumed(self) -> None:
        """Wait until each engine has claimed again, and note how long that took."""
        begun = time.monotonic()
        before = [one.engine.claiming.claimed for one in self.engines]
        wait_until(
            lambda: all(
                one.engine.claiming.claimed > count
                for one, count in zip(self.engines, before, strict=True)
            ),
            what=f"claims after {self.faults}",
        )
        self.recoveries.append(time.monotonic() - begun)

    def terminate(self) -> None:
        self.faults["sessions ended"] += wait_until(end_sessions, what="a session to end")
        self.faults["terminations"] += 1

    def half_open(self) -> None:
        self.faults["half-open"] += min(1, self.engines_link.swallow())

    def lose(self) -> None:
        """The answer to a commit of an engine, of an atomic task, or of a start."""
        proxy, pattern = self.random.choice(
            [
                (self.engines_link, rb"lease_until =|INSERT INTO|COMMIT"),
                (self.tasks_link, rb"COMMIT"),
                (self.starts_link, rb"INSERT INTO"),
            ]
        )
        proxy.lose_answers(1, pattern)
        wait_until(lambda: not proxy.answers_to_lose, what=f"{pattern!r}")
        self.faults["lost answers"] += 1

    def reset(self) -> None:
        proxy = self.random.choice([self.engines_link, self.tasks_link, self.starts_link])
        self.faults["resets"] += bool(proxy.reset())

    def rage(self, **counts: int) -> None:
        """So many of each, in an order by chance."""
        order = [name for name, count in counts.items() for _ in range(count)]
        self.random.shuffle(order)
        for name in order:
            getattr(self, name)()
            self.resumed()

    def settle(self) -> None:
        """No more faults, no more starts: all jobs end."""
        self.run.jobs = self.starter.stop()
        wait_until(
            lambda: not Job.objects.exclude(status="SUCCESSFUL").exists(), 60, "the end of all jobs"
        )
        for one in self.engines:
            assert one.stop() == 0, "no worker has ended before it was told to"

    def judge(self) -> None:
        """Compare what is there with what was started."""
        jobs = list(Job.objects.all())
        keys = Counter(job.idempotency_key for job in jobs)
        effects = Counter(Effect.objects.values_list("job_id", flat=True))
        chain = link(link(link("", "first"), "second"), "third")
        self.run.lost = self.run.jobs - len(keys)
        self.run.doubled = sum(keys.values()) - len(keys) + sum(c - 1 for c in effects.values())
        self.run.out_of_order = sum(job.result["chain"] != chain for job in jobs)
        self.run.recovery_p99 = max(self.recoveries)
        again = sum(count - 1 for count in self.calls.values())
        self.run.figures.update(calls_again=again, failed_starts=self.starter.failures)
        assert set(effects) == {job.id for job in jobs}
        assert TaskStatus.objects.filter(status="SUCCESSFUL").count() == 3 * len(jobs)
        assert (self.run.lost, self.run.doubled, self.run.out_of_order) == (0, 0, 0)
        # A task is called again only where its claim, its outcome or its own session was lost.
        assert again <= sum(self.faults.values()) * 8


def test_sessions_and_links_fail_and_nothing_is_lost_or_doubled(seed: int) -> None:
    """Ended sessions, half-open links, resets, lost answers: every job ends once, claims go on in 5 s."""
    wanted = sizes().pick(
        cut={"terminate": 6, "half_open": 1, "lose": 6, "reset": 2},
        full={"terminate": 100, "half_open": 10, "lose": 50, "reset": 10},
    )
    with recorded("R4", seed=seed) as run:
        with Storm(run, seed) as storm:
            storm.rage(**wanted)
            storm.settle()
        storm.judge()
        run.faults = {name: storm.faults[name] for name in storm.faults if name != "sessions ended"}
        assert storm.faults["terminations"] == wanted["terminate"]
        assert storm.faults["half-open"] == wanted["half_open"]
        assert storm.faults["lost answers"] == wanted["lose"]
        assert run.recovery_p99 < RESUMED + sizes().pick(cut=SLACK, full=0.0)


# --- the server itself -----------------------------------------------------------------------------


class Site:
    """Worker processes and a starter on a migrated server of its own."""

    def __init__(self, server: PostgresServer, folder: Path) -> None:
        self.server = server
        jobs = str(folder / "jobs.sqlite3")
        self.env = {
            "DATABASE_URL": server.url,
            "JOBS_DATABASE_URL": f"sqlite:///{jobs}",
            "TASKS_SEQ_TEST_NAME_DEFAULT": DATABASE,
            "TASKS_SEQ_TEST_NAME_JOBS": jobs,
        }

    def query(self, sql: str) -> list[Any]:
        with psycopg.connect(self.server.dsn, autocommit=True) as session:
            found = session.execute(sql)
            return list(found.fetchall()) if found.description else []

    def make_read_only(self, word: str) -> None:
        """For all sessions, those that are open too, as a failover to a replica does."""
        self.query(f"ALTER SYSTEM SET default_transaction_read_only = {word}")
        self.query("SELECT pg_reload_conf()")

    def is_read_only(self) -> bool:
        return self.query("SHOW default_transaction_read_only") == [("on",)]


@pytest.fixture
def site(worker_process: Any, tmp_path: Path) -> Iterator[Site]:
    """The server, with our tables."""
    with PostgresServer() as server:
        found = Site(server, tmp_path)
        migrate = worker_process("-v", "0", command="migrate", env=found.env)
        assert migrate.wait() == 0, migrate.output()
        yield found


class Outages:
    """What becomes of the server of a site, and how long its workers need afterwards."""

    def __init__(self, site: Site, ledger: Ledger, workers: list[WorkerProcess]) -> None:
        self.site = site
        self.ledger = ledger
        self.workers = workers
        self.faults: Counter[str] = Counter()
        self.recoveries: list[float] = []

    def claims(self) -> int:
        return sum(line.task_id == "first" for line in self.ledger.lines("call"))

    def resumed(self) -> None:
        """Wait for a job that is claimed now, and note how long that took."""
        begun, before = time.monotonic(), self.claims()
        wait_until(lambda: self.claims() > before, what=f"a claim after {self.faults}")
        self.recoveries.append(time.monotonic() - begun)
        for worker in self.workers:
            assert worker.running, worker.output()

    def crash(self, seconds: float = 0.0) -> None:
        """The server is killed, and starts again after *seconds*."""
        self.site.server.kill()
        time.sleep(seconds)
        self.site.server.start()
        self.faults["outages" if seconds else "immediate restarts"] += 1
        self.resumed()

    def refuse_writes(self, seconds: float) -> None:
        self.site.make_read_only("on")
        wait_until(self.site.is_read_only, what="a read-only server")
        time.sleep(seconds)
        said = sum("read-only transaction" in worker.output() for worker in self.workers)
        assert said == len(self.workers), "each has met it"
        self.site.make_read_only("off")
        wait_until(lambda: not self.site.is_read_only(), what="a server for writing")
        self.faults["read-only flips"] += 1
        self.resumed()


def test_the_server_crashes_is_away_and_read_only_and_nothing_is_lost(
    site: Site, ledger: Ledger, worker_process: Any, seed: int
) -> None:
    """Workers stay, go on within 5 s after it is back, and every job that was started ends once."""
    settings = {"LEASE_SECONDS": LEASE, "POLL_INTERVAL": POLL, "MAX_ATTEMPTS": 50}
    env = {**site.env, **ledger.environment(**settings)}
    workers = [worker_process("--concurrency=2", env=env) for _ in range(2)]
    server = site.server
    where = {"HOST": "127.0.0.1", "PORT": server.port, "NAME": DATABASE, "USER": USER}
    with recorded("R4 server", seed=seed) as run:
        for worker in workers:
            worker.wait_for_output("Ctrl+C")
        with reached_by(**where):
            unfinished = Job.objects.exclude(status="SUCCESSFUL").count
            starter = Starter("chain", quietly(unfinished), seconds=0.01)
            starter.begin()
        outages = Outages(site, ledger, workers)
        try:
            outages.resumed()
            outages.recoveries.clear()
            outages.refuse_writes(sizes().pick(cut=1.5, full=10.0))
            for _ in range(sizes().pick(cut=1, full=5)):
                outages.crash()
            outages.crash(sizes().pick(cut=2.0, full=30.0))
        finally:
            run.jobs = starter.stop()
        left = "SELECT count(*) FROM django_tasks_seq_job WHERE status <> 'SUCCESSFUL'"
        wait_until(lambda: site.query(left) == [(0,)], 60, "the end of all jobs")
        _judge(site, run, outages)


def _judge(site: Site, run: Run, outages: Outages) -> None:
    jobs = site.query("SELECT id, idempotency_key, result FROM django_tasks_seq_job")
    keys = Counter(key for _, key, _ in jobs)
    effects = Counter(site.query("SELECT job_id, task_id FROM testapp_effect"))
    chain = ""
    for task_id in ("first", "second", "third", "fourth", "fifth"):
        chain = link(chain, task_id)
    run.lost = run.jobs - len(keys)
    run.doubled = sum(keys.values()) - len(keys) + sum(c - 1 for c in effects.values())
    run.out_of_order = sum(json.loads(result)["chain"] != chain for *_, result in jobs)
    run.recovery_p99 = max(outages.recoveries)
    run.faults = dict(outages.faults)
    assert len(effects) == 2 * len(jobs)
    assert (run.lost, run.doubled, run.out_of_order) == (0, 0, 0)
    assert set(outages.faults) == {"read-only flips", "immediate restarts", "outages"}
    assert run.recovery_p99 < RESUMED + sizes().pick(cut=SLACK, full=0.0)
