"""The tick: each second leases are renewed, long tasks shown, and people's requests read."""

from __future__ import annotations

import logging
import time

from ..attempt import MANAGER, Attempt
from ..cache.base import BaseJobStore
from ..cache.changes import Change, Held
from ..handler_call import HandlerCall
from .hands import Hand, Hands
from .options import EngineOptions

logger = logging.getLogger("django_tasks_seq.worker")
SHOW_AFTER = 1.0


class Leases:
    """What has to be said and asked about jobs in hand while their tasks run."""

    def __init__(self, store: BaseJobStore, hands: Hands, options: EngineOptions) -> None:
        self.store = store
        self.hands = hands
        self.options = options

    def tick(self) -> list[Attempt]:
        """Renew, show, read requests; return attempts whose claim is lost."""
        held = [Held(hand.claim.job_id, hand.claim.token) for hand in self.hands]
        if not held:
            return []
        result = self.store.tick(held, self.options.lease)
        for job_id, requested in result.requested.items():
            hand = self.hands.get(job_id)
            if hand is not None:
                hand.claim.requested = requested
                if hand.call is not None:
                    hand.call.heed(requested)
        lost = [hand for job_id in result.lost if (hand := self.hands.get(job_id)) is not None]
        self._show([hand for hand in self.hands if hand.claim.job_id not in result.lost])
        return [call for hand in lost if (call := self._lose(hand)) is not None]

    def _lose(self, hand: Hand) -> Attempt | None:
        call = hand.call
        if call is not None and call.outcome is not None:
            return None  # it has ended, and its own write will find out
        logger.warning("claim lost", extra={"job_id": str(hand.claim.job_id)})
        if call is not None:
            call.context.stop_reason = "claim_lost"
        self.hands.drop(hand)
        return call

    def _show(self, hands: list[Hand]) -> None:
        """Write RUNNING rows of tasks that run for more than a second, and what they report."""
        now = time.monotonic()
        shown: list[tuple[Hand, tuple[str | None, str | None]]] = []
        writes: list[Change] = []
        for hand in hands:
            call = hand.call
            if call is None or call.outcome is not None or isinstance(call, HandlerCall):
                continue
            if call.started is None or now - call.started < SHOW_AFTER:
                continue
            report = call.report()
            noted = (report.progress, report.cursor)
            if not hand.claim.begun or noted != hand.noted:
                writes.append(MANAGER.start_task(hand.claim, report))
                shown.append((hand, noted))
        if not writes:
            return
        done = self.store.apply(writes, self.options.name).done
        for hand, noted in shown:
            if hand.claim.job_id in done:
                hand.claim.begun, hand.noted = True, noted
