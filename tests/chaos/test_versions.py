"""R17: two releases on one database, as during a deploy and its rollback: promise G10.

The release before is the tree of the tag, run beside the code of today on the schema of today.
"""

import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from django_tasks_seq import __version__, clock, executor
from django_tasks_seq.models import Job, JobEvent, TaskAttempt
from tests.chaos import releases
from tests.chaos.evidence import Audit
from tests.chaos.judging import judge, kill_while_it_holds
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.helpers import ROOT, WorkerProcess, wait_until
from tests.process.ledger import Ledger

# The databases that the release before knew.
pytestmark = [
    pytest.mark.django_db(transaction=True, databases="__all__"),
    pytest.mark.postgresql,
    pytest.mark.sqlite,
]

APP = "django_tasks_seq"
BEFORE, TODAY = "before", "today"
LEASE = 1.0


@pytest.fixture(scope="session")
def earlier(
    tmp_path_factory: pytest.TempPathFactory, django_db_setup: None
) -> Iterator[releases.Release]:
    """The release before: its tree, and a process that runs its code."""
    root = tmp_path_factory.mktemp("earlier")
    problem = releases.export(root)
    if problem:
        pytest.skip(f"the release before cannot be tried: {problem}")
    release = releases.Release(root)
    yield release
    release.close()


class Deploy:
    """Workers and starters of both releases."""

    def __init__(
        self, before: releases.Release, ledger: Ledger, start: Callable[..., WorkerProcess]
    ) -> None:
        self.before = before
        self.ledger = ledger
        self.start = start
        self.earlier: list[WorkerProcess] = []

    def worker(self, release: str, *args: str) -> WorkerProcess:
        """A worker of one release, once it says which."""
        env = self.ledger.environment(LEASE_SECONDS=LEASE, POLL_INTERVAL=0.1)
        given = ["run_task_worker", *args]
        if release == TODAY:
            worker = self.start(*args, env=env)
        else:
            log = self.ledger.path.with_name(f"earlier-{len(self.earlier)}.log")
            worker = releases.EarlierWorker(given, log=log, root=self.before.root, env=env)
            self.earlier.append(worker)
        version = __version__ if release == TODAY else releases.VERSION
        worker.wait_for_output(f"django-tasks-seq {version} ")
        return worker

    def begin(self, release: str, sequence: str, payloads: list[Any], **options: Any) -> list[Job]:
        """Start jobs by the code of one release."""
        if release == TODAY:
            return executor.start_many(sequence, payloads, **options)
        ids = self.before.ask("start", sequence, payloads, options)
        return list(Job.objects.filter(pk__in=ids))


@pytest.fixture
def deploy(
    earlier: releases.Release, ledger: Ledger, worker_process: Callable[..., WorkerProcess]
) -> Iterator[Deploy]:
    """Workers and starters of both releases; all workers are killed at the end."""
    both = Deploy(earlier, ledger, worker_process)
    yield both
    for worker in both.earlier:
        worker.kill()
        print(f"--- {worker}\n{worker.output()}")


def payloads(count: int) -> list[Any]:
    return [{"n": n, "seconds": 0} for n in range(count)]


def pids_of(ledger: Ledger) -> set[int]:
    return {line.pid for line in ledger.lines("call")}


def all_ended() -> bool:
    return not Job.objects.exclude(status__in=("SUCCESSFUL", "FAILED")).exists()


@pytest.mark.parametrize(("runs", "starts"), [(BEFORE, TODAY), (TODAY, BEFORE)])
def test_a_worker_runs_jobs_that_the_other_release_started(
    deploy: Deploy, audit: Audit, runs: str, starts: str
) -> None:
    """On the schema of today: each job ends as it should, each effect is there once, nothing is lost."""
    count = sizes().pick(cut=200, full=500)
    with recorded("R17") as run:
        run.faults = f"worker of {runs}, jobs of {starts}"
        worker = deploy.worker(runs)
        jobs = deploy.begin(starts, "chain", payloads(count))
        assert len(jobs) == count
        wait_until(all_ended, timeout=60, what="the end of all jobs")

        judge(run, deploy.ledger, audit, jobs)
        assert pids_of(deploy.ledger) == {worker.pid}
        assert not JobEvent.objects.exists()
        assert not TaskAttempt.objects.exists()


