"""Promise G11: success and error handlers are due by the commit that ends the job, and durable."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from django_tasks_seq import BaseErrorHandler, BaseSuccessHandler, TaskFailed, executor
from django_tasks_seq.models import Job
from django_tasks_seq.testing import advance, drain
from tests.database.conftest import Declare
from tests.database.working import Failing, Inbox, same

pytestmark = pytest.mark.django_db


class Recorder:
    """A handler in every form, which keeps what it was called with."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.calls: list[tuple[Any, Any]] = []

    def __call__(self, value: Any, context: Any) -> Any:
        self.calls.append((value, context))
        answer = self.answers.pop(0) if self.answers else None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    @property
    def error_class(self) -> type[BaseErrorHandler]:
        recorder = self

        class Handler(BaseErrorHandler):
            def handle_error(self, error: TaskFailed, context: Any) -> Any:
                return recorder(error, context)

        return Handler

    @property
    def success_class(self) -> type[BaseSuccessHandler]:
        recorder = self

        class Handler(BaseSuccessHandler):
            def handle_success(self, result: Any, context: Any) -> Any:
                return recorder(result, context)

        return Handler

    async def acall(self, value: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        return self(value, context)


def test_a_success_handler_gets_the_result(declare: Declare) -> None:
    """It is called once with the last result; what it returns is not kept."""
    recorder = Recorder("ignored")
    declare(same, success_handler=recorder.success_class)
    job = executor.start_sequence("probe", {"n": 1})
    drain()

    ((result, context),) = recorder.calls
    assert result == {"n": 1}
    assert (context.job_id, context.sequence, context.attempt) == (job.id, "probe", 1)
    job.refresh()
    assert (job.status, job.is_settled, job.result) == ("SUCCESSFUL", True, {"n": 1})
    assert (job.error_result, job.handler_error) == (None, "")
    assert context.results == {"t1": {"n": 1}}


def test_an_error_handler_gets_the_failure(declare: Declare) -> None:
    """It is called once with a TaskFailed that tells all as text; its answer is kept."""
    recorder = Recorder({"alerted": True})

    class StockError(LookupError):
        pass

    failing = Failing(error=StockError("sold out"))
    declare(same, failing, error_handler=recorder.error_class)
    job = executor.start_sequence("probe", {"n": 1})
    drain()

    ((error, context),) = recorder.calls
    assert isinstance(error, TaskFailed)
    assert (error.task_id, error.attempt, error.message) == ("t2", 1, "sold out")
    assert error.exception_class.endswith("StockError")
    assert error.is_a(StockError)
    assert error.is_a(LookupError)
    assert not error.is_a(ValueError)
    assert "raise self.error" in error.traceback
    assert context.payload == {"n": 1}
    job.refresh()
    assert (job.status, job.is_settled, job.error_result) == ("FAILED", True, {"alerted": True})


@pytest.mark.parametrize("form", ["class", "function", "async", "object", "one argument"])
def test_handlers_have_every_form(declare: Declare, form: str) -> None:
    """Classes, functions, coroutine functions and objects can be handlers, context or not."""
    good, bad = Recorder(), Recorder("kept")
    forms: dict[str, tuple[Any, Any]] = {
        "class": (good.success_class, bad.error_class),
        "function": (good, bad),
        "async": (good.acall, bad.acall),
        "object": (good.success_class(), bad.error_class()),
        "one argument": (lambda result: good(result, None), lambda error: bad(error, None)),
    }
    success, error = forms[form]
    declare(same, name="good", success_handler=success, error_handler=error)
    declare(Failing(), name="bad", success_handler=success, error_handler=error)
    executor.start_sequence("good", 1)
    job = executor.start_sequence("bad", 1)
    drain()

    assert [result for result, _ in good.calls] == [1]
    assert [error.task_id for error, _ in bad.calls] == ["t1"]
    assert job.refresh().error_result == "kept"


def test_the_settings_have_the_defaults(declare: Declare, configure: Callable[..., None]) -> None:
    """Handlers of the settings serve sequences without their own, and are replaced by those."""
    default, own = Recorder(), Recorder()
    configure(ERROR_HANDLER=default.error_class, SUCCESS_HANDLER=default.success_class)
    declare(same, name="plain")
    declare(Failing(), name="failing")
    declare(same, name="own", success_handler=own.success_class)
    declare(Failing(), name="own failing", error_handler=own.error_class)
    for name in ("plain", "failing", "own", "own failing"):
        executor.start_sequence(name)
    drain()

    assert sorted(context.sequence for _, context in default.calls) == ["failing", "plain"]
    assert sorted(context.sequence for _, context in own.calls) == ["own", "own failing"]


def test_a_dotted_path_names_a_handler(declare: Declare) -> None:
    """A sequence may name its handler by a path, which is imported when it is needed."""
    declare(same, success_handler="tests.database.test_handlers.by_path")
    job = executor.start_sequence("probe", 7)
    drain()

    assert BY_PATH.pop() == 7
    assert job.refresh().is_settled


BY_PATH: list[Any] = []


def by_path(result: Any) -> None:
    BY_PATH.append(result)


def test_a_handler_is_due_by_the_commit_that_ends_the_job(declare: Declare, inbox: Inbox) -> None:
    """Between the job's end and its handler the job is final, and not settled."""
    recorder = Recorder()
    declare(same, success_handler=recorder.success_class)
    job = executor.start_sequence("probe")

    executor.execute_task(job, "t1")

    job.refresh()
    assert (job.status, job.is_final, job.is_settled) == ("SUCCESSFUL", True, False)
    assert recorder.calls == []
    drain()
    assert "@success" in inbox.tasks
    assert executor.execute_task(job, "@success").outcome == "SUCCESSFUL"
    assert job.refresh().is_settled


def test_a_handler_that_raises_is_tried_again(
    declare: Declare, configure: Callable[..., None]
) -> None:
    """It is tried HANDLER_ATTEMPTS times with growing delays; then its error is kept."""
    configure(HANDLER_ATTEMPTS=3)
    recorder = Recorder(*[ConnectionError("no mail")] * 9)
    declare(same, success_handler=recorder.success_class)
    job = executor.start_sequence("probe", 1)
    for _ in range(5):
        drain()
        advance(minutes=2)

    assert [context.attempt for _, context in recorder.calls] == [1, 2, 3]
    job.refresh()
    assert (job.status, job.result, job.is_settled) == ("SUCCESSFUL", 1, True)
    assert job.handler_error == "success: ConnectionError: no mail"
    attempts = job.attempts.order_by("id")
    assert [(row.task_id, row.attempt) for row in attempts] == [("@success", n) for n in (1, 2, 3)]
    assert list(Job.objects.needs_attention()) == [job]


def test_an_error_handler_is_told_the_same_again(declare: Declare) -> None:
    """The second attempt of an error handler sees the failure and the payload of the first."""
    recorder = Recorder(ConnectionError(), "sent")
    declare(lambda payload: {"n": 2}, Failing(), error_handler=recorder.error_class)
    job = executor.start_sequence("probe", {"n": 1})
    drain()
    assert not job.refresh().is_settled
    advance(minutes=2)
    drain()

    (first, before), (second, after) = recorder.calls
    assert (first.task_id, first.message) == (second.task_id, second.message) == ("t2", "no stock")
    assert before.payload == after.payload == {"n": 2}
    assert before.job_payload == after.job_payload == {"n": 1}
    assert before.results == after.results == {"t1": {"n": 2}}
    assert job.refresh().error_result == "sent"


@pytest.mark.parametrize("path", ["tests.database.nowhere.Handler", "tests.database.views.Nothing"])
def test_a_handler_that_cannot_be_imported_is_kept_as_its_error(
    declare: Declare, configure: Callable[..., None], path: str
) -> None:
    """A broken path fails the handler's attempts, not the engine and not the outcome."""
    configure(HANDLER_ATTEMPTS=2)
    declare(same, success_handler=path)
    job = executor.start_sequence("probe")
    drain()
    advance(minutes=2)
    drain()

    job.refresh()
    assert (job.status, job.is_settled) == ("SUCCESSFUL", True)
    assert "cannot be imported" in job.handler_error


def test_an_answer_that_is_no_json_is_the_handlers_error(declare: Declare) -> None:
    """What an error handler returns must be JSON; if not, that is kept as its error."""
    recorder = Recorder(object())
    declare(Failing(), error_handler=recorder.error_class)
    job = executor.start_sequence("probe")
    drain()

    job.refresh()
    assert (job.status, job.error_result) == ("FAILED", None)
    assert job.handler_error.startswith("error: TaskResultError")
    assert len(recorder.calls) == 1


def test_a_handler_of_a_late_declaration_is_not_called(declare: Declare) -> None:
    """A job that ended without a handler gets none when its sequence has one later."""
    sequence = declare(same)
    job = executor.start_sequence("probe")
    drain()
    recorder = Recorder()
    vars(sequence)["success_handler"] = recorder

    advance(hours=1)
    drain()

    assert job.refresh().is_settled
    assert recorder.calls == []


def test_a_handler_that_is_gone_settles_the_job(declare: Declare, inbox: Inbox) -> None:
    """A handler that was due and is not declared any more is nothing to do."""
    sequence = declare(same, success_handler=Recorder())
    job = executor.start_sequence("probe")
    executor.execute_task(job, "t1")
    assert not job.refresh().is_settled
    vars(sequence)["success_handler"] = None

    assert executor.execute_task(job, "@success").outcome == "SUCCESSFUL"
    assert job.refresh().is_settled


def test_cancelled_jobs_have_no_handler(declare: Declare) -> None:
    """Cancelling is neither success nor failure."""
    recorder = Recorder()
    declare(same, success_handler=recorder, error_handler=recorder)
    job = executor.start_sequence("probe")
    executor.cancel(job)
    drain()

    assert recorder.calls == []
    assert job.refresh().is_settled
