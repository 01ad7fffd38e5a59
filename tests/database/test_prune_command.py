"""`tasks_seq prune`: what it deletes, what it says, and how it ends."""

import io
import json
import os
import re
import signal
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.utils import timezone

from django_tasks_seq.cache.model import ModelTaskCacheHandler
from django_tasks_seq.cache.retention import Pruned
from django_tasks_seq.models import Job, TaskStatus, Worker
from tests.factories import JobEventFactory, JobFactory, WorkerFactory

DAY = 86_400.0
pytestmark = pytest.mark.django_db


def old(days: float = 40, **traits: Any) -> Job:
    job: Job = JobFactory.create(
        age=days * DAY, took=0, history=2, **(traits or {"successful": True})
    )
    return job


class Said:
    """What a run of the command wrote, and its exit code."""

    def __init__(self, *args: str, **options: Any) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.code = 0
        try:
            call_command("tasks_seq", "prune", *args, stdout=out, stderr=err, **options)
        except SystemExit as end:
            self.code = int(str(end.code))
        self.out, self.err = out.getvalue(), err.getvalue()

    @property
    def lines(self) -> list[str]:
        """Its lines, without the figures that no test can know."""
        text = re.sub(r"\d+\.\d s; (.*) \d+ ms", r"T s; \1 T ms", self.out)
        return text.splitlines()


def test_it_deletes_and_says_what() -> None:
    """Jobs older than RETENTION_DAYS, with their rows, and workers that are long gone."""
    for _ in range(3):
        JobEventFactory.create(job=old())
    old(failed=True)
    kept = old(days=29)
    WorkerFactory.create(heartbeat_at=timezone.now() - timedelta(days=40))

    said = Said()

    assert said.lines == [
        (
            "Deleted 4 settled jobs that ended more than 30 days ago,"
            " with 9 task statuses, 3 attempts and 3 events."
        ),
        "1 batch in T s; locks were held for T ms at most.",
        "Forgot 1 worker not seen for as long.",
    ]
    assert (said.code, said.err) == (0, "")
    assert Job.objects.get() == kept
    assert not Worker.objects.exists()


def test_a_dry_run_counts_and_deletes_nothing() -> None:
    """The counts are those of what a run deletes."""
    old()
    old()
    old(failed=True)
    old(days=1)

    said = Said("--dry-run")

    assert said.lines == [
        (
            "Would delete 3 settled jobs that ended more than 30 days ago,"
            " with 7 task statuses, 3 attempts and 0 events: 1 failed and 2 successful."
        ),
        "Nothing was deleted. Run it without --dry-run.",
    ]
    assert Job.objects.count() == 4
    assert "Deleted 3 settled jobs" in Said().out


def test_one_job_is_said_as_one() -> None:
    """Grammar, for a single job as for all that has ended."""
    old(days=1)

    assert Said("--older-than=0s", "--dry-run").lines[0] == (
        "Would delete 1 settled job that has ended,"
        " with 2 task statuses, 0 attempts and 0 events: 1 successful."
    )
    old(days=1)
    assert "Deleted 2 settled jobs that have ended, with" in Said("--older-than=0s").out


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ([], "no settled job ended more than 30 days ago"),
        (["--older-than=90m"], "no settled job ended more than 90 minutes ago"),
        (["--older-than=0s"], "no settled job has ended"),
        (["--status=failed"], "no settled job of this choice ended more than 30 days ago"),
    ],
)
@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["", "dry"])
def test_nothing_to_delete_is_said(options: list[str], text: str, dry: list[str]) -> None:
    """What it looked for is in the sentence."""
    said = Said(*options, *dry)

    assert said.lines == [f"Nothing to delete: {text}."]
    assert (said.code, said.err) == (0, "")


def test_statuses_and_sequences_narrow_it_down() -> None:
    """Workers are not forgotten then: they are of no status and no sequence."""
    old()
    old(failed=True, sequence="imports")
    old(cancelled=True)
    old(failed=True)
    WorkerFactory.create(heartbeat_at=timezone.now() - timedelta(days=40))

    Said("--status=failed,cancelled", "--sequence=imports,fulfil_order", "--older-than=30d")
    assert list(Job.objects.values_list("status", flat=True)) == ["SUCCESSFUL"]
    Said("--sequence=imports")

    assert Job.objects.count() == 1
    assert Worker.objects.count() == 1


