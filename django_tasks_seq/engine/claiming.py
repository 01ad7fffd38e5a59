"""How many jobs to take in hand: enough that no thread waits, few enough that no job does.

The window starts at the concurrency and at most doubles with each claim, towards what is done in a
quarter of a second (Little's law): short tasks come in hundreds, long ones one for each thread.
Async tasks begin at once and leave the threads idle: then each claim takes twice as many.
"""

from __future__ import annotations

import random
import time
from math import inf

from ..cache.base import BaseJobStore
from ..cache.changes import Claim
from .hands import Hand, Hands
from .options import EngineOptions
from .runners import Runner

WAIT_IN_HAND = 0.25
LARGEST_WINDOW = 512
RATE_WEIGHT = 0.3
# So many claims in a row may be in vain; then notifications bring a look in so many seconds, by chance.
VAIN = 3
QUIET = (0.4, 0.6)
RATE_SPAN = 0.02


class Claiming:
    """Claims jobs as there is room for them."""

    def __init__(
        self, store: BaseJobStore, hands: Hands, runner: Runner, options: EngineOptions
    ) -> None:
        self.store = store
        self.hands = hands
        self.runner = runner
        self.options = options
        self.worker_id: int | None = None
        # Whether a claim may find something: it was told so, or the last found all it asked for.
        self.is_due = True
        self.claimed = 0
        self._window = float(options.concurrency)
        self._batch = options.concurrency
        self._rate = 0.0
        # Claims in a row that found nothing; when the next look is, and until when there is no other.
        self._vain = 0
        self._look_at = self._quiet_until = 0.0
        self._measured_at = time.monotonic()
        self._measured = 0

    @property
    def is_used_up(self) -> bool:
        """Whether as many jobs as `max_jobs` have been claimed."""
        return self.options.max_jobs is not None and self.claimed >= self.options.max_jobs

    def claim(self) -> list[Hand]:
        """Fresh hands, or none when there is no room or nothing to claim."""
        if not self.is_due:
            return []
        self._measure()
        wanted = self._wanted()
        if wanted <= 0:
            return []
        room = self.hands.room
        claims = self.store.claim(
            self.options.queues, wanted, self.options.lease, self.worker_id, room
        )
        self._vain = 0 if claims else self._vain + 1
        if not claims:
            self._quiet_until = time.monotonic() + random.uniform(*QUIET)  # noqa: S311 (jitter)
        # A claim that was cut short by weight leaves something; a character has up to four bytes.
        heavy = 4 * sum(claim.size for claim in claims) >= room
        self.is_due = len(claims) >= wanted or heavy
        return self._take(claims)

    def hear(self) -> float:
        """A job has been started somewhere; seconds until a look is due, unless a claim is at once.

        All idle workers hear of each start, and one gets the job. Whoever has come too late several
        times running lets others go first, and looks a little later for what they have left.
        """
        if self._vain < VAIN:
            self.is_due = True
            return inf
        now = time.monotonic()
        if self._look_at <= now:
            self._look_at = max(now, self._quiet_until)
            self._quiet_until = self._look_at + random.uniform(*QUIET)  # noqa: S311 (jitter)
        return self._look_at - now

    def claim_handlers(self) -> list[Hand]:
        """Fresh hands of final jobs whose handler is due."""
        limit = self.options.concurrency - sum(1 for hand in self.hands if hand.claim.handler)
        if limit <= 0:
            return []
        return self._take(
            self.store.claim_handlers(
                self.options.queues, limit, self.options.lease, self.worker_id
            )
        )

    def slow_down(self) -> None:
        """Jobs have waited too long in hand."""
        self._window, self._rate = float(self.options.concurrency), 0.0

    def _take(self, claims: list[Claim]) -> list[Hand]:
        hands = [Hand.of(claim) for claim in claims]
        for hand in hands:
            self.hands.add(hand)
            self.claimed += not hand.claim.handler
        return hands

    def _wanted(self) -> int:
        if self.hands.room <= 0:
            return 0
        # Threads are idle, too, when what they have ended waits for this one: that is in hand as well.
        most = max(LARGEST_WINDOW, 2 * self.options.concurrency)
        room = most - (len(self.hands) - self.runner.awaited())
        wanted = min(max(self._for_idle_threads(), self._for_the_window()), room)
        if self.hands.bytes:
            # Results of jobs that go on are not known before they are claimed: as heavy as those here.
            wanted = min(wanted, 1 + self.hands.room * len(self.hands) // self.hands.bytes)
        if self.options.max_jobs is not None:
            wanted = min(wanted, self.options.max_jobs - self.claimed)
        return wanted

    def _for_idle_threads(self) -> int:
        # A thread stands idle for each attempt that is shown first, and would be given twice as many.
        idle = self.runner.idle() - len(self.hands.unshown)
        if idle < self.options.concurrency:
            self._batch = self.options.concurrency
            return idle
        self._batch = min(
            LARGEST_WINDOW, self._batch * 2 if self.hands else self.options.concurrency
        )
        return self._batch

    def _for_the_window(self) -> int:
        goal = max(float(self.options.concurrency), self._rate * WAIT_IN_HAND)
        self._window = min(goal, self._window * 2, LARGEST_WINDOW)
        wanted = int(self._window) - (len(self.hands) - self.runner.awaited())
        # A claim for one costs as much as one for many.
        return wanted if wanted >= self._window / 4 else 0

    def _measure(self) -> None:
        now = time.monotonic()
        span = now - self._measured_at
        if span >= RATE_SPAN:
            count = self.runner.count()
            self._rate += RATE_WEIGHT * ((count - self._measured) / span - self._rate)
            self._measured_at, self._measured = now, count
