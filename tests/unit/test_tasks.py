"""Adapters: every form of task becomes one callable (payload, context)."""

import asyncio
import functools
import sys
import types
from abc import abstractmethod
from typing import Any

import pytest

from django_tasks_seq.exceptions import CannotInject, SequenceDeclarationError
from django_tasks_seq.tasks import BaseTask, adapt, build_instance

CONTEXT = object()


def call(task, payload="in", context=CONTEXT, resolve=None):
    adapter = adapt(task)
    result = adapter.build(resolve)(payload, context)
    return asyncio.run(result) if adapter.is_async else result


def with_payload(payload):
    return ("payload", payload)


def with_context(payload, context):
    return ("both", payload, context)


async def in_async(payload):
    await asyncio.sleep(0)
    return ("async", payload)


async def in_async_with_context(payload, context):
    return ("async both", payload, context)


class Charge(BaseTask):
    def execute(self, payload, context):
        return ("class", payload, context)


class Short(BaseTask):
    def execute(self, payload):
        return ("short", payload)


class Asynchronous(BaseTask):
    async def execute(self, payload):
        return ("async class", payload)


class Unrelated:
    """No subclass of BaseTask, and that is fine."""

    def execute(self, payload, context):
        return ("duck", payload, context)


class Static:
    @staticmethod
    def execute(payload, context):
        return ("static", payload, context)


class OfClass:
    @classmethod
    def execute(cls, payload):
        return ("classmethod", cls.__name__, payload)


class Callable:
    def __call__(self, payload):
        return ("call", payload)


class AsyncCallable:
    async def __call__(self, payload, context):
        return ("async call", payload, context)


def third(first, payload, context):
    return (first, payload, context)


FORMS = [
    (with_payload, ("payload", "in"), False),
    (with_context, ("both", "in", CONTEXT), False),
    (in_async, ("async", "in"), True),
    (in_async_with_context, ("async both", "in", CONTEXT), True),
    (lambda payload: payload * 2, "inin", False),
    (lambda payload, /: payload, "in", False),
    (lambda payload, *, context: (payload, context), ("in", CONTEXT), False),
    (lambda payload, *, context=None: (payload, context), ("in", CONTEXT), False),
    (lambda payload, ctx=None: (payload, ctx), ("in", CONTEXT), False),
    (lambda payload, retries=3: (payload, retries), ("in", 3), False),
    (lambda payload, other, more=1: (payload, other, more), ("in", CONTEXT, 1), False),
    (lambda *args: args, ("in", CONTEXT), False),
    (lambda payload, *args: (payload, args), ("in", (CONTEXT,)), False),
    (lambda payload, **options: (payload, options), ("in", {}), False),
    (Charge, ("class", "in", CONTEXT), False),
    (Short, ("short", "in"), False),
    (Asynchronous, ("async class", "in"), True),
    (Unrelated, ("duck", "in", CONTEXT), False),
    (Static, ("static", "in", CONTEXT), False),
    (OfClass, ("classmethod", "OfClass", "in"), False),
    (Charge(), ("class", "in", CONTEXT), False),
    (Asynchronous(), ("async class", "in"), True),
    (Callable(), ("call", "in"), False),
    (AsyncCallable(), ("async call", "in", CONTEXT), True),
    (functools.partial(third, 1), (1, "in", CONTEXT), False),
    (functools.partial(with_context, context=5), ("both", "in", 5), False),
    (functools.partial(in_async), ("async", "in"), True),
    (Charge().execute, ("class", "in", CONTEXT), False),
    (len, 2, False),
    (str.upper, "IN", False),
]


@pytest.mark.parametrize(("task", "result", "is_async"), FORMS)
def test_every_form_of_task_is_called_with_what_it_takes(task, result, is_async):
    """Classes, objects, functions and partials, sync and async, with and without context."""
    assert call(task) == result
    assert adapt(task).is_async is is_async


def test_a_decorated_function_keeps_its_signature():
    """`functools.wraps` leads to the signature of what is wrapped, and to its line."""

    @functools.wraps(with_payload)
    def wrapper(*args, **kwargs):
        return with_payload(*args, **kwargs)

    assert call(wrapper) == ("payload", "in")
    assert adapt(wrapper).where.endswith(f":{with_payload.__code__.co_firstlineno}")


def test_each_attempt_builds_an_object_of_its_own():
    """A class is instantiated for every build, never shared between attempts."""
    adapter = adapt(Charge)

    first: Any = adapter.build(None)
    second: Any = adapter.build(None)

    assert first.__self__ is not second.__self__
    assert adapter.cls is Charge
    assert adapt(Charge()).cls is None


class Gateway:
    pass


class Injected:
    def __init__(self, gateway: Gateway):
        self.gateway = gateway

    def execute(self, payload):
        return self.gateway