def test_a_name_that_no_sequence_has_gets_a_hint() -> None:
    """Jobs of a sequence that is gone can be deleted; a name without jobs may be misspelt."""
    old(successful=True, sequence="fulfil_ordr")
    assert "Deleted 1 settled job" in Said("--sequence=fulfil_ordr").out

    said = Said("--sequence=fulfil_ordr")

    assert said.err.strip() == ("No sequence is named 'fulfil_ordr'. Did you mean 'fulfil_order'?")
    assert said.code == 0


def test_json_has_all_of_it() -> None:
    """One object, also when more is to be said."""
    old()
    old(failed=True)

    dry = json.loads(Said("--json", "--dry-run", "--older-than=31d").out)
    assert dry == {
        "older_than_seconds": 31 * DAY,
        "dry_run": True,
        "jobs": 2,
        "task_statuses": 5,
        "attempts": 3,
        "events": 0,
        "by_status": {"FAILED": 1, "SUCCESSFUL": 1},
    }
    wet = json.loads(Said("--json", verbosity=2).out)
    assert 0 < wet.pop("longest_lock_seconds") <= wet.pop("seconds")
    assert wet == {
        "older_than_seconds": 30 * DAY,
        "dry_run": False,
        "jobs": 2,
        "task_statuses": 5,
        "attempts": 3,
        "events": 0,
        "workers": 0,
        "batches": 1,
        "passed_by": 0,
        "refused": 0,
        "stopped": False,
    }


def test_verbosity_0_says_nothing() -> None:
    """It deletes all the same."""
    old()

    said = Said("-v", "0")

    assert (said.out, said.err, said.code) == ("", "", 0)
    assert not Job.objects.exists()


def test_keyword_arguments_are_read_as_on_the_command_line() -> None:
    """`call_command` hands them over unread."""
    old()
    old(failed=True)

    assert "1 failed" in Said(older_than="30d", status="failed", dry_run=True).out
    assert "2 settled" in Said(older_than=60.0, status=("FAILED", "SUCCESSFUL"), dry_run=True).out
    with pytest.raises(CommandError, match=r"'30' has no unit.*Nothing was deleted"):
        Said(older_than="30")
    with pytest.raises(CommandError, match="no name is given"):
        Said(sequence="")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--older-than=30"], "'30' has no unit: write 30d"),
        (["--older-than=soon"], "'soon' is no duration"),
        (["--older-than"], "expected one argument"),
        (["--status=ready"], "'ready' is no final status. There are: successful, failed"),
        (["--sequence="], "no name is given"),
        (["--database=jbs"], "--database is 'jbs', which DATABASES lacks. Did you mean 'jobs'?"),
        (["--oldr-than=30d"], "unrecognized arguments"),
        (["extra"], "unrecognized arguments"),
    ],
)
def test_bad_input_is_refused(arguments: list[str], message: str) -> None:
    """Nothing is deleted, and the message names the value."""
    old()

    with pytest.raises(CommandError) as caught:
        Said(*arguments)

    assert message in str(caught.value)
    assert Job.objects.count() == 1


def test_a_verb_is_needed_and_must_exist() -> None:
    """The message lists what there is."""
    with pytest.raises(CommandError, match="VERB"):
        call_command("tasks_seq")
    with pytest.raises(CommandError, match="prune"):
        call_command("tasks_seq", "prun")


def test_without_a_retention_an_age_must_be_said(configure: Callable[..., None]) -> None:
    """None keeps jobs for ever, unless a person says otherwise."""
    configure(RETENTION_DAYS=None)
    old()

    with pytest.raises(CommandError, match=r"RETENTION_DAYS.*is None.*--older-than 30d") as caught:
        Said()
    assert caught.value.returncode == 2
    assert Job.objects.count() == 1

    assert "Deleted 1 settled job" in Said("--older-than=30d").out


