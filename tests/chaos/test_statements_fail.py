"""R27: each statement of one job's life fails, once before it is executed and once after."""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connection

from django_tasks_seq import BaseSuccessHandler, Retry, TaskSpec, executor, registry
from django_tasks_seq.engine import build_inline_engine, options_from_settings
from django_tasks_seq.models import Job, JobEvent, TaskAttempt, TaskStatus
from django_tasks_seq.testing import advance
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.engines import STORE, declare
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db(transaction=True)

LEASE = 60.0
# A worker that could not begin, one that failed, one that waits for what is lost to expire.
ROUNDS = 6
CALLS = {"first": 1, "second": 1, "third": 2, "@success": 1}


@dataclass
class Saboteur:
    """Raises at the statement number *at* on this thread's connection; a commit is one, too.

    *when* is `before`, `after`, or `never`: then it only counts.
    """

    at: int = 0
    when: str = "never"
    seen: int = 0
    said: str = ""

    def __call__(self, execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        return self.pass_on(partial(execute, sql, params, many, context), sql)

    def pass_on(self, call: Callable[[], Any], what: str) -> Any:
        self.seen += 1
        if self.seen != self.at:
            return call()
        self.said = what[:60]
        if self.when == "before":
            raise OperationalError(f"sabotaged before {what[:60]}")
        call()
        raise OperationalError(f"sabotaged after {what[:60]}")

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Between a thread's connection and its database."""
        real: Any = connection
        commit = real._commit
        real._commit = lambda: self.pass_on(commit, "COMMIT")
        try:
            with connection.execute_wrapper(self):
                yield
        finally:
            del real._commit


class Life:
    """One job of a sequence with all that can happen: how often each of its parts was called."""

    def __init__(self, key: str, saboteur: Saboteur) -> None:
        self.key = key
        self.saboteur = saboteur
        self.calls: Counter[str] = Counter()
        registry_name = f"life {key}"
        declare(
            registry_name,
            ("first", self.plain),
            TaskSpec("second", self.with_an_effect, atomic=True, retry=Retry(5, delay=0)),
            TaskSpec("third", self.failing_at_first, retry=Retry(5, delay=0)),
            success_handler=self.handler(),
        )
        self.name = registry_name

    def handler(self) -> type[BaseSuccessHandler]:
        calls = self.calls

        class Ended(BaseSuccessHandler):
            def handle_success(self, result: Any, context: Any) -> None:
                calls["@success"] += 1

        return Ended

    def plain(self, payload: Any) -> list[str]:
        self.calls["first"] += 1
        return [*payload, "first"]

    def with_an_effect(self, payload: Any, context: Any) -> list[str]:
        self.calls["second"] += 1
        Effect.objects.create(job_id=context.job_id, task_id="second", attempt=context.attempt)
        return [*payload, "second"]

    def failing_at_first(self, payload: Any) -> list[str]:
        self.calls["third"] += 1
        if self.calls["third"] == 1:
            raise ValueError("the first attempt fails")
        return [*payload, "third"]

    def run(self) -> Job:
        """Start it, and let workers work until it is settled."""
        with self.saboteur.at_work():
            self.start()
        for _ in range(ROUNDS):
            with self.saboteur.at_work():
                self.work()
            found = Job.objects.filter(sequence=self.name)
            if found.filter(status="SUCCESSFUL", handler_due="").exists():
                break
            # What was claimed without anybody knowing comes back when its lease ends.
            advance(LEASE + 1)
        return Job.objects.get(sequence=self.name)

    def start(self) -> None:
        """As a caller does who does not know whether his start was committed."""
        for _ in range(2):
            try:
                executor.start_sequence(self.name, ["payload"], idempotency_key=self.key)
            except OperationalError:
                connection.close()
            else:
                return
        raise AssertionError("one fault, and two starts have failed")

    def work(self) -> None:
        """One worker until nothing is due."""
        options = replace(options_from_settings(), burst=True, lease=LEASE, name="sabotaged:1")
        try:
            build_inline_engine(STORE, options).run()
        except OperationalError:
            connection.close()  # it could not even sign in: its supervisor starts another

    def faults(self, job: Job) -> list[str]:
        """What is wrong with how it went."""
        extra = sum((self.calls - Counter(CALLS)).values())
        rows = TaskStatus.objects.filter(job=job)
        facts = {
            f"status {job.status}": job.status != "SUCCESSFUL" or job.handler_due != "",
            f"result {job.result}": job.result != ["payload", "first", "second", "third"],
            f"calls {dict(self.calls)}": extra > 1 or bool(Counter(CALLS) - self.calls),
            "effects": Effect.objects.filter(job_id=job.id).count() != 1,
            "tasks": {row.status for row in rows} != {"SUCCESSFUL"} or rows.count() != 3,
            # Its first attempt has failed, and at most one more did by the fault or was lost with it.
            "attempts": not 1 <= TaskAttempt.objects.filter(job=job).count() <= 2,
            "events": JobEvent.objects.filter(job=job).count() > 1,
        }
        return [what for what, is_wrong in facts.items() if is_wrong]


def count_statements(key: str) -> int:
    """How many a life has in which nothing fails."""
    counting = Saboteur()
    whole = Life(key, counting)
    assert whole.faults(whole.run()) == []
    assert dict(whole.calls) == CALLS
    return counting.seen


def test_a_job_outlives_the_failure_of_any_statement(
    seed: int, caplog: pytest.LogCaptureFixture
) -> None:
    """It ends as it should, with at most one call more than without; its effect is there once."""
    with registry.isolated(), recorded("R27", seed=seed) as run:
        statements = min(count_statements("first"), count_statements("second"))
        cases = [(at, when) for at in range(1, statements + 1) for when in ("before", "after")]
        run.figures["statements"] = statements
        count = sizes().pick(cut=min(24, len(cases)), full=len(cases))
        chosen = sorted(random.Random(seed).sample(cases, count))

        wrong: dict[str, list[str]] = {}
        done: Counter[str] = Counter()
        for at, when in chosen:
            caplog.clear()
            saboteur = Saboteur(at, when)
            life = Life(f"{at} {when}", saboteur)
            job = life.run()
            done[when] += bool(saboteur.said)
            if problems := life.faults(job):
                wrong[f"{when} statement {at}, {saboteur.said}"] = problems
            run.lost += job.status != "SUCCESSFUL"
            run.doubled += max(0, Effect.objects.filter(job_id=job.id).count() - 1)
        run.jobs, run.faults = count, dict(done)
        assert wrong == {}
        # A look more or less, by the clock: the last of a life may not be reached.
        assert sum(done.values()) >= count - 2
