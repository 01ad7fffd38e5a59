"""Fixtures of the whole suite.

A test marked `postgresql` or `sqlite` is collected on that database only, so that a run has no
skips: what is skipped is a failure of the environment, not a choice.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.db import connection
from django.db.backends.base.base import BaseDatabaseWrapper
from hypothesis import settings as hypothesis_settings

from django_tasks_seq.testing import reset_clock
from tests.helpers import WorkerProcess, own_connection

# A slow machine is no failure: no test is judged by its time.
hypothesis_settings.register_profile("tasks_seq", deadline=None)
hypothesis_settings.load_profile("tasks_seq")


# Marks, and what Django calls these databases.
VENDORS = {"postgresql": "postgresql", "sqlite": "sqlite", "mariadb": "mysql"}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept = [item for item in items if _runs_here(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def _runs_here(item: pytest.Item) -> bool:
    named = {mark.name for mark in item.iter_markers()} & set(VENDORS)
    return not named or connection.vendor in {VENDORS[name] for name in named}


@pytest.fixture(scope="session")
def django_db_modify_db_settings() -> Iterator[None]:
    """Remove the test databases' files; their names differ already in every process."""
    yield
    for config in settings.DATABASES.values():
        if "sqlite" in config["ENGINE"]:
            _remove_sqlite(config["TEST"]["NAME"])


def _remove_sqlite(name: str) -> None:
    for end in ("", "-wal", "-shm"):
        with suppress(FileNotFoundError):
            Path(name + end).unlink()


@pytest.fixture(autouse=True)
def _clock_of_the_database() -> Iterator[None]:
    """Whatever a test advanced is set back."""
    yield
    reset_clock()


@pytest.fixture
def other_connection(transactional_db: None) -> Iterator[BaseDatabaseWrapper]:
    """A second connection to the test database, for a test that plays two parties."""
    with own_connection() as other:
        yield other


@pytest.fixture
def worker_process(
    transactional_db: None, tmp_path: Path
) -> Iterator[Callable[..., WorkerProcess]]:
    """Start `manage.py run_task_worker …` (or another command) on the test database.

    `worker_process("--burst", env={…})` returns a `WorkerProcess`; all are killed at the end.
    """
    started: list[WorkerProcess] = []

    def start(*args: str, command: str = "run_task_worker", **options: Any) -> WorkerProcess:
        log = tmp_path / f"worker-{len(started)}.log"
        worker = WorkerProcess([command, *args], log=log, **options)
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
        print(f"--- {worker}\n{worker.output()}")