def test_the_retention_of_the_settings_is_the_default(configure: Callable[..., None]) -> None:
    """Also a part of a day, and one that is beyond all calendars."""
    old(days=1)
    configure(RETENTION_DAYS=1e12)
    assert Said().lines == ["Nothing to delete: no settled job ended more than 36 500 days ago."]
    configure(RETENTION_DAYS=0.5)

    assert "ended more than 12 hours ago" in Said().out
    assert not Job.objects.exists()


def test_a_store_of_documents_cannot_be_pruned(configure: Callable[..., None]) -> None:
    """Nothing is deleted, neither there nor in the tables."""
    configure(CACHE_HANDLER="django_tasks_seq.cache.InMemoryTaskCacheHandler")
    old()

    with pytest.raises(CommandError, match="InMemoryTaskCacheHandler keeps jobs in documents"):
        Said()

    assert Job.objects.count() == 1
    assert "Deleted 1 settled job" in Said("--database=default").out


@pytest.mark.django_db(databases=["default", "jobs"])
def test_another_database_can_be_named(configure: Callable[..., None]) -> None:
    """What was left on an alias that jobs have moved away from."""
    old()
    configure(DATABASE="jobs")

    assert "Nothing to delete" in Said().out
    assert "Deleted 1 settled job" in Said("--database=default").out


def test_an_alias_that_is_missing_is_said(configure: Callable[..., None]) -> None:
    """As `run_task_worker` says it."""
    configure(DATABASE="jbs")

    with pytest.raises(CommandError, match=r"TASKS_SEQ\['DATABASE'\] is 'jbs', which") as caught:
        Said(skip_checks=True)
    assert caught.value.returncode == 1


# How it ends


@pytest.fixture
def each_batch(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let batches have two jobs, and something happen after each."""

    def make(then: Callable[[int], Any]) -> None:
        real, numbers = ModelTaskCacheHandler.prune, iter(range(1, 1000))

        def prune(self: Any, what: Any, limit: int, **options: Any) -> Pruned:
            done = real(self, what, 2, **options)
            if done.found:
                then(next(numbers))
                done.found = limit if done.found == 2 else done.found
                done.jobs = done.found
            return done

        monkeypatch.setattr(ModelTaskCacheHandler, "prune", prune)

    return make


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_between_two_batches(
    each_batch: Callable[..., None], number: signal.Signals
) -> None:
    """The batch that runs is committed; it says how far it came, and the handlers are put back."""
    for _ in range(7):
        old()
    before = signal.getsignal(number)
    each_batch(lambda batch: os.kill(os.getpid(), number) if batch == 2 else None)

    said = Said()

    assert said.code == 130
    assert said.lines[0] == "Stopped between two batches; run it again to go on."
    assert said.lines[1].startswith("Deleted ")
    assert Job.objects.count() == 3
    assert TaskStatus.objects.count() == 6
    assert signal.getsignal(number) is before


def test_a_failing_database_is_said_with_how_far_it_came(each_batch: Callable[..., None]) -> None:
    """An error, and not a traceback; what was deleted before stays deleted."""

    def fail(batch: int) -> None:
        if batch == 2:
            raise OperationalError("the disk is full\n")

    for _ in range(7):
        old()
    each_batch(fail)

    with pytest.raises(CommandError, match=r"The database failed: the disk is full\. Before that"):
        Said()


def test_what_could_not_be_deleted_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal of the database is an error, a row that somebody holds is not."""
    answers = [
        Pruned(found=20, jobs=18, seconds=0.01, reached=("then", "there")),
        Pruned(found=1, refusal="still referenced from parcels", reached=("then", "there")),
    ]

    def prune(self: Any, what: Any, limit: int, **options: Any) -> Pruned:
        return answers.pop(0) if answers else Pruned()

    monkeypatch.setattr(ModelTaskCacheHandler, "prune", prune)
    said = Said()

    assert said.code == 1
    assert said.lines[-1] == "2 jobs passed by, which somebody held or changed just then."
    assert said.err.strip() == "1 job cannot be deleted: still referenced from parcels"


def test_a_walk_can_be_watched() -> None:
    """With -v 2 there is a line for each batch that another may follow."""
    for _ in range(21):
        old()

    assert re.fullmatch(r"20 jobs, \d+ ms", Said("-v", "2").lines[0])
