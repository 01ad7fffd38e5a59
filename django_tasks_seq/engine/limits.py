"""Time limits: a task over its time is told to stop, and abandoned when it does not."""

from __future__ import annotations

import logging
import time
from copy import copy

from ..attempt import Attempt
from .committer import Committer
from .hands import Hand, Hands
from .options import EngineOptions
from .runners import Runner

logger = logging.getLogger("django_tasks_seq.worker")


class Limits:
    """Time limits of running attempts: told to stop, later abandoned."""

    def __init__(
        self, hands: Hands, runner: Runner, committer: Committer, options: EngineOptions
    ) -> None:
        self.hands = hands
        self.runner = runner
        self.committer = committer
        self.options = options
        # Attempts that were given up on, with the moment from which they count as abandoned.
        self._left_behind: list[tuple[float, Attempt]] = []

    @property
    def abandoned(self) -> int:
        """Number of attempts that were given up on and have not stopped although they had time to."""
        self._left_behind = [one for one in self._left_behind if not one[1].ended]
        now = time.monotonic()
        return sum(since <= now for since, _ in self._left_behind)

    def leave_behind(self, call: Attempt) -> None:
        """Its claim is lost: it is told to stop, its place is given to others, its outcome is refused.

        A process that stood still wakes with all its claims lost, and most of their tasks end at once.
        """
        self._leave(call, self.options.stop_grace)

    def _leave(self, call: Attempt, grace: float) -> None:
        call.abandoned = True
        self.runner.cancel(call)
        self.runner.abandon(call)
        if call.started is not None:
            self._left_behind.append((time.monotonic() + grace, call))

    def watch(self) -> None:
        """Tell attempts that are over their time to stop; give up on those that do not."""
        now = time.monotonic()
        for call in self.runner.running():
            hand = self.hands.get(call.claim.job_id)
            if hand is None or hand.call is not call:
                continue
            if call.deadline is not None and now >= call.deadline and hand.give_up_at is None:
                call.context.stop_reason = call.context.stop_reason or "timeout"
                # An async attempt cancels itself; a second time it would be cut off while it tidies up.
                hand.give_up_at = call.deadline + self.options.stop_grace
            if hand.give_up_at is not None and now >= hand.give_up_at:
                self._abandon(hand, call)

    def _abandon(self, hand: Hand, call: Attempt) -> None:
        """Record it as timed out; its thread is left behind, and whatever it does is refused."""
        hand.give_up_at = None
        self._leave(call, 0.0)
        logger.error(
            "task abandoned: it did not stop",
            extra={"job_id": str(call.claim.job_id), "task_id": call.task_id},
        )
        # What is recorded is a copy: the attempt itself may still end, and would overwrite its outcome.
        record = copy(call)
        record.outcome = record.timed_out()
        hand.call = record
        write = record.write()
        if write is not None:
            self.committer.put(hand, write, record)
