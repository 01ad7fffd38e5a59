"""Promise G5: an `atomic=True` task commits its ORM writes together with its outcome."""

from typing import Any

import pytest
from django.contrib.auth.models import Permission
from django.db import IntegrityError, connection, transaction
from django.db.models import F
from django.db.utils import OperationalError
from django.test.utils import CaptureQueriesContext

from django_tasks_seq import InMemoryTaskCacheHandler, Retry, TaskSpec, executor
from django_tasks_seq.cache.model import group_commit
from django_tasks_seq.models import Job
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, same, statuses
from tests.testapp.models import Account, Effect

pytestmark = pytest.mark.django_db


def effect(payload: Any, context: Any) -> Any:
    """Leave a row."""
    Effect.objects.create(job_id=context.job_id, task_id=context.task_id, attempt=context.attempt)
    return payload


def effects() -> list[int]:
    """Attempts whose row is there."""
    return list(Effect.objects.order_by("id").values_list("attempt", flat=True))


def test_effect_and_outcome_are_there_together(declare: Declare) -> None:
    """The row of an atomic task that succeeded is there once, and its result is stored."""
    declare(TaskSpec("t1", effect, atomic=True), TaskSpec("t2", effect, atomic=True))
    job = executor.start_sequence("probe", 7)
    drain()

    assert effects() == [1, 1]
    assert job.refresh().status == "SUCCESSFUL"
    assert job.task_results() == {"t1": 7, "t2": 7}


def test_a_failed_attempt_leaves_no_effect(declare: Declare) -> None:
    """What an attempt wrote before it raised is rolled back; the attempt is recorded."""

    def work(payload: Any, context: Any) -> Any:
        effect(payload, context)
        if context.attempt < 3:
            raise ValueError("late")
        return payload

    declare(TaskSpec("t1", work, atomic=True, retry=Retry(3, delay=0)))
    job = executor.start_sequence("probe")
    drain()

    assert effects() == [3]
    assert job.refresh().status == "SUCCESSFUL"
    assert job.attempts.count() == 2


def test_a_result_that_is_no_json_takes_the_effect_back(declare: Declare) -> None:
    """An atomic task whose result cannot be stored has not happened."""

    def work(payload: Any, context: Any) -> Any:
        effect(payload, context)
        return {1, 2}

    declare(TaskSpec("t1", work, atomic=True))
    job = executor.start_sequence("probe")
    drain()

    assert effects() == []
    assert job.refresh().error.startswith("t1: TaskResultError")


def test_an_integrity_error_fails_the_attempt(declare: Declare) -> None:
    """A broken constraint in an atomic task is its failure, and rolls it back."""

    def work(payload: Any, context: Any) -> Any:
        effect(payload, context)
        Account.objects.create(pk=1, name="a")
        Account.objects.create(pk=1, name="b")

    declare(TaskSpec("t1", work, atomic=True))
    job = executor.start_sequence("probe")
    drain()

    assert effects() == []
    assert not Account.objects.exists()
    assert job.refresh().error.startswith("t1: IntegrityError")
    assert job.attempts.get().exception_class == "django.db.utils.IntegrityError"


def test_an_error_caught_in_a_savepoint_is_the_tasks_own_affair(declare: Declare) -> None:
    """A task that catches a database error inside its own atomic block succeeds."""

    def work(payload: Any, context: Any) -> Any:
        Account.objects.create(pk=1, name="a")
        try:
            with transaction.atomic():
                Account.objects.create(pk=1, name="b")
        except IntegrityError:
            return "caught"

    declare(TaskSpec("t1", work, atomic=True))
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().result == "caught"
    assert Account.objects.get().name == "a"


@pytest.mark.django_db(transaction=True)
def test_a_deferred_constraint_fails_the_attempt(declare: Declare) -> None:
    """What the database refuses at the commit itself rolls back both, and fails the attempt."""

    def work(payload: Any, context: Any) -> Any:
        effect(payload, context)
        insert_orphan()

    declare(TaskSpec("t1", work, atomic=True))
    job = executor.start_sequence("probe")
    drain()

    assert effects() == []
    assert job.refresh().status == "FAILED"
    assert job.error.startswith("t1: IntegrityError")


def insert_orphan() -> None:
    """A permission of a content type that does not exist: a deferred foreign key."""
    Permission.objects.create(codename="x", name="x", content_type_id=987654321)


@pytest.mark.django_db(transaction=True)
def test_hooks_of_an_atomic_task_run_after_its_commit(declare: Declare) -> None:
    """An `on_commit` hook of the task sees the committed effect; of a failed attempt none runs."""
    called: list[int] = []

    def work(payload: Any, context: Any) -> Any:
        effect(payload, context)
        transaction.on_commit(lambda: called.append(context.attempt))
        if context.attempt == 1:
            raise ValueError

    declare(TaskSpec("t1", work, atomic=True, retry=Retry(2, delay=0)))
    executor.start_sequence("probe")
    drain()

    assert called == [2]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("error", [ValueError("hook"), SystemExit(1), OperationalError("hook")])
