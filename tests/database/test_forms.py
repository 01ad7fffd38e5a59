"""Every form of task, sync and async, with and without context, injected or not."""

import asyncio
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User

from django_tasks_seq import BaseTask, executor
from django_tasks_seq.testing import drain
from tests.database.conftest import Declare
from tests.testapp.models import Effect

pytestmark = pytest.mark.django_db


class Plain(BaseTask):
    def execute(self, payload: Any) -> Any:
        return ["class", payload]


class WithContext(BaseTask):
    def execute(self, payload: Any, context: Any) -> Any:
        return ["class", payload, context.task_id]


class Async(BaseTask):
    async def execute(self, payload: Any, context: Any) -> Any:
        await asyncio.sleep(0)
        return ["async class", payload, context.attempt]


class NotDerived:
    def execute(self, payload: Any) -> Any:
        return ["duck", payload]


class Kept(BaseTask):
    def __init__(self, prefix: str) -> None:
        self.prefix = prefix

    def execute(self, payload: Any) -> Any:
        return [self.prefix, payload]

    def method(self, payload: Any) -> Any:
        return [self.prefix, payload]

    def __call__(self, payload: Any) -> Any:
        raise AssertionError("`execute` is the task")


def function(payload: Any) -> Any:
    return ["function", payload]


def with_context(payload: Any, context: Any) -> Any:
    return ["function", payload, context.sequence]


def keyword(payload: Any, *, context: Any) -> Any:
    return ["keyword", payload, context.task_id]


def configured(prefix: str, payload: Any, context: Any) -> Any:
    return [prefix, payload, context.attempt]


def defaults(payload: Any, times: int = 3) -> Any:
    return [payload] * times


async def coroutine(payload: Any) -> Any:
    await asyncio.sleep(0)
    return ["async", payload]


FORMS = {
    "class": (Plain, ["class", 7]),
    "class with context": (WithContext, ["class", 7, "t1"]),
    "async class": (Async, ["async class", 7, 1]),
    "class not derived": (NotDerived, ["duck", 7]),
    "object": (Kept("kept"), ["kept", 7]),
    "bound method": (Kept("bound").method, ["bound", 7]),
    "function": (function, ["function", 7]),
    "function with context": (with_context, ["function", 7, "probe"]),
    "keyword context": (keyword, ["keyword", 7, "t1"]),
    "partial": (partial(configured, "bound"), ["bound", 7, 1]),
    "default argument": (defaults, [7, 7, 7]),
    "lambda": (lambda payload: payload + 1, 8),
    "coroutine function": (coroutine, ["async", 7]),
    "partial of a coroutine function": (partial(coroutine), ["async", 7]),
    "builtin": (str, "7"),
}


@pytest.mark.parametrize("form", FORMS)
def test_each_form_of_task_runs(declare: Declare, form: str) -> None:
    """What can be declared as a task is called with the payload, and the context if it takes it."""
    if form == "builtin":
        task: Any = lambda payload: str(payload)  # noqa: E731, PLW0108
    else:
        task = FORMS[form][0]
    declare(task)
    job = executor.start_sequence("probe", 7)
    drain()

    assert job.refresh().error == ""
    assert job.result == FORMS[form][1]


class TaskObject:
    """Looks as a task object of `django.tasks`, for Django versions that have none."""

    def __init__(self, func: Any, takes_context: bool) -> None:
        self.func = func
        self.takes_context = takes_context


def django_task(function: Any, monkeypatch: pytest.MonkeyPatch, **options: Any) -> Any:
    try:
        from django.tasks import task
    except ImportError:
        module = ModuleType("django_tasks.base")
        module.Task = TaskObject  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "django_tasks.base", module)
        return TaskObject(function, options.get("takes_context", False))
    return task(**options)(function)


def context_first(context: Any, payload: Any) -> Any:
    return [payload, context.attempt]


def test_a_django_task_runs(declare: Declare, monkeypatch: pytest.MonkeyPatch) -> None:
    """A `django.tasks` task is called with the payload, its context first if it takes one."""
    declare(
        django_task(function, monkeypatch),
        django_task(context_first, monkeypatch, takes_context=True),
        django_task(coroutine, monkeypatch),
    )
    job = executor.start_sequence("probe", 7)
    drain()

    assert job.refresh().result == ["async", [["function", 7], 1]]


def test_an_async_task_reaches_the_database(declare: Declare) -> None:
    """Async ORM calls and `sync_to_async` in a task work on the test's own transaction."""
    user = User.objects.create(username="anna")

    async def write(payload: Any, context: Any) -> Any:
        found = await User.objects.aget(pk=payload)
        await Effect.objects.acreate(job_id=context.job_id, value=found.username)
        results = await sync_to_async(lambda: dict(context.results))()
        return [await Effect.objects.acount(), results]

    declare(("first", function), ("second", lambda payload: payload[1]), ("third", write))
    job = executor.start_sequence("probe", user.pk)
    drain()

    assert job.refresh().error == ""
    assert job.result == [1, {"first": ["function", user.pk], "second": user.pk}]


# --- injection


class Gateway:
    def __init__(self, name: str) -> None:
        self.name = name


class Charge(BaseTask):
    built = 0

    def __init__(self, gateway: Gateway, retries: int = 3) -> None:
        type(self).built += 1
        self.gateway = gateway
        self.retries = retries

    def execute(self, payload: Any) -> Any:
        return [self.gateway.name, self.retries]


def resolve(kind: type) -> Any:
    """A resolver without a scope."""
    assert kind is Gateway
    return Gateway("plain")


class Scoped:
    """A resolver with a scope around each attempt."""

    def __init__(self) -> None:
        self.entered: list[str] = []

    @contextmanager
    def scope(self) -> Iterator[Callable[[type], Any]]:
        self.entered.append("in")
        try:
            yield lambda kind: Gateway(f"scope {len(self.entered)}")
        finally:
            self.entered.append("out")

    def __call__(self, kind: type) -> Any:
        raise AssertionError("the scope's resolver is the one to ask")


def test_constructor_arguments_are_injected(
    declare: Declare, configure: Callable[..., None]
) -> None:
    """`RESOLVER` gives annotated constructor arguments; those with plain defaults keep them."""
    configure(RESOLVER=resolve)
    declare(Charge)
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().result == ["plain", 3]


def test_a_scope_surrounds_each_attempt(declare: Declare, configure: Callable[..., None]) -> None:
    """A resolver's `scope()` is entered and left around each attempt, also one that raises."""
    scoped = Scoped()
    configure(RESOLVER=scoped)

    def fail(payload: Any) -> Any:
        raise ValueError

    declare(Charge, Charge, fail)
    job = executor.start_sequence("probe")
    scoped.entered.clear()  # the start handler was built in one, too
    drain()

    assert job.refresh().task_results() == {"t1": ["scope 1", 3], "t2": ["scope 3", 3]}
    assert scoped.entered == ["in", "out"] * 3


def test_tasks_are_built_anew_for_each_attempt(
    declare: Declare, configure: Callable[..., None]
) -> None:
    """No instance serves two attempts."""
    configure(RESOLVER=resolve)
    declare(Charge)
    before = Charge.built

    executor.start_many("probe", [None] * 3)
    drain()

    assert Charge.built == before + 3


def test_what_cannot_be_injected_fails_the_task(declare: Declare) -> None:
    """Without a resolver the job fails with the constructor argument's name, and is not lost."""
    declare(Charge)
    job = executor.start_sequence("probe")
    drain()

    assert job.refresh().status == "FAILED"
    assert "CannotInject: Charge needs the constructor argument 'gateway'" in job.error
