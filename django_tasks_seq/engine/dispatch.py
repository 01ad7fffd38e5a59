"""From a job in hand to an attempt that runs, and back: handing out, giving back, releasing."""

from __future__ import annotations

import logging
import time

from ..attempt import MANAGER, Attempt
from ..cache.base import BaseJobStore
from ..cache.changes import Change
from ..unknown import cannot_begin
from .committer import Committer
from .hands import Hand, Hands
from .options import EngineOptions
from .runners import Runner
from .teller import Teller

logger = logging.getLogger("django_tasks_seq.worker")


class Dispatch:
    """Gives each hand's next attempt to the runner, or the claim back to the database."""

    def __init__(  # noqa: PLR0917 (the parts of the engine that it joins)
        self,
        store: BaseJobStore,
        hands: Hands,
        runner: Runner,
        committer: Committer,
        teller: Teller,
        options: EngineOptions,
    ) -> None:
        self.store = store
        self.hands = hands
        self.runner = runner
        self.committer = committer
        self.teller = teller
        self.options = options
        self.is_draining = False
        # A job whose task may kill this process: it runs when nothing else does.
        self._alone: Hand | None = None

    @property
    def is_alone(self) -> bool:
        """Whether a job waits to run alone, or does: nothing else is to be claimed."""
        return self._alone is not None

    def hand_out(self, hands: list[Hand]) -> None:
        """Begin the next attempt of each hand."""
        calls = [call for hand in hands if (call := self._next(hand)) is not None]
        self._begin(calls)

    def go_on(self, hands: list[Hand]) -> None:
        """Begin the next attempt of jobs in hand; those whose results no longer fit are given back."""
        kept: list[Hand] = []
        too_much = -self.hands.room
        for hand in hands:
            if too_much > 0 and len(self.hands) > 1:
                too_much -= hand.size
                self.release(hand)
            else:
                kept.append(hand)
        self.hand_out(kept)

    def _next(self, hand: Hand) -> Attempt | None:
        if self.is_draining or (self._alone is not None and hand is not self._alone):
            self.release(hand)
        elif hand is not self._alone and hand.is_last_chance(self.options.max_crashes):
            self._alone = hand
            self.give_back()
        else:
            return self._prepare(hand)
        return None

    def _prepare(self, hand: Hand) -> Attempt | None:
        try:
            found = hand.next_call(self.store, self.options)
        except Exception as error:
            logger.exception(
                "an attempt could not be made", extra={"job_id": str(hand.claim.job_id)}
            )
            found = cannot_begin(hand.claim, hand.sequence, error)
        if isinstance(found, Change):
            self.committer.put(hand, found)
            return None
        hand.call, hand.give_up_at = found, None
        if found.must_show:
            found.submitted = time.monotonic()
            self.hands.unshown.append(hand)
            return None
        return found

    def _begin(self, calls: list[Attempt]) -> None:
        if not calls:
            return
        now = time.monotonic()
        for call in calls:
            call.submitted = now
        self.teller.begun(calls)
        self.runner.submit(calls)

    def show_first(self) -> None:
        """Commit RUNNING rows, then begin: for suspects and `on_lost="fail"` tasks.

        Only as many as can begin at once: the row is evidence against a task if the process dies.
        A row that somebody holds stays for the next turn; so do all when the database is gone.
        """
        unshown = [hand for hand in self.hands.unshown if hand.call and self.hands.holds(hand.call)]
        room = self.runner.idle()
        waiting: list[Hand] = []
        later: list[Hand] = []
        self.hands.unshown = unshown
        for hand in unshown:
            begins = room > 0 or (hand.call is not None and hand.call.is_async)
            (waiting if begins else later).append(hand)
            room -= 1
        if not waiting:
            return
        writes = [
            MANAGER.start_task(hand.claim, hand.call.report()) for hand in waiting if hand.call
        ]
        applied = self.store.apply(writes, self.options.name)
        self.hands.unshown = later + [hand for hand in waiting if hand.claim.job_id in applied.busy]
        shown = []
        for hand in waiting:
            if hand.claim.job_id in applied.done and hand.call is not None:
                hand.claim.begun = True
                shown.append(hand.call)
            elif hand.claim.job_id not in applied.busy:
                self.hands.drop(hand)
        self._begin(shown)

    def begin_alone(self) -> None:
        """Begin the attempt that must run alone, once nothing else is in hand."""
        hand = self._alone
        if hand is None:
            return
        if self.hands.get(hand.claim.job_id) is not hand or not hand.claim.suspect:
            self._alone = None
        elif hand.call is None and len(self.hands) == 1 and not len(self.committer):
            self.hand_out([hand])

    def give_back(self) -> None:
        """Release what waits for a thread, so that others can run it."""
        unshown, self.hands.unshown = self.hands.unshown, []
        for call in self.runner.withdraw() + [hand.call for hand in unshown if hand.call]:
            hand = self.hands.get(call.claim.job_id)
            if hand is not None and hand.call is call:
                self.release(hand)

    def release(self, hand: Hand) -> None:
        """Give the claim up; an attempt that has begun costs nothing."""
        report = hand.call.report() if hand.call is not None else None
        hand.call = None
        if hand.claim.handler:
            self.committer.put(hand, MANAGER.release_handler(hand.claim))
        else:
            self.committer.put(hand, MANAGER.release(hand.claim, report))

    def release_running(self) -> None:
        """The drain limit has come: what still runs is released, and refused when it ends later."""
        for hand in list(self.hands):
            if self.committer.has(hand):
                continue
            if hand.call is not None:
                hand.call.abandoned = True
                hand.call.context.stop_reason = hand.call.context.stop_reason or "drain"
                self.runner.cancel(hand.call)
            self.release(hand)