def test_a_hook_that_raises_undoes_nothing(declare: Declare, error: BaseException) -> None:
    """The task has been committed when its hooks run: one that raises is logged, the job goes on."""

    def work(payload: Any, context: Any) -> Any:
        effect(payload, context)

        def hook() -> None:
            raise error

        transaction.on_commit(hook)

    declare(TaskSpec("t1", work, atomic=True, retry=Retry(3, delay=0)), same)
    job = executor.start_sequence("probe")
    drain()

    assert effects() == [1]
    assert job.refresh().status == "SUCCESSFUL"
    assert not job.attempts.exists()


def test_a_cancelled_job_refuses_the_effect(declare: Declare, inbox: Inbox) -> None:
    """The fence is taken before the commit: a claim that is lost takes the effect back."""

    def work(payload: Any, context: Any) -> Any:
        effect(payload, context)
        lost.append(Job.objects.filter(pk=context.job_id).update(claim_token=99))

    lost: list[int] = []
    declare(TaskSpec("t1", work, atomic=True))
    job = executor.start_sequence("probe")

    assert executor.execute_task(job, "t1").outcome == "LOST"
    assert lost == [1]
    assert effects() == []
    assert statuses(job) == {}


def test_user_code_runs_before_the_fence(declare: Declare, inbox: Inbox) -> None:
    """The job's row is read for the fence after the task's own last statement."""
    declare(TaskSpec("t1", effect, atomic=True))
    job = executor.start_sequence("probe")
    with CaptureQueriesContext(connection) as queries:
        executor.execute_task(job, "t1")

    texts = [query["sql"] for query in queries]
    effect_at = next(i for i, sql in enumerate(texts) if "testapp_effect" in sql)
    after = [sql for sql in texts[effect_at:] if Job._meta.db_table in sql]
    claim_at = max(i for i, sql in enumerate(texts[:effect_at]) if "handler_attempts" in sql)
    between = [sql for sql in texts[claim_at + 1 : effect_at] if Job._meta.db_table in sql]
    assert between == []
    assert after


def test_a_deadlock_runs_the_task_again_at_no_cost(declare: Declare) -> None:
    """A transient failure of the transaction runs it again; no attempt is used up."""
    tried: list[int] = []

    class DeadlockError(Exception):
        sqlstate = "40P01"
        sqlite_errorcode = 5

    def work(payload: Any, context: Any) -> Any:
        tried.append(context.attempt)
        effect(payload, context)
        if len(tried) < 4:
            raise OperationalError("deadlock detected") from DeadlockError()

    declare(TaskSpec("t1", work, atomic=True))
    job = executor.start_sequence("probe")
    drain()

    assert tried == [1, 1, 1, 1]
    assert effects() == [1]
    assert job.refresh().status == "SUCCESSFUL"


def test_an_outcome_that_the_database_refuses_takes_the_effect_back(
    declare: Declare, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the write of the outcome itself fails, the effect goes and the attempt is failed."""
    declare(TaskSpec("t1", effect, atomic=True))
    job = executor.start_sequence("probe")
    real = group_commit.commit_inside

    def broken(*args: Any) -> Any:
        raise IntegrityError("refused")

    monkeypatch.setattr(group_commit, "commit_inside", broken)
    drain()
    monkeypatch.setattr(group_commit, "commit_inside", real)

    assert effects() == []
    assert job.refresh().error == "t1: IntegrityError: refused"


def test_two_orders_move_one_balance_once_each(declare: Declare) -> None:
    """However often attempts fail, each job moves the money once."""
    account = Account.objects.create(name="shop")
    failing = Failing(times=5)

    def pay(payload: Any, context: Any) -> None:
        Account.objects.filter(pk=account.pk).update(balance=F("balance") + payload)
        failing(payload, context)

    declare(TaskSpec("pay", pay, atomic=True, retry=Retry(9, delay=0)))
    executor.start_many("probe", [1, 10, 100])
    drain()

    account.refresh_from_db()
    assert len(failing.calls) == 8
    assert account.balance == 111


def test_a_store_that_cannot_says_so(declare: Declare, configure: Any) -> None:
    """A cache handler without transactions fails an atomic task, and says which can."""
    configure(CACHE_HANDLER=InMemoryTaskCacheHandler("atomic"))
    declare(TaskSpec("t1", effect, atomic=True))
    job = executor.start_sequence("probe")
    drain()

    assert effects() == []
    assert "cannot run atomic=True tasks" in job.refresh().error
