"""What can be a task, and how it is called: one callable `(payload, context)` for each attempt."""

from __future__ import annotations

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Literal

from asgiref.sync import iscoroutinefunction

from .exceptions import SequenceDeclarationError
from .injection import Resolve, instantiate
from .text import article

__all__ = ["Adapter", "BaseTask", "adapt", "build_instance"]

CALLED_WITH: Final = {
    "error handler": "(error) or (error, context)",
    "success handler": "(result) or (result, context)",
}
Call = Callable[[Any, Any], Any]
Shape = Literal["payload", "payload, context", "payload, *, context"]

# A `django.tasks` task is recognised without importing what is not there: where its class may live.
_TASK_MODULES: Final = ("django.tasks.base", "django_tasks.base", "django_tasks.task")


class BaseTask(ABC):
    """A task as a class: built anew for each attempt, constructor arguments injected.

    Example:
        class ChargeCard(BaseTask):
            def __init__(self, gateway: PaymentGateway):
                self.gateway = gateway

            def execute(self, payload, context):
                return self.gateway.charge(payload["order_id"], key=context.idempotency_key)
    """

    # Any arguments, so that a subclass may leave `context` out, or be `async`, and still be typed.
    @abstractmethod
    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work: `execute(payload)` or `execute(payload, context)`, also `async`.

        `payload` is JSON data: the job's payload in its first task, later the result of the task
        before. What is returned must be JSON data too, and is what the next task receives. What is
        raised fails the attempt.
        """


@dataclass(frozen=True, slots=True)
class Adapter:
    """A task or handler made callable; its signature was looked at once, when it was declared.

    `build(resolve)` gives a callable `(payload, context)` for one attempt, to be awaited when
    `is_async`. `cls` is the class that is built, if it is one.
    """

    name: str
    where: str
    is_async: bool
    build: Callable[[Resolve | None], Call]
    cls: type | None = None


def adapt(task: Any, *, method: str = "execute", what: str = "task") -> Adapter:
    """`task` as an `Adapter`: class or object with `execute`, callable, `django.tasks` task.

    Raises `SequenceDeclarationError` for what cannot be called with `(payload[, context])`. With
    `method="handle_error"` the same is done for handlers; `what` is the word for it in messages.

    >>> adapt(lambda payload: payload + 1).build(None)(1, None)
    2
    """
    if isinstance(task, type):
        return _adapt_class(task, method, what)
    if _is_django_task(task):
        return _adapt_django_task(task, what)
    bound = getattr(task, method, None)
    if callable(bound):
        return _adapt_callable(bound, type(task).__name__, what)
    if callable(task):
        return _adapt_callable(task, _name_of(task), what)
    raise SequenceDeclarationError(_not_callable(task, method, what))


def build_instance(cls: Any, resolve: Resolve | None) -> Any:
    """An instance of `cls` with its constructor arguments injected; an instance as it is."""
    return instantiate(cls, resolve) if isinstance(cls, type) else cls


def _adapt_class(cls: Any, method: str, what: str) -> Adapter:
    function = getattr(cls, method, None)
    if not callable(function):
        raise SequenceDeclarationError(
            f"the {what} {cls.__qualname__} is a class without a method {method!r}."
        )
    if inspect.isabstract(cls):
        names = ", ".join(sorted(cls.__abstractmethods__))
        raise SequenceDeclarationError(
            f"the {what} {cls.__qualname__} is abstract: it does not define {names}."
        )
    name = cls.__qualname__
    is_plain = inspect.isfunction(inspect.getattr_static(cls, method))
    shape = _shape(function, f"{name}.{method}", what, skip=1 if is_plain else 0)

    def build(resolve: Resolve | None) -> Call:
        return _with_shape(getattr(instantiate(cls, resolve), method), shape)

    return Adapter(name, _where(function), _is_async(function), build, cls)


def _adapt_callable(function: Callable[..., Any], name: str, what: str) -> Adapter:
    call = _with_shape(function, _shape(function, name, what))
    return Adapter(name, _where(function), _is_async(function), lambda _resolve: call)


def _adapt_django_task(task: Any, what: str) -> Adapter:
    function: Callable[..., Any] = task.func
    name = _name_of(function)
    if not task.takes_context:
        return _adapt_callable(function, name, what)
    _shape(function, name, what, skip=1)

    # django.tasks passes its context first; ours has the same `attempt`.
    def call(payload: Any, context: Any) -> Any:
        return function(context, payload)

    return Adapter(name, _where(function), _is_async(function), lambda _resolve: call)


def _is_django_task(task: Any) -> bool:
    return any(
        isinstance(task, kind)
        for module in _TASK_MODULES
        if isinstance(kind := getattr(sys.modules.get(module), "Task", None), type)
    )


def _with_shape(function: Callable[..., Any], shape: Shape) -> Call:
    if shape == "payload, context":
        return function
    if shape == "payload":
        return lambda payload, _context: function(payload)
    return lambda payload, context: function(payload, context=context)


def _shape(function: Callable[..., Any], name: str, what: str, *, skip: int = 0) -> Shape:
    """Whether it takes the context, and how; refuses what `(payload[, context])` cannot call."""
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise SequenceDeclarationError(
            f"the {what} {name} is a generator function: it would never run. Return, do not yield."
        )
    try:
        parameters = list(inspect.signature(function).parameters.values())[skip:]
    except ValueError:  # written in C, without a signature
        return "payload"
    positional = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    bound = function.keywords if isinstance(function, partial) else {}
    keyword = {p.name: p for p in parameters if p.kind is p.KEYWORD_ONLY and p.name not in bound}
    takes_any = any(p.kind is p.VAR_POSITIONAL for p in parameters)
    required = [p for p in positional if p.default is p.empty]
    left_over = [n for n, p in keyword.items() if p.default is p.empty and n != "context"]
    if len(required) > 2 or left_over or not (positional or takes_any):
        raise SequenceDeclarationError(
            f"the {what} {name}{inspect.signature(function)} cannot be called with"
            f" {CALLED_WITH.get(what, '(payload) or (payload, context)')}."
        )
    if "context" in keyword:
        return "payload, *, context"
    # A second parameter with a default is the context only if it says so: `retries=3` is not.
    second = positional[1:2]
    is_context = any(p.default is p.empty or p.name in ("context", "ctx") for p in second)
    return "payload, context" if is_context or (takes_any and not second) else "payload"


def _is_async(function: Callable[..., Any]) -> bool:
    return bool(iscoroutinefunction(function)) or bool(
        iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 (not whether, but how)
    )


def _name_of(function: Any) -> str:
    if isinstance(function, partial):
        return f"partial({_name_of(function.func)})"
    return str(getattr(function, "__qualname__", None) or type(function).__name__)


def _where(function: Any) -> str:
    plain = inspect.unwrap(function.func if isinstance(function, partial) else function)
    code = getattr(plain, "__code__", None) or getattr(
        getattr(plain, "__func__", None), "__code__", None
    )
    return f"{code.co_filename}:{code.co_firstlineno}" if code else ""


def _not_callable(task: Any, method: str, what: str) -> str:
    given = f"{type(task).__name__} {task!r:.80}" if task is not None else "None"
    remedy = (
        "Give the function or class itself."
        if isinstance(task, str)
        else (
            f"{article(what).capitalize()} is a class or an object with {method}(),"
            " a function or a django.tasks task."
        )
    )
    return f"{article(given) if task is not None else given} is no {what}. {remedy}"
