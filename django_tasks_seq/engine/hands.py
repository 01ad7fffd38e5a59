"""Jobs in hand: what this process has claimed, and what is next for each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from ..attempt import MANAGER, Attempt
from ..cache.base import BaseJobStore
from ..cache.changes import Change, Claim
from ..choices import Requested
from ..exceptions import UnknownTask
from ..handler_call import HandlerCall, give_up
from ..handlers import handler_due_for
from ..registry import find_sequence
from ..sequences import TaskSequence
from ..task_call import UNREAD, TaskCall
from ..unknown import set_aside
from .options import EngineOptions

BYTES_IN_HAND = 12 * 1024 * 1024


@dataclass(slots=True, eq=False)
class Hand:
    """One claimed job, from the claim to its end here."""

    claim: Claim
    sequence: TaskSequence | None
    value: Any = UNREAD
    call: Attempt | None = None
    size: int = 0
    # Progress and cursor as they were last written.
    noted: tuple[str | None, str | None] = (None, None)
    # When the engine gives up on its present attempt, by the monotonic clock.
    give_up_at: float | None = None

    @classmethod
    def of(cls, claim: Claim) -> Hand:
        """A hand for a fresh claim."""
        return cls(claim, find_sequence(claim.sequence), size=claim.size)

    def is_last_chance(self, max_crashes: int) -> bool:
        """Whether one more loss fails its task: it then runs with nothing else in the process."""
        row = self.claim.row
        return self.claim.suspect and row is not None and row.crashes >= max_crashes - 1

    def next_call(self, store: BaseJobStore, options: EngineOptions) -> Attempt | Change:
        """The next attempt; or, where its task is not known here, the change that says so."""
        claim = self.claim
        if claim.requested in Requested.values and not claim.handler:
            return MANAGER.release(claim)  # heeding what is requested
        aside = set_aside(claim, self.sequence, options.unknown_grace) or give_up(claim)
        if aside is not None:
            return aside
        if claim.is_through and not claim.handler:
            handler = handler_due_for(self.sequence, "success")
            return MANAGER.end_job(claim, handler=handler)
        if claim.handler:
            return HandlerCall(store, claim, self.sequence, worker=options.name, keep=True)
        spec = self.sequence.spec(claim.task_id) if self.sequence else None
        if self.sequence is None or spec is None:
            raise UnknownTask(claim.task_id, claim.sequence)
        value, self.value = self.value, UNREAD
        return TaskCall(store, claim, self.sequence, spec, worker=options.name, value=value)


@dataclass(slots=True)
class Hands:
    """All jobs in hand, by id."""

    by_id: dict[UUID, Hand] = field(default_factory=dict)
    bytes: int = 0
    # Those whose RUNNING row must be committed before their attempt begins: no thread has them yet.
    unshown: list[Hand] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.by_id)

    @property
    def room(self) -> int:
        """How much more payload may be taken in hand; below zero when it is too much."""
        return BYTES_IN_HAND - self.bytes

    def __iter__(self) -> Iterator[Hand]:
        return iter(self.by_id.values())

    def get(self, job_id: UUID) -> Hand | None:
        """The hand of this job, if it is still in hand."""
        return self.by_id.get(job_id)

    def add(self, hand: Hand) -> None:
        """Take a job in hand; an earlier claim on it is lost."""
        earlier = self.by_id.get(hand.claim.job_id)
        if earlier is not None:
            self.drop(earlier)
            if earlier.call is not None:
                earlier.call.context.stop_reason = "claim_lost"
                earlier.call.abandoned = True
        self.by_id[hand.claim.job_id] = hand
        self.bytes += hand.size

    def drop(self, hand: Hand) -> None:
        """Let it go: its claim has ended."""
        if self.by_id.get(hand.claim.job_id) is hand:
            del self.by_id[hand.claim.job_id]
            self.bytes -= hand.size

    def resize(self, hand: Hand) -> None:
        """Count what it holds now: the payload of its next task."""
        self.bytes -= hand.size
        hand.size = hand.claim.size
        self.bytes += hand.size

    def holds(self, call: Attempt) -> bool:
        """Whether this attempt is the present one of a job in hand."""
        hand = self.by_id.get(call.claim.job_id)
        return hand is not None and hand.call is call


def waited(hand: Hand) -> float:
    """Seconds that its attempt has been waiting for a thread."""
    call = hand.call
    if call is None or call.started is not None or call.submitted is None:
        return 0.0
    return time.monotonic() - call.submitted
