"""Fixtures of the chaos tests, and the table at the end of a session that ran some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chaos import report
from tests.chaos.evidence import Audit
from tests.chaos.sizes import new_seed
from tests.chaos.zygote import Zygote
from tests.process.ledger import Ledger


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if report.RECORDED:
        terminalreporter.section("chaos")
        terminalreporter.write_line(report.table(report.RECORDED))


@pytest.fixture
def seed() -> int:
    """The seed of this test; printed, and `CHAOS_SEED` replays it."""
    chosen = new_seed()
    print(f"CHAOS_SEED={chosen}")
    return chosen


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A file that worker processes write each call to."""
    return Ledger(tmp_path / "ledger")


@pytest.fixture
def audit(transactional_db: None) -> Iterator[Audit]:
    """Triggers that note each change of a status or a claim token, in the order of commits for a job."""
    triggers = Audit()
    triggers.install()
    yield triggers
    triggers.remove()


@pytest.fixture
def zygotes(audit: Audit, ledger: Ledger, tmp_path: Path) -> Iterator[Callable[..., Zygote]]:
    """Start a process that forks workers on this test's databases, writing to its ledger.

    `zygotes(LEASE_SECONDS=2)` gives its workers that `TASKS_SEQ`; `env` is more of their environment.
    All end with the test, and before the audit: who stands still in a transaction would hold it up.
    """
    started: list[Zygote] = []

    def start(*, env: dict[str, str] | None = None, **settings: Any) -> Zygote:
        chosen = {"POLL_INTERVAL": 0.1, **settings}
        folder = tmp_path / f"zygote-{len(started)}"
        zygote = Zygote(folder, env={**ledger.environment(**chosen), **(env or {})})
        started.append(zygote)
        return zygote

    yield start
    for zygote in started:
        zygote.close()
        print(zygote.outputs())
