"""R15: the real store and the real verbs, in orders that Hypothesis makes up, against a small model."""

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, ClassVar, NamedTuple, TypeVar
from uuid import UUID

import pytest
from django.db import transaction
from hypothesis import (
    HealthCheck,
    Phase,
    seed as seeded,
    settings as hypothesis_settings,
    strategies as st,
)
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from django_tasks_seq import BaseErrorHandler, BaseSuccessHandler, executor, registry
from django_tasks_seq.attempt import MANAGER
from django_tasks_seq.cache.changes import Change, Claim, Failure, Held, Report, Snapshot, Write
from django_tasks_seq.cache.model.upkeep import read_snapshots
from django_tasks_seq.cache.retention import Prunable
from django_tasks_seq.engine.maintenance import lose
from django_tasks_seq.errors_text import describe_exception
from django_tasks_seq.exceptions import ClaimLost, InvalidTransition, JobNotFound
from django_tasks_seq.handlers import Complete, RetryJob, RetryTask
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from django_tasks_seq.payloads import decode, encode
from django_tasks_seq.testing import advance, drain, reset_clock
from django_tasks_seq.verdicts import LIMIT, change_outcome
from tests.chaos.model import DELAY, DONE, FINAL, LEASE, JobModel
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.engines import STORE, declare, everything

T = TypeVar("T")
PLAN = ("a", "b", "c")
# No sum of these meets a lease (60 s), a delay (45 s) or this age, by far: the model's times have no
# fractions, those of the database have.
STEPS, AGE = (25.0, 50.0, 100.0), 110.0
SLACK = 9.0
NO = describe_exception(ValueError("no"))
ALLOWED = {
    "cancel": ("READY", "WAITING", "PAUSED", "RUNNING"),
    "pause": ("READY", "WAITING", "RUNNING"),
    "resume": ("PAUSED",),
    "retry": ("FAILED", "CANCELLED"),
    "retry_from": FINAL,
    "skip": ("READY", "WAITING", "PAUSED", "FAILED"),
}
UNDER_CLAIM = ("succeed", "fail", "show", "release", "defer", "renew", "handler", "verdict")
# How often each is chosen; those of people come once each.
VERBS = (
    *ALLOWED,
    *UNDER_CLAIM,
    *("start", "consume", "promote", "rescue", "time_passes", "a_worker_dies", "prune", "delete"),
    *("claim", "claim", "claim", "claim", "claim_handlers", "claim_handlers"),
    *("succeed", "succeed", "succeed", "fail", "fail", "handler", "verdict", "verdict"),
)
MAY_BE_LEFT_OUT = (*ALLOWED, "delete", "consume", "release", "defer", "a_worker_dies")
MUST_HAPPEN = ("stale", "rescued", "promoted", "pruned", "deleted", "forbidden", "verdicts")


class OnSuccess(BaseSuccessHandler):
    def handle_success(self, result: Any, context: Any) -> None:
        pass


class OnError(BaseErrorHandler):
    def handle_error(self, error: Any, context: Any) -> None:
        pass


def same(payload: Any) -> Any:
    return payload


class Drawn(NamedTuple):
    """What Hypothesis has drawn for one step; each verb reads of it what it needs."""

    number: int = 0
    fits: bool = True
    place: int = 0
    yes: bool = True
    also: bool = False
    value: Any = None


@dataclass
class Party:
    """Somebody who once claimed a job, and does not know whether the claim still holds."""

    claim: Claim
    has_ended: bool = False  # a write of its own has given the claim up


