"""Jobs in this process's memory: for tests, and for work that may be lost with the process."""

from __future__ import annotations

import copy
import heapq
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from .. import clock
from ..choices import JobStatus
from ..conf import get_config
from . import rendering
from .base import Decide
from .changes import Change, Claim, Outlook, Snapshot, WorkerInfo
from .documents import DocumentJobStore
from .rendering import Document

_LONGEST_RESEND = 3600.0
Condition = Callable[[Document, float], bool]
Order = Callable[[Document], Any]


@dataclass(slots=True)
class _Worker:
    name: str
    seen: float


class _Space:
    """What is kept under one name: documents, those of jobs that are not settled, and workers."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.documents: dict[str, Document] = {}
        self.unsettled: dict[str, Document] = {}
        self.workers: dict[int | None, _Worker] = {}
        self.worker_ids = itertools.count(1)


_spaces: dict[str, _Space] = {}


class InMemoryTaskCacheHandler(DocumentJobStore):
    """Keeps jobs in a dict that all threads of the process share; they end with the process.

    Handlers of one *name* share their jobs. What is set and got are copies. Workers of the same
    process can claim from it; nothing joins a transaction.

    >>> handler = InMemoryTaskCacheHandler("example")
    >>> handler.set("greeting", {"text": "hello"})
    >>> handler.get("greeting")
    {'text': 'hello'}
    >>> handler.clear()
    """

    supports_claims = True

    def __init__(self, name: str = "default") -> None:
        self.name = name
        self._space = _spaces.setdefault(name, _Space())
        super().__init__(self)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}: {len(self._space.documents)} documents>"

    def get(self, key: str) -> Document | None:
        """Return a copy of the document under *key*, or None."""
        with self._space.lock:
            return copy.deepcopy(self._space.documents.get(key))

    def set(self, key: str, value: Document) -> None:
        """Keep a copy of *value* under *key*."""
        kept = copy.deepcopy(value)
        with self._space.lock:
            self._space.documents[key] = kept
            if rendering.is_unsettled_job(key, kept):
                self._space.unsettled[key] = kept
            else:
                self._space.unsettled.pop(key, None)

    def delete(self, key: str) -> None:
        """Forget *key*; one that is not there is no error."""
        with self._space.lock:
            self._space.documents.pop(key, None)
            self._space.unsettled.pop(key, None)

    def clear(self) -> None:
        """Forget everything that is kept under this name."""
        with self._space.lock:
            self._space.documents.clear()
            self._space.unsettled.clear()
            self._space.workers.clear()

    @contextmanager
    def together(self) -> Iterator[None]:
        """What is added inside is added as a whole or not at all; nobody claims it before."""
        with self._space.lock, super().together():
            yield

    # --- what a store with claims does ---------------------------------------------------------

    def claim(
        self,
        queues: Sequence[str],
        limit: int,
        lease: float,
        worker: Any,
        most_bytes: int | None = None,
    ) -> list[Claim]:
        """Claim due jobs, queue after queue; all queues as one when none is named."""
        claims: list[Claim] = []
        with self._space.lock:
            for wanted in [[queue] for queue in queues] or [[]]:
                left = limit - len(claims)
                for document in self._select(_is_ready, _urgency, left, wanted):
                    if most_bytes is not None and claims and most_bytes <= 0:
                        break
                    claims.append(self._take_for(worker, document, lease))
                    if most_bytes is not None:
                        most_bytes -= len((claims[-1].job_payload or "").encode())
        return claims

    def claim_handlers(
        self, queues: Sequence[str], limit: int, lease: float, worker: Any
    ) -> list[Claim]:
        """Claim final jobs with a handler due."""
        with self._space.lock:
            due = self._select(_is_handler_due, _due_time, limit, queues)
            return [self._take_for(worker, document, lease) for document in due]

    def look(self, queues: Sequence[str]) -> Outlook:
        """What is there to do, for a worker of *queues* (empty: all)."""
        with self._space.lock:
            return Outlook(
                ready=any(self._matching(_is_ready, queues)),
                waiting=any(self._matching(_is_waiting_no_more)),
                expired=any(self._matching(_is_lost)),
                handlers=any(self._matching(_is_handler_due, queues)),
                resend=any(self._matching(self._is_unanswered)),
            )

    def promote(self, limit: int = 500) -> list[UUID]:
        """Make WAITING jobs that are due READY; return those that are carried."""
        now, carried = clock.unix_seconds(), []
        with self._space.lock:
            for document in self._select(_is_waiting_no_more, _due_time, limit):
                document.update(status=JobStatus.READY.value, resends=0)
                if document["carried"]:
                    document["resend_at"] = rendering.iso(now + get_config().resend_seconds)
                    carried.append(UUID(document["id"]))
                self._journal.write(document)
        return carried

    def rescue(self, decide: Decide, limit: int = 100) -> list[Change]:
        """Take running jobs whose lease has ended; *decide* says what becomes of each."""
        with self._space.lock:
            lost = self._select(_is_lost, _lease_end, limit)
            return [self._amend(document, decide) for document in lost]

    def sweep(self, resend: float, limit: int = 100) -> list[UUID]:
        """Return carried jobs whose `handle_start` is to be called again; note the next time."""
        now, swept = clock.unix_seconds(), []
        with self._space.lock:
            for document in self._select(self._is_unanswered, _resend_time, limit):
                document["resends"] += 1
                wait = min(resend * 2 ** min(document["resends"], 10), _LONGEST_RESEND)
                document["resend_at"] = rendering.iso(now + wait)
                self._journal.write(document)
                swept.append(UUID(document["id"]))
        return swept

    def enter(self, worker: WorkerInfo) -> int | None:
        """Note that a worker began; return the id that its claims carry."""
        worker_id = next(self._space.worker_ids)
        self._space.workers[worker_id] = _Worker(worker.name, clock.unix_seconds())
        return worker_id

    def beat(self, worker_id: int | None, *, draining: bool) -> None:
        """Note that this worker lives."""
        worker = self._space.workers.get(worker_id)
        if worker is not None:
            worker.seen = clock.unix_seconds()

    def leave(self, worker_id: int | None) -> None:
        """Note that this worker ended in order."""
        self._space.workers.pop(worker_id, None)

    def next_due(self, queues: Sequence[str] = ()) -> float | None:
        """Seconds until something may be due: a waiting job, a handler, a lease's end; or None."""
        now = clock.unix_seconds()
        with self._space.lock:
            times = [
                max(document["run_after"], document["lease_until"] or "")
                for document in self._space.unsettled.values()
                if (not queues or document["queue"] in queues)
                and (
                    document["status"] in (JobStatus.WAITING, JobStatus.RUNNING)
                    or document["handler_due"]
                )
            ]
        return rendering.seconds_until(min(times, default=None), now)

    # --- how -----------------------------------------------------------------------------------

    def _lock(self, of: object) -> AbstractContextManager[Any]:
        return self._space.lock

    def _select(
        self, condition: Condition, order: Order, limit: int, queues: Sequence[str] = ()
    ) -> list[Document]:
        """Copies of the first *limit* unsettled jobs, in this order, that meet the condition."""
        found = self._matching(condition, queues)
        return copy.deepcopy(heapq.nsmallest(limit, found, key=order))

    def _matching(self, condition: Condition, queues: Sequence[str] = ()) -> Iterator[Document]:
        now = clock.unix_seconds()
        for document in self._space.unsettled.values():
            if condition(document, now) and (not queues or document["queue"] in queues):
                yield document

    def _take_for(self, worker_id: int | None, document: Document, lease: float) -> Claim:
        worker = self._space.workers.get(worker_id)
        document.update(worker_id=worker_id, worker_name=worker.name if worker else "")
        return self._take(document, lease, clock.unix_seconds())

    def _snapshot(self, document: Document, now: float) -> Snapshot:
        snapshot = super()._snapshot(document, now)
        worker = self._space.workers.get(document["worker_id"])
        snapshot.worker_seen = None if worker is None else now - worker.seen
        return snapshot

    def _is_unanswered(self, document: Document, now: float) -> bool:
        resend_at = document["resend_at"]
        if not document["carried"] or resend_at is None or not rendering.has_come(resend_at, now):
            return False
        return not self._refusal(document, rendering.handler_task_id(document), now)


def _is_ready(document: Document, now: float) -> bool:
    return document["status"] == JobStatus.READY and not document["carried"]


def _is_waiting_no_more(document: Document, now: float) -> bool:
    is_waiting = document["status"] == JobStatus.WAITING
    return is_waiting and rendering.has_come(document["run_after"], now)


def _is_handler_due(document: Document, now: float) -> bool:
    if not document["handler_due"] or document["carried"]:
        return False
    times = (document["run_after"], document["lease_until"])
    return all(rendering.has_come(time, now) for time in times)


def _is_lost(document: Document, now: float) -> bool:
    is_running = document["status"] == JobStatus.RUNNING
    return is_running and rendering.has_come(document["lease_until"], now)


def _urgency(document: Document) -> tuple[int, str, str]:
    return -document["priority"], document["run_after"], document["id"]


def _due_time(document: Document) -> str:
    return str(document["run_after"])


def _lease_end(document: Document) -> str:
    return document["lease_until"] or ""


def _resend_time(document: Document) -> str:
    return str(document["resend_at"])