def test_either_release_rescues_what_the_other_had_in_hand(deploy: Deploy, audit: Audit) -> None:
    """A deploy and its rollback: the old worker is killed among jobs of both, then the new one."""
    count = sizes().pick(cut=60, full=500)
    work = [{"n": n, "seconds": 0.01} for n in range(count)]
    with recorded("R17") as run:
        old, new = deploy.worker(BEFORE), deploy.worker(TODAY)
        jobs = deploy.begin(BEFORE, "chain", work) + deploy.begin(TODAY, "chain", work)
        kills = [kill_while_it_holds(old)]
        wait_until(partial(is_rescued, old), what="the rescue by the code of today")
        third = deploy.worker(BEFORE)
        jobs += executor.start_many("chain", work)
        kills.append(kill_while_it_holds(new))
        wait_until(all_ended, timeout=60, what="the end of all jobs")

        run.faults = {"kills": len(kills)}
        verdict = judge(run, deploy.ledger, audit, jobs, faults=kills)
        assert verdict.losses >= len(kills)
        assert third.running
        # Whoever is killed holds jobs, but may not have called a task yet.
        assert {third.pid} <= pids_of(deploy.ledger) <= {old.pid, new.pid, third.pid}


def is_rescued(worker: WorkerProcess) -> bool:
    held = Job.objects.filter(status="RUNNING", worker__pid=worker.pid)
    return JobEvent.objects.filter(kind="lost").exists() and not held.exists()


def test_a_changed_sequence_meets_its_jobs_in_both_releases(
    deploy: Deploy, audit: Audit, tmp_path: Path
) -> None:
    """Renamed, removed, inserted and moved tasks between two real releases, forth and back."""
    (tmp_path / "go").touch()
    payload = {"until": str(tmp_path / "go")}
    with recorded("R17") as run:
        for release in (BEFORE, TODAY):
            deploy.worker(release, f"--queues={release}")
        # Each release has a queue of its own; a job is passed on as a deploy would pass it on.
        (first,) = deploy.begin(BEFORE, "reshaped", [payload], queue="nobody")
        (second,) = deploy.begin(TODAY, "reshaped", [payload], queue="nobody")
        assert (first.version, first.plan) == (1, ["kept", "charge", "gone", "last"])
        assert (second.version, second.plan) == (2, ["last", "new", "charge_card", "kept"])

        for release, job, done in [
            (TODAY, first, ["kept", "charge"]),  # by its alias; "gone" is not known there
            (BEFORE, second, ["last"]),  # "new" is not known there
        ]:
            pass_on(job, release)
            wait_until(partial(is_set_aside, job), what="a job that is given back")
            assert [row.task_id for row in job.task_statuses.order_by("position")] == done
        for release, job in ((BEFORE, first), (TODAY, second)):
            pass_on(job, release)
            wait_until(partial(is_done, job), what="the end where its tasks are known")

        judge(run, deploy.ledger, audit, [first, second])
        events = [(event.kind, event.data["task_id"]) for event in JobEvent.objects.order_by("id")]
        run.faults = {"unknown tasks": len(events)}
        assert events == [("unknown_task", "gone"), ("unknown_task", "new")]
        assert not TaskAttempt.objects.exists()
        for job in (first, second):
            lines = deploy.ledger.lines("call", job)
            assert [(line.task_id, line.attempt) for line in lines] == [(t, 1) for t in job.plan]


