"""Fixtures of the tests that start worker processes."""

from pathlib import Path

import pytest

from tests.process.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    """A file that worker processes write each call to."""
    return Ledger(tmp_path / "ledger")