class Machine(RuleBasedStateMachine):
    """Workers, consumers and people on one database, inside a transaction of each run."""

    happened: ClassVar[Counter[str]] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.jobs: dict[UUID, JobModel] = {}
        self.payloads: dict[UUID, Any] = {}
        self.verdicts: Counter[tuple[UUID, str]] = Counter()
        self.known: list[UUID] = []
        self.parties: list[Party] = []
        self.transaction = transaction.atomic()
        self.transaction.__enter__()

    def teardown(self) -> None:
        try:
            self.end_all()
        finally:
            transaction.set_rollback(True)
            self.transaction.__exit__(None, None, None)
            reset_clock()

    # Some verbs do not come in a run: without them others get further.
    @initialize(without=st.sets(st.sampled_from(MAY_BE_LEFT_OUT)))
    def begin(self, without: set[str]) -> None:
        self.without = without
        for has_handlers in (True, True, False):
            self.start(Drawn(yes=has_handlers))

    @rule(
        verb=st.sampled_from(VERBS),
        number=st.integers(0, 7),
        # Mostly somebody whose claim holds, and a job of which the verb is allowed.
        fits=st.sampled_from([True, True, False]),
        place=st.integers(0, 2),
        yes=st.booleans(),
        also=st.booleans(),
        value=st.none() | st.integers(0, 9) | st.just({"b": -0.0, "a": [1e16, "ä"]}),
    )
    def step(self, verb: str, **drawn: Any) -> None:
        """One rule for all verbs: of many, Hypothesis leaves out half in each run."""
        if verb in self.without:
            return
        one = Drawn(**drawn)
        self.happened["steps"] += 1
        if verb in ALLOWED:
            self.person(verb, one)
        elif verb in UNDER_CLAIM:
            self.under_claim(verb, one)
        else:
            getattr(self, verb)(one)

    def end_all(self) -> None:
        """Whatever has happened, a real worker ends every job that nobody has paused."""
        for job_id, job in self.jobs.items():
            if job.status == "PAUSED":
                executor.resume(job_id)
        open_jobs = Job.objects.exclude(status__in=FINAL, handler_due="").exclude(status="PAUSED")
        for _ in range(4):
            if open_jobs.exists():
                advance(2 * LEASE)
                drain()
        left = list(open_jobs.values_list("status", "handler_due", "requested"))
        assert left == []
        assert set(Job.objects.values_list("id", flat=True)) == set(self.jobs)

    # --- time and upkeep

    def time_passes(self, drawn: Drawn, seconds: float | None = None) -> None:
        seconds = STEPS[drawn.place] if seconds is None else seconds
        self.now += seconds
        advance(seconds)

    def a_worker_dies(self, drawn: Drawn) -> None:
        self.time_passes(drawn, STEPS[-1])
        self.rescue(drawn)

    def promote(self, drawn: Drawn) -> None:
        self.time_passes(drawn, 50.0 if drawn.yes else 0.0)
        STORE.promote()
        for job in self.jobs.values():
            if job.status == "WAITING" and job.due <= self.now:
                job.status = "READY"
                self.happened["promoted"] += 1

    def rescue(self, drawn: Drawn) -> None:
        lost = {
            job_id
            for job_id, job in self.jobs.items()
            if job.status == "RUNNING" and job.lease is not None and job.lease < self.now
        }
        assert {change.job_id for change in STORE.rescue(lose)} == lost
        for job_id in lost:
            self.jobs[job_id].rescue(self.now)
            self.happened["rescued"] += 1

    def prune(self, drawn: Drawn) -> None:
        """Only what is settled, and old, goes (S21)."""
        self.time_passes(drawn, 50.0 if drawn.yes else 0.0)
        old = {
            job_id
            for job_id, job in self.jobs.items()
            if job.status in FINAL and not job.handler and (job.finished or 0) + AGE < self.now
        }
        assert STORE.prune(Prunable(AGE), 100, seconds=None).jobs == len(old)
        for job_id in old:
            self.gone(job_id, "pruned")

    # --- starting and claiming

    def start(self, drawn: Drawn) -> None:
        later = timedelta(seconds=DELAY) if drawn.also else None
        name = "handled" if drawn.yes else "plain"
        job_id = executor.start_sequence(name, drawn.value, run_after=later).id
        self.known.append(job_id)
        self.payloads[job_id] = drawn.value
        due = self.now + (DELAY if later else 0)
        self.jobs[job_id] = JobModel(drawn.yes, due, "WAITING" if later else "READY")

    def claim(self, drawn: Drawn) -> None:
        ready = {job_id for job_id, job in self.jobs.items() if job.status == "READY"}
        limit = 1 if drawn.place else 100
        claims = STORE.claim((), limit, LEASE, drawn.place)
        assert len(claims) == min(limit, len(ready))
        assert {claim.job_id for claim in claims} <= ready
        for claim in claims:
            self.take(claim)

    def consume(self, drawn: Drawn) -> None:
        """A consumer's call, which may come early, late or for nobody."""
        job_id = self.pick(drawn, self.known)
        job = self.jobs.get(job_id)
        answer = STORE.claim_job(job_id, PLAN[drawn.place], LEASE, "consumer")
        if isinstance(answer, Claim):
            assert job is not None
            assert (job.status in {"READY", "WAITING"}, job.position) == (True, drawn.place)
            assert job.due <= self.now
            self.take(answer)
        else:
            assert answer == self.refusal(job, drawn.place)

    def refusal(self, job: JobModel | None, place: int) -> str:
        if job is None:
            return "unknown_job"
        if job.status in FINAL:
            return "final"
        if job.status in {"PAUSED", "RUNNING"}:
            return job.status.lower()
        if job.due > self.now:
            return "not_due"
        assert place != job.position, "it is due, and this is its next task"
        return "done" if place < job.position else "not_next"

    def take(self, claim: Claim) -> None:
        job = self.jobs[claim.job_id]
        job.claim(self.now)
        self.parties.append(Party(claim))
        place = job.position
        before = job.tasks[place - 1].result if place else self.payloads[claim.job_id]
        assert (claim.token, claim.task_id, claim.handler) == (job.token, PLAN[place], "")
        assert (claim.requested, claim.suspect) == (job.requested, job.suspect)
        assert claim.attempt == job.tasks[place].attempts + 1
        assert repr(decode(claim.payload)) == repr(before)

    def claim_handlers(self, drawn: Drawn) -> None:
        due = {
            job_id
            for job_id, job in self.jobs.items()
            if job.handler and job.due <= self.now and (job.lease is None or job.lease < self.now)
        }
        claims = STORE.claim_handlers((), 100, LEASE, drawn.place)
        assert {claim.job_id for claim in claims} == due
        for claim in claims:
            job = self.jobs[claim.job_id]
            job.claim(self.now, job.handler)
            self.parties.append(Party(claim))
            assert (claim.token, claim.handler) == (job.token, job.handler)

    # --- what workers write, whether or not their claim holds

    def under_claim(self, verb: str, drawn: Drawn) -> None:
        is_handler = verb in {"handler", "verdict"}
        those = [p for p in self.parties if verb == "renew" or bool(p.claim.handler) == is_handler]
        live = [party for party in those if self.holds(party.claim)] if drawn.fits else []
        if those:
            party = self.pick(drawn, live or those)
            self.happened[f"{verb} {'live' if self.holds(party.claim) else 'late'}"] += 1
            getattr(self, verb)(party, self.jobs.get(party.claim.job_id), drawn)

    def succeed(self, party: Party, job: JobModel | None, drawn: Drawn) -> None:
        claim, keep, text = party.claim, drawn.yes, encode(drawn.value)
        handler = "success" if claim.is_last and job and job.has_handlers else ""
        write = MANAGER.complete_task(claim, text, Report(started=0.1), handler=handler, keep=keep)
        if not self.write(party, write, is_atomic=drawn.also) or job is None:
            return
        job.succeed(self.now, drawn.value, keep)
        if claim.is_last and handler and keep:
            claim.handler, claim.handler_attempts = handler, 1
        elif claim.is_last or not keep:
            party.has_ended = True
        else:
            claim.advance(text)

    def fail(self, party: Party, job: JobModel | None, drawn: Drawn) -> None:
        claim, is_last, keep = party.claim, drawn.yes, drawn.also
        failure = Failure(NO, "FAILED", None if is_last else DELAY)
        handler = "error" if job and job.has_handlers else ""
        change = MANAGER.fail_attempt(claim, failure, Report(), handler=handler, keep=keep)
        if not self.write(party, change) or job is None:
            return
        job.fail(self.now, is_last, keep)
        if is_last and keep and handler:
            claim.handler, claim.handler_attempts = handler, 1
        else:
            party.has_ended = True

    def show(self, party: Party, job: JobModel | None, drawn: Drawn) -> None:
        change = MANAGER.start_task(party.claim, Report(started=1.0))
        if self.write(party, change) and job is not None:
            job.task("RUNNING")
            party.claim.begun = True

    def release(self, party: Party, job: JobModel | None, drawn: Drawn) -> None:
        if self.write(party, MANAGER.release(party.claim, Report())) and job is not None:
            job.release(self.now)
            party.has_ended = True

    def defer(self, party: Party, job: JobModel | None, drawn: Drawn) -> None:
        """Its task is not known there: before it has begun, and at no cost."""
        if party.claim.begun:
            return
        if self.write(party, MANAGER.defer(party.claim, DELAY)) and job is not None:
            job.status, job.lease, job.due = "WAITING", None, self.now + DELAY
            party.has_ended = True

    def renew(self, party: Party, job: JobModel | None, drawn: Drawn) -> None:
        claim = party.claim
        before = None if self.holds(claim) else everything()
        result = STORE.tick([Held(claim.job_id, claim.token)], LEASE)
        if before is not None or job is None:
            assert (result.lost, result.requested) == ({claim.job_id}, {})
            assert everything() == before
            return
        assert (result.lost, result.requested) == (set(), {claim.job_id: job.requested})
        if (job.lease or 0.0) - self.now < LEASE * 2 / 3:
            job.lease = self.now + LEASE

    def handler(self, party: Party, job: JobModel | None, drawn: Drawn) -> None:
        failure = Failure(NO, "FAILED", DELAY)
        change = {
            (True, True): lambda: MANAGER.finish_handler(party.claim, result='"seen"'),
            (True, False): lambda: MANAGER.finish_handler(party.claim, failure=failure),
            (False, True): lambda: MANAGER.retry_handler(party.claim, failure),
            (False, False): lambda: MANAGER.release_handler(party.claim),
        }[drawn.yes, drawn.also]()
        if not self.write(party, change) or job is None:
            return
        party.has_ended, job.lease = True, None
        if drawn.yes:
            job.handler = ""
        elif drawn.also:
            job.due = self.now + DELAY

    def verdict(self, party: Party, job: JobModel | None, drawn: Drawn) -> None:
        claim = party.claim
        if claim.handler != "error":
            return
        verdict = (RetryJob(), RetryTask(), Complete(7))[drawn.place]
        kind = type(verdict).__name__
        handler = "success" if job and job.has_handlers else ""
        text = "7" if kind == "Complete" else None
        refusal: type[BaseException] | None = None
        if job is None:
            refusal = JobNotFound
        elif not self.holds(claim):
            refusal = ClaimLost
        elif self.verdicts[claim.job_id, kind] == LIMIT:
            refusal = InvalidTransition

        def decide(snapshot: Snapshot) -> Any:
            return change_outcome(snapshot, claim.token, verdict, text=text, handler=handler)

        if not self.done(refusal, lambda: STORE.amend(claim.job_id, decide)) or job is None:
            return
        self.happened["verdicts"] += 1
        self.verdicts[claim.job_id, kind] += 1
        party.has_ended = True
        if kind == "Complete":
            job.end("SUCCESSFUL", self.now, "success")
        else:
            begin, end = (0, None) if kind == "RetryJob" else (job.position, job.position + 1)
            job.retry(self.now, slice(begin, end))

    def write(self, party: Party, write: Write, *, is_atomic: bool = False) -> bool:
        """Apply it; whether it was accepted, which it is exactly when the claim holds."""
        claim = party.claim
        before = None if self.holds(claim) else everything()
        if is_atomic:
            with transaction.atomic():
                applied = STORE.apply_inside(write, "worker")
        else:
            applied = STORE.apply([write], "worker")
        assert (applied.busy, applied.broken, applied.stale) == (set(), {}, set())
        if before is None:
            assert set(applied.done) == {claim.job_id}
            return True
        assert everything() == before
        # What it has written before may be reported as done, for the answer may have been lost; so
        # may what records no outcome and asks for no more than there is.
        asks_for_nothing = isinstance(write, Change) and not write.tasks and not is_atomic
        assert applied.lost == {claim.job_id} or party.has_ended or asks_for_nothing
        self.happened["stale"] += not party.has_ended
        return False

    # --- people

    def person(self, verb: str, drawn: Drawn) -> None:
        """What is allowed is done, what is not says so and changes nothing."""
        allowing = [job_id for job_id, job in self.jobs.items() if self.forbids(job, verb) is None]
        job_id = self.pick(drawn, allowing if allowing and drawn.fits else self.known)
        job, place = self.jobs.get(job_id), drawn.place
        if drawn.fits and job is not None:
            place = min(place, job.position) if verb == "retry_from" else min(2, job.position)
        act = {
            "cancel": lambda: executor.cancel(job_id, force=drawn.yes),
            "pause": lambda: executor.pause(job_id),
            "resume": lambda: executor.resume(job_id),
            "retry": lambda: executor.retry(job_id),
            "retry_from": lambda: executor.retry(job_id, from_task=PLAN[place]),
            "skip": lambda: executor.skip(job_id, PLAN[place], drawn.value),
        }[verb]
        if self.done(self.forbids(job, verb, place), act) and job is not None:
            self.happened[verb] += 1
            self.expect(job, verb, place, drawn)

    def forbids(
        self, job: JobModel | None, verb: str, place: int | None = None
    ) -> type[Exception] | None:
        """What the verb raises, None when it is allowed; *place* is that of the task it names."""
        if job is None:
            return JobNotFound
        is_wrong = job.status not in ALLOWED[verb]
        if verb == "resume":
            is_wrong = is_wrong and (job.status, job.requested) != ("RUNNING", "pause")
        elif verb == "pause":
            is_wrong = is_wrong or job.requested == "cancel"
        elif verb == "retry_from" and place is not None:
            is_wrong = is_wrong or place > job.position
        elif verb == "skip":
            is_handled = bool(job.handler) and (job.lease or 0.0) > self.now
            is_wrong = is_wrong or is_handled or place not in {None, job.position}
        return InvalidTransition if is_wrong else None

    def done(self, refusal: type[BaseException] | None, act: Callable[[], Any]) -> bool:
        """Do it; whether it was done. What is refused has changed nothing."""
        if refusal is None:
            act()
            return True
        before = everything()
        with pytest.raises(refusal):
            act()
        assert everything() == before
        self.happened["forbidden"] += 1
        return False

    def expect(self, job: JobModel, verb: str, place: int, drawn: Drawn) -> None:
        """What the verb makes of the job."""
        is_running = job.status == "RUNNING"
        if verb == "cancel" and is_running and not drawn.yes:
            job.requested = "cancel"
        elif verb == "cancel":
            job.cancel(self.now)
        elif verb == "pause":
            job.requested, job.status = ("pause", "RUNNING") if is_running else ("", "PAUSED")
        elif verb == "resume":
            due = "WAITING" if job.due > self.now else "READY"
            job.requested, job.status = "", "RUNNING" if is_running else due
        elif verb == "skip":
            job.skip(self.now, drawn.value)
        else:
            end = None if verb == "retry_from" else job.position + 1
            job.retry(self.now, slice(place if verb == "retry_from" else job.position, end))

    def delete(self, drawn: Drawn) -> None:
        job_id = self.pick(drawn, self.known)
        if drawn.place == 0:
            Job.objects.filter(pk=job_id).delete()
        elif drawn.place == 1:
            STORE.delete(f"job:{job_id}")
        elif job_id in self.jobs:
            Job.objects.get(pk=job_id).delete()
        if job_id in self.jobs:
            self.gone(job_id, "deleted")

    # --- parts

    def pick(self, drawn: Drawn, among: list[T]) -> T:
        """One of them, the newest first."""
        return among[-1 - drawn.number % len(among)]

    def holds(self, claim: Claim) -> bool:
        job = self.jobs.get(claim.job_id)
        return job is not None and job.holds(claim.token, claim.handler)

    def gone(self, job_id: UUID, how: str) -> None:
        del self.jobs[job_id]
        self.happened[how] += 1
        for model in (TaskStatus, TaskAttempt, JobEvent):
            assert not model._default_manager.filter(job_id=job_id).exists()

    # --- after each step

    @invariant()
    def the_rows_are_what_the_model_says(self) -> None:
        snapshots = {s.job_id: s for s in read_snapshots(STORE.db, "1 = 1", ())}
        rows = TaskStatus.objects.values_list("job_id", "task_id", "result")
        results = {(job_id, task_id): result for job_id, task_id, result in rows}
        assert set(snapshots) == set(self.jobs)
        for job_id, job in self.jobs.items():
            found = snapshots[job_id]
            seen = (found.status, found.token, found.requested, found.handler)
            assert seen == (job.status, job.token, job.requested, job.handler)
            assert found.next_position == job.position
            assert job.status in FINAL or found.suspect == job.suspect
            self.check_times(found, job)
            for task_id, task in zip(PLAN, job.tasks, strict=True):
                row = found.rows.get(task_id)
                now = (row.status, row.attempts, row.crashes) if row else ("READY", 0, 0)
                assert (task_id, *now) == (task_id, task.status, task.attempts, task.crashes)
                if task.status in DONE:
                    assert repr(results[job_id, task_id]) == repr(task.result)

    def check_times(self, found: Snapshot, job: JobModel) -> None:
        assert (found.lease_left is None) == (job.lease is None)
        if found.lease_left is not None and job.lease is not None:
            assert abs(found.lease_left - (job.lease - self.now)) < SLACK
        if job.status in {"READY", "WAITING"} or job.handler:
            assert abs(found.due_in - (job.due - self.now)) < SLACK


