"""`tasks_seq prune`: delete settled jobs that ended long ago, with all their rows."""

from __future__ import annotations

import json
import time
from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError

from ...cache.base import BaseJobStore
from ...cache.model import ModelTaskCacheHandler
from ...cache.retention import Prunable, PrunableCount
from ...choices import FINAL
from ...conf import get_cache_handler, get_config
from ...engine.wakeup import Wakeup
from ...executor import store
from ...pruning import DAY, LONGEST_AGE, Pruner
from ...registry import sequences
from ...text import suggest
from ..os_signals import stops_on_signals
from ..tables import require_alias, require_tables
from ..words import counted, duration, grouped, joined, names, some_of, spoken

HELP = "Delete settled jobs that ended long ago, with all their rows."
USAGE, REFUSED, STOPPED = 2, 1, 130

statuses = some_of(FINAL, "final status")


def add_arguments(parser: ArgumentParser) -> None:
    """Declare its options."""
    add = parser.add_argument
    add(
        "--older-than",
        type=duration,
        default=None,
        metavar="AGE",
        help="Time since the job ended: 30d, 12h, 90m. Default: RETENTION_DAYS.",
    )
    add(
        "--status",
        type=statuses,
        default=(),
        metavar="A,B",
        help="Only jobs of these statuses: successful, failed, cancelled. Default: all three.",
    )
    add("--sequence", type=names, default=(), metavar="A,B", help="Only jobs of these sequences.")
    add("--dry-run", action="store_true", help="Count what would be deleted, and delete nothing.")
    add("--database", default=None, metavar="ALIAS", help="Default: TASKS_SEQ['DATABASE'].")
    add("--json", action="store_true", help="Say it as one JSON object.")


def run(command: BaseCommand, options: Mapping[str, Any]) -> int:
    """Delete, or count, and say what was done."""
    what = Prunable(
        _age(_parsed(duration, options["older_than"])),
        _parsed(statuses, options["status"]),
        _parsed(names, options["sequence"]),
    )
    pruning = _Pruning(command, options, what)
    try:
        keeper = _keeper(options["database"])
        return pruning.count(keeper) if options["dry_run"] else pruning.delete(keeper)
    except DatabaseError as error:
        raise CommandError(
            f"The database failed: {str(error).strip()}. {pruning.so_far}"
        ) from error


def _parsed(parse: Callable[[str], Any], value: Any) -> Any:
    """`call_command` hands keyword arguments over as they are."""
    try:
        return parse(value) if isinstance(value, str) else value
    except ArgumentTypeError as error:
        raise CommandError(f"{error}. Nothing was deleted.", returncode=USAGE) from None


def _age(seconds: float | None) -> float:
    if seconds is not None:
        return seconds
    days = get_config().retention_days
    if days is None:
        raise CommandError(
            "TASKS_SEQ['RETENTION_DAYS'] is None: jobs are kept for ever. Say how old they are to be:"
            " --older-than 30d. Nothing was deleted.",
            returncode=USAGE,
        )
    return min(days * DAY, LONGEST_AGE)


def _keeper(alias: str | None) -> BaseJobStore:
    keeper = store()
    if alias is not None:
        require_alias(alias, said_by="--database", code=USAGE)
        keeper = ModelTaskCacheHandler(alias)
    if not keeper.supports_pruning:
        raise CommandError(
            f"{type(get_cache_handler()).__name__} keeps jobs in documents, which cannot be deleted"
            " by age. Nothing was deleted."
        )
    if keeper.needs_tables:
        if alias is None:
            alias = get_config().database
            require_alias(alias, said_by="TASKS_SEQ['DATABASE']")
        require_tables(alias)
    return keeper


