"""`manage.py run_task_worker`: claims jobs and runs their tasks until it is told to stop."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, ArgumentTypeError
from contextlib import suppress
from dataclasses import replace
from typing import Any

import django
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import connections

from ... import __version__
from ...cache.base import BaseJobStore
from ...conf import get_cache_handler, get_config
from ...engine import Engine, EngineOptions, Wakeup, build_engine, options_from_settings
from ...executor import store
from ...health import HealthFile
from ...models import Job
from ...new_jobs import storable
from ...registry import sequences
from ...text import listing, suggest
from ..console import JobLines, job_lines
from ..os_signals import leave_within, stops_on_signals
from ..supervisor import supervise
from ..tables import require_alias, require_tables

# For what tasks have left to be done at the interpreter's exit, threads that are no daemons included.
LAST_SECONDS = 5.0


def _whole(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise ArgumentTypeError(f"{text!r} is no whole number from 1")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number < float("inf"):
        raise ArgumentTypeError(f"{text!r} is no number of seconds from 0")
    return number


class Command(BaseCommand):
    help = "Run the tasks of jobs until SIGTERM or Ctrl+C; what runs is finished first."
    requires_migrations_checks = False
    _called_from_command_line = False

    def add_arguments(self, parser: ArgumentParser) -> None:
        add = parser.add_argument
        add("--queues", default="", help="Names with commas, the first first. Default: all.")
        add("--concurrency", type=_whole, default=8, help="Threads for sync tasks. Default: 8.")
        add("--async-concurrency", type=_whole, default=1000, help="Async tasks at a time.")
        add("--processes", type=_whole, default=1, help="Worker processes. Default: 1, this one.")
        add("--burst", action="store_true", help="End when nothing is due.")
        add("--until-empty", action="store_true", help="End when nothing is due and nothing waits.")
        add("--max-jobs", type=_whole, default=None, help="End after so many jobs.")
        add("--drain-timeout", type=_seconds, default=30.0, help="Seconds to finish after a stop.")
        add("--health-file", default=None, help="A file that is written anew each second.")
        add("--no-reload", action="store_true", help="Do not start anew when code changes (DEBUG).")

    def handle(self, **options: Any) -> None:
        keeper = store()
        self._refuse_what_cannot_run(keeper)
        ends = bool(options["burst"] or options["until_empty"] or options["max_jobs"])
        reload = settings.DEBUG and self._called_from_command_line and not options["no_reload"]
        if options["processes"] > 1 or (reload and not ends):
            code = supervise(
                self._child_arguments(options),
                processes=options["processes"],
                reload=reload and not ends,
                ends=ends,
                say=self.stderr.write,
            )
        else:
            code = self._run_here(keeper, options)
            if self._called_from_command_line:
                leave_within(LAST_SECONDS, code)
        if code:
            sys.exit(code)

    def _run_here(self, keeper: BaseJobStore, options: dict[str, Any]) -> int:
        quiet = options["verbosity"] == 0
        wakeup = Wakeup()
        health = HealthFile(options["health_file"]) if options["health_file"] else None
        try:
            with (
                stops_on_signals(wakeup.write_fd) as stops,
                job_lines(self.stdout, self.style, quiet=quiet) as lines,
            ):
                engine = build_engine(
                    keeper, self._engine_options(options), wakeup=wakeup, stops=stops
                )
                if health:
                    self._begin_health(health)
                    engine.on_beat = health.beat
                engine.on_stop = None if quiet else self._say_stopping
                if not quiet:
                    self._greet(engine)
                code = engine.run()
        finally:
            wakeup.close()
            if health:
                health.remove()
        if not quiet:
            with suppress(OSError, ValueError):  # a task may have closed the terminal's streams
                self._say_bye(lines, code)
        return code

    def _begin_health(self, health: HealthFile) -> None:
        try:
            health.write()
        except OSError as error:
            raise CommandError(f"The health file cannot be written: {error}") from None

    def _engine_options(self, options: dict[str, Any]) -> EngineOptions:
        return replace(
            options_from_settings(),
            queues=_queues(options["queues"]),
            concurrency=options["concurrency"],
            async_concurrency=options["async_concurrency"],
            burst=options["burst"],
            until_empty=options["until_empty"],
            max_jobs=options["max_jobs"],
            drain_timeout=options["drain_timeout"],
        )

    def _refuse_what_cannot_run(self, keeper: BaseJobStore) -> None:
        if not keeper.supports_claims:
            raise CommandError(
                f"{type(get_cache_handler()).__name__} has no claims, so no worker can run its jobs."
                " Use the inline, signal or a carried start handler, or ModelTaskCacheHandler."
            )
        alias = get_config().database
        require_alias(alias, said_by="TASKS_SEQ['DATABASE']")
        if keeper.needs_tables:
            require_tables(alias)

    def _child_arguments(self, options: dict[str, Any]) -> list[str]:
        given = ("queues", "concurrency", "async_concurrency", "max_jobs", "drain_timeout")
        switches = ("burst", "until_empty", "no_color")
        arguments = ["--no-reload", f"--verbosity={options['verbosity']}"]
        arguments += [f"{_flag(n)}={options[n]}" for n in given if options[n] not in (None, "")]
        arguments += [_flag(n) for n in switches if options[n]]
        if options["health_file"]:
            arguments.append(f"--health-file={options['health_file']}")
        return arguments

    # --- what people read ----------------------------------------------------------------------

    def _greet(self, engine: Engine) -> None:
        connection = connections[get_config().database]
        options = engine.options
        queues = ", ".join(options.queues) or "all"
        say = self.stdout.write
        say(
            f"django-tasks-seq {__version__} · worker {options.name} · queues: {queues} ·"
            f" {_counted(options.concurrency, 'thread')} · {connection.display_name} ·"
            f" lease {options.lease:g} s · Django {django.get_version()}"
        )
        say(
            f"{_counted(len(sequences()), 'sequence')} registered ·"
            " Ctrl+C stops after the tasks that run"
        )
        for queue in options.queues if engine.store.needs_tables else ():
            self._doubt(queue)
        self.stdout.flush()

    def _doubt(self, queue: str) -> None:
        """A queue that nobody uses may be misspelt, or new: it is waited for, with a hint."""
        known = {get_config().default_queue, *Job.objects.queues_in_use()}
        hint = "" if queue in known else suggest(queue, known)
        if hint:
            self.stderr.write(
                self.style.WARNING(
                    f"No job is on queue {queue!r} now. {hint} Queues: {listing(sorted(known))}."
                    " Waiting for it anyway."
                )
            )

    def _say_stopping(self, running: int, seconds: float) -> None:
        if running and not seconds:
            self.stdout.write(f"Stopping now: {_counted(running, 'task')} will be run again.")
        elif running:
            self.stdout.write(
                f"Stopping: finishing {_counted(running, 'task')} (up to {seconds:g} s;"
                " press again to stop now, they will be run again)…"
            )
        self.stdout.flush()

    def _say_bye(self, lines: JobLines, code: int) -> None:
        self.stdout.write(f"bye: {lines.succeeded} successful, {lines.failed} failed")
        if code:
            self.stderr.write(f"ends with exit code {code}: abandoned tasks, start it anew")


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _queues(text: str) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    for name in names:
        if name != storable(name):
            raise CommandError(f"{name!r} has characters that no queue's name can have.")
    return names