def test_retries_and_handlers_pass_from_release_to_release(deploy: Deploy) -> None:
    """What failed in one is tried again in the other; a handler whose worker died is run by the other."""
    there_and_back = [(BEFORE, TODAY), (TODAY, BEFORE)]
    with recorded("R17") as run:
        for release in (BEFORE, TODAY):
            deploy.worker(release, f"--queues={release}")
        jobs = []
        for one, other in there_and_back:
            (job,) = deploy.begin(other, "second_try", [{}], queue=one)
            wait_until(partial(has_failed_once, job), what="a first attempt that failed")
            pass_on(job, other)
            wait_until(partial(is_done, job), what="the second attempt")
            assert [line.attempt for line in deploy.ledger.lines("call", job)] == [1, 2]
            assert job.attempts.get().outcome == "FAILED"
            jobs.append(job)
        for one, other in sizes().pick(cut=there_and_back[:1], full=there_and_back):
            # In its first attempt the handler kills its worker.
            (job,) = deploy.begin(other, "success_killer", [{}], queue=one)
            wait_until(partial(deploy.ledger.lines, "handler", job), what="the handler")
            pass_on(job, other)
            wait_until(partial(is_settled, job), what="the handler elsewhere")
            handlers = deploy.ledger.lines("handler", job)
            assert [line.attempt for line in handlers] == [1, 2]
            assert len({line.pid for line in handlers}) == 2
            if one == BEFORE and sizes().is_full:
                deploy.worker(one, f"--queues={one}")
            jobs.append(job)
        run.jobs, run.faults = len(jobs), {"failures": 2, "deaths": len(jobs) - 2}
        assert {job.refresh().status for job in jobs} == {"SUCCESSFUL"}


def is_settled(job: Job) -> bool:
    return bool(job.refresh().is_settled)


def has_failed_once(job: Job) -> bool:
    job.refresh()
    return job.status == "WAITING" and job.attempts.exists()


def pass_on(job: Job, queue: str) -> None:
    """As if its time had come where the other release runs."""
    Job.objects.filter(pk=job.pk).update(queue=queue, run_after=clock.Now())


def is_set_aside(job: Job) -> bool:
    job.refresh()
    return job.status == "WAITING" and job.unknown_since is not None


def is_done(job: Job) -> bool:
    return bool(job.refresh().status == "SUCCESSFUL")


@pytest.fixture
def schema_before() -> Iterator[None]:
    """The tables as the release before had them."""
    call_command("migrate", APP, "0001", verbosity=0)
    yield
    call_command("migrate", APP, verbosity=0)


def indexes() -> set[str]:
    with connection.cursor() as cursor:
        return set(connection.introspection.get_constraints(cursor, Job._meta.db_table))


def test_code_of_today_works_before_its_migration(
    schema_before: None,
    audit: Audit,
    ledger: Ledger,
    worker_process: Callable[..., WorkerProcess],
) -> None:
    """Code may be deployed before `migrate`: what is new there is about speed alone; pruning works as well."""
    with recorded("R17") as run:
        run.faults = "the schema before"
        assert "tseq_job_finished" not in indexes()
        jobs = executor.start_many("chain", payloads(20))
        worker = worker_process("--burst", env=ledger.environment())
        assert worker.wait() == 0, worker.output()
        judge(run, ledger, audit, jobs)

        call_command("tasks_seq", "prune", "--older-than=0s", verbosity=0)
        assert not Job.objects.exists()


def test_the_release_before_leaves_the_schema_of_today_alone(deploy: Deploy) -> None:
    """Its `migrate` finds nothing to do, and undoes nothing that it does not know."""
    before = indexes()

    assert "No migrations to apply" in deploy.before.ask("migrate")
    assert indexes() == before
    assert "tseq_job_finished" in before


def test_the_release_before_is_the_newest_that_the_changelog_has() -> None:
    """After a release the next one is tried against it, and not against an older one."""
    newest = re.findall(r"^## (\d[\w.]*) - ", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]

    assert newest.startswith(releases.TAG.removeprefix("v"))
    assert releases.VERSION.startswith(f"{newest}+")


def test_a_clone_without_the_release_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be tried is skipped with the reason, never passed in silence."""
    monkeypatch.setattr(releases, "ROOT", tmp_path)

    assert releases.export(tmp_path / "tree").startswith("this clone has neither the tag v0.1")
