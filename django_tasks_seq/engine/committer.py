"""Outcomes into the database: all that are at hand in one commit, then on to the next tasks."""

from __future__ import annotations

import logging
from uuid import UUID

from ..attempt import MANAGER, Attempt
from ..cache.base import BaseJobStore
from ..cache.changes import Change, Failure, Write
from ..choices import AttemptOutcome, HandlerDue
from ..handler_call import HandlerCall
from ..handlers import handler_due_for
from ..outcomes import Committed, Decided, Raised, Returned
from .hands import Hand, Hands
from .teller import Teller

logger = logging.getLogger("django_tasks_seq.worker")


class Committer:
    """Keeps what is to be written until it is: a lost connection, or a held row, loses nothing.

    After a `commit`, `onward` are the hands that go on under their claims, `delays` the seconds until
    the retries among what was written, and `is_due` says that a handler made a job due again.
    """

    def __init__(self, store: BaseJobStore, hands: Hands, teller: Teller, name: str) -> None:
        self.store = store
        self.hands = hands
        self.teller = teller
        self.name = name
        self.onward: list[Hand] = []
        self.delays: list[float] = []
        self.is_due = False
        self._pending: dict[UUID, tuple[Hand, Write, Attempt | None]] = {}

    def __len__(self) -> int:
        return len(self._pending)

    def put(self, hand: Hand, write: Write, call: Attempt | None = None) -> None:
        """Note a write about a job in hand."""
        self._pending[hand.claim.job_id] = (hand, write, call)

    def has(self, hand: Hand) -> bool:
        """Whether a write about this hand is still to be made."""
        noted = self._pending.get(hand.claim.job_id)
        return noted is not None and noted[0] is hand

    def take(self, calls: list[Attempt]) -> None:
        """Note the outcomes of attempts that have ended."""
        for call in calls:
            hand = self.hands.get(call.claim.job_id)
            if hand is None or hand.call is not call:
                # Its claim was lost, or given up meanwhile: what it did is refused.
                continue
            write = call.write()
            if write is not None:
                self.put(hand, write, call)
            else:
                self._has_written_itself(hand, call)

    def _has_written_itself(self, hand: Hand, call: Attempt) -> None:
        outcome = call.outcome
        if isinstance(outcome, Committed):
            self._go_on(hand, call, outcome.requested)
            return
        if isinstance(outcome, Decided):
            self.is_due = True
            self.teller.ended(call)
        self.hands.drop(hand)

    def commit(self) -> None:
        """Write all that is noted; what could not be written for now stays noted."""
        if not self._pending:
            return
        applied = self.store.apply([write for _, write, _ in self._pending.values()], self.name)
        for job_id, requested in applied.done.items():
            self._written(*self._pending.pop(job_id), requested)
        for job_id in applied.lost:
            hand, _, _ = self._pending.pop(job_id)
            logger.warning("outcome refused: the claim was lost", extra={"job_id": str(job_id)})
            self.hands.drop(hand)
        for job_id in applied.stale:
            self._stale(*self._pending.pop(job_id))
        for job_id, error in applied.broken.items():
            self._broken(*self._pending.pop(job_id), error)

    def _stale(self, hand: Hand, write: Write, call: Attempt | None) -> None:
        """The task has ended by a commit whose answer was lost: whoever claims next sees how."""
        hand.claim.begun, hand.call = False, None
        self.put(hand, MANAGER.release(hand.claim))

    def _written(self, hand: Hand, write: Write, call: Attempt | None, requested: str) -> None:
        if not (isinstance(write, Change) and write.ends_claim):
            if call is not None:
                self._go_on(hand, call, requested)
            return
        written, is_told = write.heeding(requested), False
        if call is not None and isinstance(call.outcome, Raised | Returned):
            self.teller.ended(call)
            self._note_retry(call)
            is_told = written is write
        if written.settles and not is_told:
            self.teller.settled(written, hand.claim.sequence)
        self.hands.drop(hand)

    def _note_retry(self, call: Attempt) -> None:
        if isinstance(call.outcome, Raised) and call.outcome.failure.delay is not None:
            self.delays.append(call.outcome.failure.delay)

    def _go_on(self, hand: Hand, call: Attempt, requested: str) -> None:
        """The claim still holds: on to the next task, or to the handler of a job that has ended."""
        self.teller.ended(call)
        claim, outcome = hand.claim, call.outcome
        hand.call = None
        succeeded = isinstance(outcome, Returned | Committed)
        if isinstance(outcome, Returned | Committed) and not claim.is_last:
            claim.advance(outcome.text)
            claim.requested = requested
            self.hands.resize(hand)
            hand.value = outcome.value
            self.onward.append(hand)
            return
        kind = HandlerDue.SUCCESS if succeeded else HandlerDue.ERROR
        if isinstance(call, HandlerCall) or not self._has_handler(call, kind):
            self.hands.drop(hand)
            return
        claim.handler, claim.handler_attempts = kind.value, 1
        if isinstance(outcome, Returned | Committed):
            claim.payload = outcome.text
        self.onward.append(hand)

    @staticmethod
    def _has_handler(call: Attempt, kind: HandlerDue) -> bool:
        return bool(
            handler_due_for(call.sequence, "success" if kind == HandlerDue.SUCCESS else "error")
        )

    def _broken(self, hand: Hand, write: Write, call: Attempt | None, error: Exception) -> None:
        """The database refused this outcome by itself: the task failed, for good."""
        is_final = call is None or (
            isinstance(call.outcome, Raised) and call.outcome.failure.delay is None
        )
        if call is None or is_final:
            logger.error("a write was refused: %s", error, extra={"job_id": str(hand.claim.job_id)})
            self.hands.drop(hand)
            return
        call.outcome = Raised(Failure(call.described(error), AttemptOutcome.FAILED, None), error)
        failed = call.write()
        if failed is not None:
            self.put(hand, failed, call)
