"""What can be measured, part by part; each gives its measurements, for one kind of database."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from tests.benchmarks.bench import Bench
from tests.benchmarks.measurements import Measurement
from tests.benchmarks.parts import (
    atomic,
    backlog,
    bare,
    curves,
    history,
    latency,
    memory,
    peers,
    processes,
    size,
    sqlite,
    starting,
    throughput,
    waiting,
)

Part = Callable[[Bench], Iterator[Measurement]]

ON_POSTGRESQL: Final[Mapping[str, Part]] = {
    "throughput": throughput.measurements,
    "bare": bare.measurements,
    "starting": starting.measurements,
    "latency": latency.measurements,
    "history": history.measurements,
    "backlog": backlog.measurements,
    "processes": processes.measurements,
    "memory": memory.measurements,
    "atomic": atomic.measurements,
    "waiting": waiting.measurements,
    "curves": curves.measurements,
    "size": size.measurements,
    "peers": peers.measurements,
}
ON_SQLITE: Final[Mapping[str, Part]] = {"sqlite": sqlite.measurements}
