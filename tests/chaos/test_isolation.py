"""R8: sites that ask for REPEATABLE READ or SERIALIZABLE: workers, consumers and people's verbs."""

import random
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import connection, connections
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from django_tasks_seq import TaskSpec, TasksSeqError, atomic, executor, registry
from django_tasks_seq.cache.model import sql
from django_tasks_seq.cache.transient import is_transient
from django_tasks_seq.models import Job, TaskAttempt, TaskStatus
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.test_database_faults import reached_by
from tests.engines import EngineThread, declare, on_threads
from tests.testapp.models import Effect

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True, databases="__all__"),
]

LEVELS = {
    "repeatable read": IsolationLevel.REPEATABLE_READ,
    "serializable": IsolationLevel.SERIALIZABLE,
}
every_level = pytest.mark.parametrize("level", LEVELS)


@contextmanager
def isolated_by(level: str, how: str) -> Iterator[None]:
    """Sessions that begin inside have this isolation level: by Django's option, or by the server's default."""
    known = connections.settings["default"]["OPTIONS"]
    chosen: dict[str, Any] = {"isolation_level": LEVELS[level]}
    if how == "server":
        # As ALTER ROLE … SET does: autocommitted statements have it as well.
        chosen = {
            "options": f"-c default_transaction_isolation={level.replace(' ', chr(92) + ' ')}"
        }
    with reached_by(OPTIONS={**known, **chosen}):
        yield


@pytest.fixture
def given_up(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the database gave a statement of ours, or an atomic task, up."""
    found: Counter[str] = Counter()
    for what, module in (("statements", sql), ("tasks", atomic)):

        def counted(error: BaseException, what: str = what) -> bool:
            found[what] += (answer := is_transient(error))
            return answer

        monkeypatch.setattr(module, "is_transient", counted)
    return found


def isolation_here() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_isolation")
        return str(cursor.fetchone()[0])


@every_level
@pytest.mark.parametrize("how", ["option", "server"])
def test_four_workers_claim_each_job_once(
    level: str, how: str, seed: int, caplog: pytest.LogCaptureFixture, given_up: Counter[str]
) -> None:
    """Nothing is lost or doubled, no task sees a serialization failure, no worker loses its session."""
    count = sizes().pick(cut=120, full=500)
    calls: Counter[tuple[Any, str]] = Counter()
    levels: set[str] = set()

    def plain(payload: Any, context: Any) -> Any:
        calls[context.job_id, context.task_id] += 1
        return payload

    def with_an_effect(payload: Any, context: Any) -> Any:
        levels.add(isolation_here())
        Effect.objects.create(job_id=context.job_id, task_id=context.task_id)
        return plain(payload, context)

    with registry.isolated(), recorded(f"R8 {level} by {how}", seed=seed) as run:
        declare("apart", ("first", plain), TaskSpec("second", with_an_effect, atomic=True))
        executor.start_many("apart", [{"n": n} for n in range(count)])
        with isolated_by(level, how):
            engines = [EngineThread(name=f"apart:{n}", burst=True, concurrency=4) for n in range(4)]
            for one in engines:
                assert one.thread.result(60) == 0
        effects = Counter(Effect.objects.values_list("job_id", flat=True))
        run.jobs, run.faults = count, dict(given_up) or level
        assert levels == {level}, "tasks have what their site asks for"
        run.lost = Job.objects.exclude(status="SUCCESSFUL").count()
        run.doubled = sum(effects.values()) - len(effects)
        run.figures["lost sessions"] = sum("failed, again" in text for text in caplog.messages)
        assert (run.lost, run.doubled, len(effects)) == (0, 0, count)
        assert set(Job.objects.values_list("claim_token", flat=True)) == {1}
        assert TaskStatus.objects.filter(status="SUCCESSFUL").count() == 2 * count
        assert not TaskAttempt.objects.exists()
        assert {n for (_, task), n in calls.items() if task == "first"} == {1}
        assert level != "serializable" or given_up["tasks"], "some were run again"


@every_level
def test_people_and_consumers_never_see_a_serialization_failure(
    level: str, seed: int, given_up: Counter[str]
) -> None:
    """Many ask the same of few jobs at once: each is obeyed, or refused by a rule of ours."""
    threads, rounds = 6, sizes().pick(cut=15, full=60)
    jobs: list[Job] = []
    answers: Counter[str] = Counter()

    def insist() -> None:
        chance = random.Random(f"{seed} {threading.get_ident()}")
        for _ in range(rounds):
            job = chance.choice(jobs)
            verb = chance.choice([executor.pause, executor.resume, consume])
            try:
                verb(job.id)
            except TasksSeqError:
                answers["refused"] += 1
            else:
                answers["obeyed"] += 1

    def consume(job_id: Any) -> None:
        executor.execute_task(job_id, "first")

    with registry.isolated(), recorded(f"R8 verbs, {level}", seed=seed) as run:
        declare("asked", ("first", lambda payload: payload), ("second", lambda payload: payload))
        jobs += executor.start_many("asked", [1, 2, 3])
        with isolated_by(level, "option"):
            on_threads(threads, insist)
        run.jobs, run.faults = len(jobs), dict(given_up)
        run.figures["answers"] = dict(answers)
        assert sum(answers.values()) == threads * rounds
        assert answers["obeyed"]
        assert given_up["statements"], "some were given up, and sent again"
        assert TaskStatus.objects.filter(task_id="first").count() <= len(jobs)