def test_constructor_arguments_are_injected():
    """The resolver of the attempt gives what the constructor is annotated with."""
    gateway = Gateway()

    assert call(Injected, resolve={Gateway: gateway}.get) is gateway
    assert build_instance(Injected, {Gateway: gateway}.get).gateway is gateway
    assert build_instance("as it is", None) == "as it is"


def test_what_is_missing_shows_when_it_is_built():
    """Without a resolver the class can be declared and is refused when it is built."""
    with pytest.raises(CannotInject):
        adapt(Injected).build(None)


def test_names_and_places_are_for_people():
    """An adapter knows what to call the task, and where it is written."""
    assert adapt(with_payload).name == "with_payload"
    assert adapt(Charge).name == "Charge"
    assert adapt(Charge()).name == "Charge"
    assert adapt(Callable()).name == "Callable"
    assert adapt(functools.partial(third, 1)).name == "partial(third)"
    assert adapt(Charge).where.endswith(f"test_tasks.py:{Charge.execute.__code__.co_firstlineno}")
    assert adapt(Charge().execute).where == adapt(Charge).where
    assert adapt(len).where == ""


class Unfinished(BaseTask):
    @abstractmethod
    def extra(self):
        raise NotImplementedError


def generator(payload):
    yield payload


async def async_generator(payload):
    yield payload


REFUSED = [
    ("shop.tasks.send", "a str 'shop.tasks.send' is no task. Give the function or class itself."),
    (None, "None is no task. A task is a class or an object with execute(), a function"),
    (7, "an int 7 is no task."),
    (dict, "the task dict is a class without a method 'execute'."),
    (Unfinished, "the task Unfinished is abstract: it does not define execute, extra."),
    (BaseTask, "the task BaseTask is abstract: it does not define execute."),
    (lambda: None, "() cannot be called with (payload) or (payload, context)."),
    (lambda a, b, c: None, "(a, b, c) cannot be called with (payload) or (payload, context)."),
    (lambda payload, *, key: None, "(payload, *, key) cannot be called with"),
    (lambda *, context: None, "(*, context) cannot be called with"),
    (generator, "the task generator is a generator function: it would never run."),
    (async_generator, "the task async_generator is a generator function"),
]


@pytest.mark.parametrize(("task", "problem"), REFUSED)
def test_what_cannot_be_a_task_is_refused_with_what_was_given(task, problem):
    """The message says what it is and what a task would be."""
    with pytest.raises(SequenceDeclarationError) as caught:
        adapt(task)

    assert problem in str(caught.value)


def test_a_callable_without_a_signature_gets_the_payload(monkeypatch):
    """What is written in C and tells no signature is called with the payload alone."""

    def without_signature(*args, **kwargs):
        raise ValueError("no signature found")

    monkeypatch.setattr("inspect.signature", without_signature)

    assert adapt(with_payload).build(None)("in", CONTEXT) == ("payload", "in")


def test_handlers_are_adapted_by_the_name_of_their_method():
    """The same rules hold for `handle_error` and the like."""

    class Alert:
        def handle_error(self, error, context):
            return (error, context)

    assert adapt(Alert, method="handle_error").build(None)("e", CONTEXT) == ("e", CONTEXT)
    with pytest.raises(
        SequenceDeclarationError, match=r"the error handler .*Alert is a class without"
    ):
        adapt(Alert, method="handle_success", what="error handler")


# --- django.tasks


def plain_task(payload):
    return ("task", payload)


def context_task(context, payload):
    return ("task with context", context, payload)


def no_payload_task(context):
    return None


async def async_task(payload):
    return ("async task", payload)


class BackportTask:
    """Looks as a task object of `django.tasks`, for Django versions that have none."""

    def __init__(self, func, takes_context=False):
        self.func = func
        self.takes_context = takes_context


def django_task(func, *, takes_context=False):
    tasks = sys.modules.get("django.tasks")
    if tasks is None:
        return BackportTask(func, takes_context)
    return tasks.task(takes_context=takes_context)(func)


@pytest.fixture(autouse=True)
def _django_tasks(monkeypatch):
    """Django's own where it has them, else a module in the place of the backport's."""
    try:
        import django.tasks  # noqa: F401
    except ImportError:
        module = types.ModuleType("django_tasks.base")
        module.Task = BackportTask  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "django_tasks.base", module)


def test_a_task_object_of_django_is_called_by_its_function():
    """`@task` objects are recognised, sync and async."""
    assert call(django_task(plain_task)) == ("task", "in")
    assert call(django_task(async_task)) == ("async task", "in")
    assert adapt(django_task(plain_task)).name == "plain_task"


def test_a_task_object_that_takes_a_context_gets_ours_first():
    """`takes_context=True` passes the context where django.tasks passes its own."""
    assert call(django_task(context_task, takes_context=True)) == (
        "task with context",
        CONTEXT,
        "in",
    )


def test_a_task_object_whose_function_takes_no_payload_is_refused():
    """Its signature is looked at like any other."""
    with pytest.raises(SequenceDeclarationError, match="cannot be called with"):
        adapt(django_task(no_payload_task, takes_context=True))
