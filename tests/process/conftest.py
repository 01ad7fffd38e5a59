"""Fixtures of the tests that start worker processes."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import WorkerProcess
from tests.process.ledger import Ledger

Start = Callable[..., WorkerProcess]


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A file that worker processes write each call to."""
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def start(worker_process: Callable[..., WorkerProcess], ledger: Ledger) -> Start:
    """Start a worker that writes to the ledger; keywords are its `TASKS_SEQ`, `env` its environment."""

    def start_worker(
        *args: str, env: dict[str, str] | None = None, **settings: Any
    ) -> WorkerProcess:
        chosen = {"POLL_INTERVAL": 0.1, **settings}
        return worker_process(*args, env={**ledger.environment(**chosen), **(env or {})})

    return start_worker
