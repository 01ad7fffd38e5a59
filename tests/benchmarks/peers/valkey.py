"""A Valkey server for one run, with nothing kept on disk."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.benchmarks.processes import RunFailedError
from tests.servers import tied

HOST: Final = "127.0.0.1"
START_DEADLINE: Final = 10.0
STOP_DEADLINE: Final = 10.0
PAUSE: Final = 0.01


@contextmanager
def serving(program: Path) -> Iterator[str]:
    """The URL of a server that runs until the block ends, or this process."""
    port = _free_port()
    options = ["--port", str(port), "--bind", HOST, "--save", "", "--appendonly", "no"]
    process = subprocess.Popen(
        [sys.executable, str(Path(tied.__file__)), str(program), *options],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait_until_it_answers(process, port)
        yield f"redis://{HOST}:{port}/0"
    finally:
        process.terminate()
        try:
            process.wait(STOP_DEADLINE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_it_answers(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_DEADLINE
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise RunFailedError(f"Valkey did not start: exit code {process.poll()}")
        time.sleep(PAUSE)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection((HOST, port), timeout=1) as connection:
        connection.sendall(b"PING\r\n")
        return connection.recv(16).startswith(b"+PONG")
    return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port