# Once past every verb, so that no run of chance has to come by all of them.
WALK = (
    ("claim", Drawn()),
    ("fail", Drawn(also=True)),
    ("fail", Drawn(also=True)),
    ("verdict", Drawn()),
    *((verb, Drawn()) for verb in ("pause", "resume", "retry", "claim", "show", "a_worker_dies")),
    ("succeed", Drawn(fits=False)),
    ("claim", Drawn()),
    ("fail", Drawn(yes=False)),
    *((verb, Drawn()) for verb in ("promote", "skip", "cancel", "retry_from", "cancel")),
    ("time_passes", Drawn(place=2)),
    ("prune", Drawn()),
    ("delete", Drawn(number=1)),
    ("retry", Drawn(fits=False, number=2)),
)


def walk() -> None:
    machine = Machine()
    try:
        machine.begin(set())
        for verb, drawn in WALK:
            machine.step(verb=verb, **drawn._asdict())
            machine.the_rows_are_what_the_model_says()
    finally:
        machine.teardown()


@pytest.fixture
def sequences(db: None) -> Iterator[None]:
    with registry.isolated():
        tasks = [(task_id, same) for task_id in PLAN]
        declare("plain", *tasks)
        declare("handled", *tasks, success_handler=OnSuccess, error_handler=OnError)
        yield


def test_any_order_of_verbs_does_what_the_model_says(sequences: None, seed: int) -> None:
    """However workers, time and people meet: rows and answers are those of the model, and all jobs end."""
    Machine.happened.clear()
    chosen = hypothesis_settings(
        max_examples=sizes().pick(cut=50, full=300),
        stateful_step_count=40,
        deadline=None,
        database=None,
        # A failure is shown as it was found: to make it smaller takes minutes.
        phases=(Phase.generate, Phase.shrink)
        if os.environ.get("CHAOS_SHRINK")
        else (Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    with recorded("R15", seed=seed) as run:
        walk()
        machine = seeded(seed)(type("Seeded", (Machine,), {}))
        run_state_machine_as_test(machine, settings=chosen)
        happened = run.figures = dict(Machine.happened)
        print(happened)
        run.jobs = chosen.max_examples
        run.faults = {"stale writes": happened["stale"], "rescues": happened["rescued"]}
        assert [kind for kind in (*MUST_HAPPEN, *ALLOWED) if not happened.get(kind)] == []
