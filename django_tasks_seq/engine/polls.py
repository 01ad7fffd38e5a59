"""When the engine looks into the database again, if nothing wakes it before."""

from __future__ import annotations

import heapq
import time

# Retries that are due within so many polls are looked for when they are due.
RETRIES_AHEAD = 10
EARLY = 0.002


class Polls:
    """The time of the next look, by the monotonic clock: every *interval* seconds, or sooner."""

    def __init__(self, interval: float) -> None:
        self.interval = interval
        self.at = 0.0
        self._retries: list[float] = []

    def is_due(self) -> bool:
        """Whether it is time to look; the next look is an interval later then."""
        now = time.monotonic()
        while self._retries and self._retries[0] <= now:
            self.at = min(self.at, heapq.heappop(self._retries))
        if now < self.at:
            return False
        self.at = now + self.interval
        if self._retries:
            self.at = min(self.at, self._retries[0])
        return True

    def soon(self, seconds: float = 0.0) -> None:
        """Look within *seconds*."""
        self.at = min(self.at, time.monotonic() + seconds)

    def expect(self, delays: list[float]) -> None:
        """Retries of ours become due after these seconds: look then, and not only at the next poll."""
        for delay in delays:
            if delay < self.interval * RETRIES_AHEAD:
                heapq.heappush(self._retries, time.monotonic() + delay + EARLY)
        if self._retries:
            self.at = min(self.at, self._retries[0])
