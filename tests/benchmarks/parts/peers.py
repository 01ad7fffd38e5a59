"""P1's second half: other systems at the same work, each in the form its own documentation recommends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks import peers
from tests.benchmarks.bench import Bench, on_postgresql
from tests.benchmarks.measurements import Measurement

# Kept from run to run: it takes a while to install.
ENVIRONMENT: Final = Path("build/bench-peers")


def measurements(bench: Bench) -> Iterator[Measurement]:
    """Throughput, starts and latency of each."""
    yield from peers.measurements(on_postgresql(bench), bench.sizes, ENVIRONMENT.absolute())
