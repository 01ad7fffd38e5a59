"""S19: receivers, handlers, loggers and hooks that raise or hang hold up no job and no other receiver."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.dispatch import Signal

from django_tasks_seq import BaseTaskLogger, executor, signals
from django_tasks_seq.models import Job
from tests.database.conftest import Declare
from tests.database.working import same
from tests.engines import Gate, engine
from tests.helpers import wait_until

pytestmark = pytest.mark.django_db(transaction=True)
Configure = Callable[..., None]

ALL = [
    signals.job_started,
    signals.task_started,
    signals.task_retried,
    signals.task_finished,
    signals.job_finished,
]


@contextmanager
def connected(receiver: Any, *to: Signal) -> Iterator[None]:
    for signal in to:
        signal.connect(receiver, weak=False)
    try:
        yield
    finally:
        for signal in to:
            signal.disconnect(receiver)


def run_two() -> list[Job]:
    jobs = [executor.start_sequence("probe", n) for n in range(2)]
    return [executor.wait(job, 30) for job in jobs]


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_receiver_that_raises_ends_nothing(declare: Declare, kind: type[BaseException]) -> None:
    """Whatever it raises: jobs go on, and the receivers behind it are called."""
    heard: list[str] = []

    def raises(sender: Any, **facts: Any) -> None:
        raise kind

    def hears(sender: Any, **facts: Any) -> None:
        heard.append(str(facts["job_id"]))

    declare(same)
    with connected(raises, *ALL), connected(hears, signals.job_finished), engine():
        jobs = run_two()
        if issubclass(kind, Exception):
            wait_until(lambda: len(heard) == 2, what="the receiver behind it")

    assert [job.status for job in jobs] == ["SUCCESSFUL"] * 2


def test_a_receiver_that_hangs_holds_up_no_job(declare: Declare) -> None:
    """Claims, tasks and checkpoints go on while it hangs; a worker ends all the same."""
    gate = Gate()
    declare(same, same)
    with connected(lambda sender, **facts: gate(), *ALL), engine() as running:
        jobs = run_two()
        gate.wait_for()
        assert [job.status for job in jobs] == ["SUCCESSFUL"] * 2
        assert running.thread.is_alive()
        gate.open()


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt])
def test_a_handler_that_raises_changes_no_outcome(
    declare: Declare, configure: Configure, kind: type[BaseException]
) -> None:
    """It is tried again, then kept as the handler's error; the job stays what it was."""
    configure(HANDLER_ATTEMPTS=1)

    def raises(*args: Any) -> Any:
        raise kind("a handler")

    def fails(payload: Any) -> Any:
        raise ValueError("a task")

    declare(same, name="good", success_handler=raises)
    declare(fails, name="bad", error_handler=raises)
    with engine():
        good, bad = (executor.wait(executor.start_sequence(n), 30) for n in ("good", "bad"))

    assert (good.status, bad.status) == ("SUCCESSFUL", "FAILED")
    assert good.handler_error == f"success: {kind.__name__}: a handler"
    assert bad.handler_error == f"error: {kind.__name__}: a handler"
    assert "a task" in bad.error


def test_a_handler_that_never_returns_is_given_up(declare: Declare, configure: Configure) -> None:
    """With a `TIMEOUT` it is abandoned like a task: its thread is replaced, the outcome stands."""
    configure(HANDLER_ATTEMPTS=1, TIMEOUT=0.2, STOP_GRACE=0.2)
    never = threading.Event()
    declare(same, name="hangs", success_handler=lambda result: never.wait(60))
    declare(same, name="canary")
    try:
        with engine(concurrency=2, stop_grace=0.2):
            hangs = executor.start_sequence("hangs")
            canary = executor.wait(executor.start_sequence("canary"), 30)
            wait_until(lambda: hangs.refresh().is_settled, what="the end of the handler")
    finally:
        never.set()

    assert canary.status == "SUCCESSFUL"
    assert hangs.status == "SUCCESSFUL"
    assert "TaskTimeout" in hangs.handler_error


class BrokenLogger(BaseTaskLogger):
    """A logger of a site whose collector is gone."""

    def _fail(self, *args: Any, **data: Any) -> None:
        raise ConnectionError("the collector is gone")

    set_context = debug = info = warning = error = _fail


def test_a_logger_that_raises_holds_up_no_job(declare: Declare, configure: Configure) -> None:
    """What it raises where the engine logs is put aside; a task that logs gets it itself."""
    configure(LOGGER=BrokenLogger)

    def logs(payload: Any, context: Any) -> Any:
        context.logger.info("hello")

    declare(same, name="quiet")
    declare(logs, name="logs")
    with engine():
        quiet, loud = (executor.wait(executor.start_sequence(n), 30) for n in ("quiet", "logs"))

    assert (quiet.status, loud.status) == ("SUCCESSFUL", "FAILED")
    assert "the collector is gone" in loud.error
