"""The engine: one thread that claims, hands out, commits and renews; it never waits for a row's lock.

    claims (batch) → hands → runner (threads, event loop) → outcomes → one commit → next task

It knows no command line and no OS signals: *stops* tells it how often it has been asked to stop.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress

from django.db import InterfaceError, InternalError, OperationalError, connections

from ..cache.base import BaseJobStore, deadline
from ..conf import get_config
from ..hygiene import end_session
from .claiming import Claiming
from .committer import Committer
from .dispatch import Dispatch
from .hands import Hands, waited
from .leases import Leases
from .limits import Limits
from .maintenance import Maintenance
from .options import EngineOptions
from .polls import EARLY, Polls
from .runners import Runner
from .teller import Teller, patience
from .wakeup import Wakeup

logger = logging.getLogger("django_tasks_seq.worker")

TICK = 1.0
# People see within 15 s that a worker is gone; a beat each second was half of what idle workers ask.
BEAT = 5.0
WATCH = 0.1
# While attempts wait for a thread, look after so many seconds whatever has happened.
GLANCE = 0.005
# A job that is due cannot be claimed while somebody holds its row.
HELD_PAUSE = 0.05
LONGEST_WAIT_IN_HAND = 1.0
# Claims go on within five seconds after the database is back.
LONGEST_BACKOFF = 3.0
# After the drain limit: time to write what is released. Without a database nothing is waited for.
LAST_WORDS = 0.5
EXIT_ABANDONED = 75
# The last is what a server says that has become read-only.
DATABASE_ERRORS = (OperationalError, InterfaceError, InternalError)


class Engine:
    """Runs jobs of one store until told to stop, or until nothing is left to do.

    *runner* calls user code, *wakeup* is what wakes this thread. `exit_code` is 75 when so many
    attempts were abandoned that a supervisor should start the process anew.
    """

    def __init__(  # noqa: PLR0917 (what it is made of)
        self,
        store: BaseJobStore,
        options: EngineOptions,
        runner: Runner,
        wakeup: Wakeup,
        teller: Teller,
        stops: Callable[[], int] = lambda: 0,
    ) -> None:
        self.store = store
        self.options = options
        self.runner = runner
        self.wakeup = wakeup
        self.teller = teller
        self.stops = stops
        self.hands = Hands()
        self.committer = Committer(store, self.hands, teller, options.name)
        self.dispatch = Dispatch(store, self.hands, runner, self.committer, teller, options)
        self.leases = Leases(store, self.hands, options)
        self.limits = Limits(self.hands, runner, self.committer, options)
        self.maintenance = Maintenance(store, options, teller)
        self.polls = Polls(options.poll)
        self.claiming = Claiming(store, self.hands, runner, options)
        # Who ends as soon as nothing is due has nothing to listen for.
        self.listener = None if options.burst else store.listener()
        self.exit_code = 0
        # Called at each beat, and when a stop begins with the number of attempts that run.
        self.on_beat: Callable[[], None] | None = None
        self.on_stop: Callable[[int, float], None] | None = None
        self._stops_seen = 0
        self._stop_at: float | None = None
        self._tick_at = self._beat_at = self._watch_at = self._rescue_at = 0.0
        self._backoff = 0.0
        self._is_dry = False
        self._next_due: float | None = None

    # --- the life of a worker ------------------------------------------------------------------

    def run(self) -> int:
        """Work until stopped or, with `burst` and the like, until nothing is due; the exit code."""
        with self.store.bookkeeping(deadline(self.options.lease)):
            self.claiming.worker_id = self.store.enter(self.options.introduction())
            try:
                self.work()
                self._sign_off()
            except Exception:
                self._give_up()
                raise
            finally:
                self.maintenance.pruning.close(patience(self._stop_at))
                self.runner.close()
                self.teller.close(patience(self._stop_at))
                if self.listener is not None:
                    self.listener.close()
        return self.exit_code

    def work(self) -> None:
        """Turn until done."""
        while not self.is_done():
            self.turn()

    def stop(self, within: float) -> None:
        """Drain: claim nothing more, finish what runs within *within* seconds, release the rest."""
        at = time.monotonic() + within
        self._stop_at = at if self._stop_at is None else min(at, self._stop_at)
        self.dispatch.is_draining = True
        self._beat_at = 0.0
        if self.on_stop is not None:
            _guarded(self.on_stop, len(self.runner.running()), within)

    @property
    def is_draining(self) -> bool:
        """Whether it has been told to stop."""
        return self._stop_at is not None

    def is_done(self) -> bool:
        """Whether nothing is in hand and nothing more is to be claimed; or the drain limit is past.

        An engine that ends by itself ends by a look: `_is_dry` is true only while the last look found
        nothing due and no job has been in hand since.
        """
        if self._stop_at is not None and time.monotonic() > self._stop_at + LAST_WORDS:
            return True
        if self.hands or len(self.committer):
            return False
        if self.is_draining or self.claiming.is_used_up:
            return True
        if not self._is_dry or self._backoff:
            return False
        return self.options.burst or (self.options.until_empty and self._next_due is None)

    def turn(self) -> None:
        """Once round: outcomes in, upkeep, claims, tasks out, wait."""
        try:
            self._obey()
            self._watch_if_due()
            self._collect()
            self._upkeep()
            self._claim()
            self._backoff = 0.0
        except DATABASE_ERRORS as error:
            self._lost_database(error)
        if self.hands:
            # What is in hand may leave something due: only a look after it can tell.
            self._is_dry = False
        if not self.is_done():
            self._wait()

    # --- the parts of a turn -------------------------------------------------------------------

    def _obey(self) -> None:
        """First stop: finish what runs. Second: now."""
        asked = self.stops()
        if asked > self._stops_seen:
            self.stop(self.options.drain_timeout if asked == 1 else 0.0)
            self._stops_seen = asked
            self._watch_at = 0.0

    def _collect(self) -> None:
        """Commit what has ended, and hand on what goes on."""
        ended = self.runner.take()
        if ended:
            self.teller.look()
            self.committer.take(ended)
        self.committer.commit()
        onward, self.committer.onward = self.committer.onward, []
        self.dispatch.go_on(onward)
        self.dispatch.show_first()
        self.polls.expect(self.committer.delays)
        self.committer.delays.clear()
        if self.committer.is_due:
            self.committer.is_due = False
            self.polls.soon()

    def _watch_if_due(self) -> None:
        """Before all that needs the database: limits hold and a drain goes on without it."""
        now = time.monotonic()
        if now >= self._watch_at:
            self._watch_at = now + WATCH
            self._watch(now)

    def _upkeep(self) -> None:
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick()
        if not self.is_draining and self.polls.is_due():
            self._poll()

    def _watch(self, now: float) -> None:
        self.limits.watch()
        self.dispatch.begin_alone()
        if self.limits.abandoned >= self.options.concurrency and not self.is_draining:
            logger.error("%s tasks were abandoned: this process ends", self.limits.abandoned)
            self.exit_code = EXIT_ABANDONED
            self.stop(self.options.drain_timeout)
        if self._stop_at is not None:
            self.dispatch.give_back()
            for call in self.runner.running():
                call.context.stop_reason = call.context.stop_reason or "drain"
            if now >= self._stop_at:
                self.dispatch.release_running()

    def _tick(self) -> None:
        # A lease is renewed when a third of it has passed: a short one asks for more looks.
        now = time.monotonic()
        self._tick_at = now + min(TICK, self.options.lease / 5)
        if now >= self._beat_at:
            self._beat_at = now + BEAT
            self.store.beat(self.claiming.worker_id, draining=self.is_draining)
        if not self.is_draining:
            self.maintenance.pruning.begin_if_due()
        if self.on_beat is not None:
            _guarded(self.on_beat)
        for call in self.leases.tick():
            # It runs on under a claim that is lost: its place is given to others.
            self.limits.leave_behind(call)
        if any(waited(hand) > LONGEST_WAIT_IN_HAND for hand in self.hands):
            self.dispatch.give_back()
            self.claiming.slow_down()

    def _poll(self) -> None:
        outlook = self.maintenance.look()
        if outlook.waiting:
            self.maintenance.promote()
        # Who has been without the database lets others renew before it rescues.
        if outlook.expired and time.monotonic() >= self._rescue_at:
            self._tick()  # a job of our own, whose row somebody held, is renewed and not rescued
            self.maintenance.rescue()
        if outlook.resend:
            self.maintenance.sweep()
        if outlook.handlers and not self.dispatch.is_alone:
            self.dispatch.hand_out(self.claiming.claim_handlers())
        if outlook.waiting or outlook.expired or outlook.handlers:
            # These are dealt with in batches, and held rows are passed by: there may be more.
            self.polls.soon(HELD_PAUSE)
        self.claiming.is_due = self.claiming.is_due or not outlook.is_empty
        self._is_dry = outlook.is_empty
        if self._is_dry and self.options.until_empty:
            self._next_due = self.store.next_due(self.options.queues)
            # Below zero: a handler that somebody runs now.
            self.polls.soon(max(HELD_PAUSE, (self._next_due or 0.0) + EARLY))

    def _claim(self) -> None:
        while (
            not self.is_draining and not self.dispatch.is_alone and (hands := self.claiming.claim())
        ):
            self.dispatch.hand_out(hands)

    # --- waiting and failing -------------------------------------------------------------------

    def _wait(self) -> None:
        self.runner.set_wake_at(max(1, len(self.hands) // 2))
        timeout = self._pause()
        if timeout > 0 or self.listener is not None:
            try:
                if self.wakeup.wait(timeout, None if self._backoff else self.listener):
                    self.polls.soon(self.claiming.hear())
                    self._is_dry = False
            except DATABASE_ERRORS as error:
                self._lost_database(error)
        self.runner.nudge()

    def _pause(self) -> float:
        """Seconds until something is to be done, if nothing happens before."""
        if self._backoff:
            return self._until_the_end(self._backoff)
        if self.runner.has_enough():
            return 0.0
        now = time.monotonic()
        if not self.hands and not self._is_dry and self._ends_by_itself():
            # One more look decides whether it is done.
            self.polls.soon(HELD_PAUSE if self.claiming.is_due else 0.0)
        until = self._tick_at if self.is_draining else min(self._tick_at, self.polls.at)
        if self.hands:
            until = min(until, self._watch_at)
        pause = max(0.0, until - now)
        if self.runner.queued():
            pause = min(pause, GLANCE)
        elif len(self.committer):
            pause = min(pause, HELD_PAUSE)
        return self._until_the_end(pause)

    def _until_the_end(self, pause: float) -> float:
        if self._stop_at is None:
            return pause
        return max(0.0, min(pause, self._stop_at + LAST_WORDS - time.monotonic()))

    def _ends_by_itself(self) -> bool:
        return self.options.burst or self.options.until_empty

    def _lost_database(self, error: Exception) -> None:
        """Keep everything in hand, connect anew, and renew before anything is rescued."""
        connection = connections[get_config().database]
        if connection.in_atomic_block:
            raise error  # a test's transaction, which a new connection would know nothing of
        self._backoff = min(LONGEST_BACKOFF, self._backoff * 2 or 0.1)
        logger.error("the jobs' database failed, again in %.1f s: %s", self._backoff, error)
        end_session(connection)
        self._tick_at = self.polls.at = 0.0
        self._rescue_at = time.monotonic() + self._backoff + 2 * TICK

    def _give_up(self) -> None:
        """A mistake of ours ends this engine: what is in hand is released, not left to its leases."""
        logger.error("the engine failed: its jobs are released")
        with suppress(Exception):
            self.dispatch.is_draining = True
            self.dispatch.release_running()
            self.committer.commit()
            # Those whose outcomes were at hand go on under their claims: they are released next.
            self.dispatch.go_on(self.committer.onward)
            self.committer.commit()

    def _sign_off(self) -> None:
        if self._backoff:
            return
        try:
            self.store.leave(self.claiming.worker_id)
        except DATABASE_ERRORS as error:
            logger.warning("could not sign off: %s", error)


def _guarded(tell: Callable[..., None], *args: object) -> None:
    """Call what others want to be told by; a terminal that is closed must not end the worker."""
    try:
        tell(*args)
    except Exception:
        logger.exception("telling of a stop or a beat failed")
