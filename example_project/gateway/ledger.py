"""The gateway's memory: a file of JSON lines that only grows, so that it proves what happened."""

import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import IO, Any, NamedTuple

Entry = dict[str, Any]
MONEY = ("charge", "refund")


class Settled(NamedTuple):
    """A charge or refund as it stands in the ledger; `replayed` when this key had it already."""

    entry: Entry
    replayed: bool


class KeyReused(Exception):
    """The idempotency key was used before, for something else."""


class Ledger:
    """Append-only; every line is on the disk before the gateway answers.

    Several gateways may share the file: each locks it and reads what the others wrote.

    Example: `Ledger(Path("ledger.jsonl")).settle("charge", key, {"order": "1041", ...})`.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._settled: dict[str, Entry] = {}
        self._read_up_to = 0
        path.parent.mkdir(parents=True, exist_ok=True)

    def settle(self, kind: str, key: str, details: Entry) -> Settled:
        """Write a charge or refund once for each key; raise `KeyReused` when details differ."""
        with self._opened() as file:
            known = self._settled.get(key)
            if known is None:
                return Settled(self._append(file, kind, key, details), replayed=False)
            if {**known, **details, "kind": kind} != known:
                raise KeyReused(key)
            return Settled(known, replayed=True)

    def note(self, kind: str, key: str, details: Entry) -> None:
        """Write what moved no money: `refused` with its status, or `lost`, an answer on its way."""
        with self._opened() as file:
            self._append(file, kind, key, details)

    def find(self, number: str) -> Entry | None:
        """The charge or refund of this number."""
        with self._opened():
            return next((e for e in self._settled.values() if e["id"] == number), None)

    @contextmanager
    def _opened(self) -> Iterator[IO[str]]:
        with self._lock, self.path.open("a+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(self._read_up_to)
            for line in file:
                self._remember(json.loads(line))
            self._read_up_to = file.tell()
            yield file

    def _append(self, file: IO[str], kind: str, key: str, details: Entry) -> Entry:
        number = f"{kind[:2]}_{sha256(f'{kind} {key}'.encode()).hexdigest()[:12]}"
        entry = {"kind": kind, "id": number, "key": key, **details}
        file.write(json.dumps(entry) + "\n")
        file.flush()
        os.fsync(file.fileno())
        self._read_up_to = file.tell()
        self._remember(entry)
        return entry

    def _remember(self, entry: Entry) -> None:
        if entry["kind"] in MONEY:
            self._settled[entry["key"]] = entry


def read_ledger(path: Path) -> list[Entry]:
    """The lines of a ledger, oldest first."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines()]