class _Pruning:
    """One run of the command."""

    def __init__(self, command: BaseCommand, options: Mapping[str, Any], what: Prunable) -> None:
        self.command = command
        self.what = what
        self.verbosity = int(options["verbosity"])
        self.is_json = bool(options["json"])
        self.done: Pruner | None = None
        self.workers = 0
        self.ended = f"ended more than {spoken(what.age)} ago" if what.age else "has ended"

    # --- doing ---------------------------------------------------------------------------------

    def count(self, keeper: BaseJobStore) -> int:
        """Say what would go."""
        found = keeper.count_prunable(self.what)
        jobs = sum(found.jobs.values())
        if self.is_json:
            self._say_json(dry_run=True, **_facts(found, jobs), by_status=found.jobs)
        elif jobs:
            kinds = joined(f"{grouped(n)} {status.lower()}" for status, n in found.jobs.items())
            self._say(f"Would delete {self._rows(found, jobs)}: {kinds}.")
            self._say("Nothing was deleted. Run it without --dry-run.")
        else:
            self._say_nothing()
        return 0

    def delete(self, keeper: BaseJobStore) -> int:
        """Batch after batch, until nothing is left or somebody presses Ctrl+C."""
        pruner = self.done = Pruner(keeper, self.what)
        began = time.monotonic()
        with closing(Wakeup()) as wakeup, stops_on_signals(wakeup.write_fd) as stops:
            while (more := pruner.batch()) and not stops():
                if self.verbosity > 1 and not self.is_json:
                    self._say(f"{grouped(pruner.jobs)} jobs, {pruner.last * 1000:.0f} ms")
                # Half of the time is for others who wait for the same locks, or for SQLite's only one.
                wakeup.wait(pruner.last, None)
            is_stopped = more and bool(stops())
        if not (is_stopped or self.what.statuses or self.what.sequences):
            self.workers = keeper.prune_workers(self.what.age)
        self._tell(pruner, time.monotonic() - began, is_stopped=is_stopped)
        return STOPPED if is_stopped else REFUSED if pruner.refused else 0

    # --- saying --------------------------------------------------------------------------------

    @property
    def so_far(self) -> str:
        """What was deleted before something went wrong."""
        if self.done is None or not self.done.jobs:
            return "Nothing was deleted."
        return f"Before that {counted(self.done.jobs, 'job')} were deleted; run it again to go on."

    def _tell(self, pruner: Pruner, seconds: float, *, is_stopped: bool) -> None:
        if self.is_json:
            self._say_json(
                dry_run=False,
                **_facts(pruner, pruner.jobs),
                workers=self.workers,
                batches=pruner.batches,
                seconds=round(seconds, 6),
                longest_lock_seconds=round(pruner.longest, 6),
                passed_by=pruner.passed,
                refused=pruner.refused,
                stopped=is_stopped,
            )
            return
        if is_stopped:
            self._say("Stopped between two batches; run it again to go on.")
        if pruner.jobs:
            self._say(f"Deleted {self._rows(pruner, pruner.jobs)}.")
            self._say(
                f"{counted(pruner.batches, 'batch', 'batches')} in {seconds:.1f} s;"
                f" locks were held for {pruner.longest * 1000:.0f} ms at most."
            )
        elif not (pruner.passed or pruner.refused):
            self._say_nothing()
        if self.workers:
            self._say(f"Forgot {counted(self.workers, 'worker')} not seen for as long.")
        self._tell_of_the_rest(pruner)

    def _tell_of_the_rest(self, pruner: Pruner) -> None:
        if pruner.passed:
            self._say(
                f"{counted(pruner.passed, 'job')} passed by, which somebody held or changed just then."
            )
        if pruner.refused:
            self._warn(f"{counted(pruner.refused, 'job')} cannot be deleted: {pruner.refusal}")

    def _say_nothing(self) -> None:
        chosen = " of this choice" if self.what.statuses or self.what.sequences else ""
        self._say(f"Nothing to delete: no settled job{chosen} {self.ended}.")
        known = [sequence.name for sequence in sequences()]
        for name in self.what.sequences:
            if name not in known:
                self._warn(f"No sequence is named {name!r}. {suggest(name, known)}".strip())

    def _rows(self, found: Pruner | PrunableCount, jobs: int) -> str:
        rows = (
            counted(found.tasks, "task status", "task statuses"),
            counted(found.attempts, "attempt"),
            counted(found.events, "event"),
        )
        which = self.ended.replace("has ended", "have ended") if jobs != 1 else self.ended
        return f"{counted(jobs, 'settled job')} that {which}, with {joined(rows)}"

    def _say_json(self, **facts: Any) -> None:
        self.command.stdout.write(json.dumps({"older_than_seconds": self.what.age, **facts}))

    def _say(self, text: str) -> None:
        if self.verbosity and not self.is_json:
            self.command.stdout.write(text)

    def _warn(self, text: str) -> None:
        if self.verbosity and not self.is_json:
            warning: Callable[[str], str] = self.command.style.WARNING
            self.command.stderr.write(warning(text))


def _facts(found: Pruner | PrunableCount, jobs: int) -> dict[str, int]:
    return {
        "jobs": jobs,
        "task_statuses": found.tasks,
        "attempts": found.attempts,
        "events": found.events,
    }
