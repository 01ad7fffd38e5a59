"""Constructor arguments of tasks and handlers, as `RESOLVER` provides them."""

from __future__ import annotations

import inspect
import sys
import types
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from typing import Any, Final, TypeVar, Union, get_args, get_origin

from .conf import get_resolver
from .exceptions import CannotInject

__all__ = ["Resolve", "instantiate", "scope", "unresolvable"]

Resolve = Callable[[Any], Any]
T = TypeVar("T")

_NO_RESOLVER: Final[AbstractContextManager[Resolve | None]] = nullcontext(None)
_EMPTY: Final = inspect.Parameter.empty


def scope() -> AbstractContextManager[Resolve | None]:
    """What surrounds an attempt: entered, it gives the resolver, or None without `RESOLVER`.

    A resolver with a `scope()` of its own gets that entered, so that what it made for this attempt
    is closed with it.

    Example: `with scope() as resolve: task = instantiate(ChargeCard, resolve)`
    """
    resolver = get_resolver()
    if resolver is None:
        return _NO_RESOLVER
    own_scope: Callable[[], AbstractContextManager[Resolve]] | None = getattr(
        resolver, "scope", None
    )
    return nullcontext(resolver) if own_scope is None else own_scope()


def instantiate(cls: Callable[..., T], resolve: Resolve | None) -> T:
    """`cls()`, its annotated arguments given by `resolve`.

    A default is kept when there is no resolver, no annotation, or when the annotation is a builtin
    type (`retries: int = 3` is configuration). Raises `CannotInject` when an argument is left over;
    what the resolver raises is passed on.
    """
    parameters = _parameters(cls)
    if not parameters:
        return cls()
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for parameter in parameters:
        if resolve is not None and _is_resolvable(parameter):
            value = resolve(_wanted(parameter))
        elif parameter.default is not _EMPTY:
            continue
        else:
            raise _cannot(cls, parameter, resolve)
        if parameter.kind is parameter.POSITIONAL_ONLY:
            args.append(value)
        else:
            kwargs[parameter.name] = value
    return cls(*args, **kwargs)


def unresolvable(cls: type, *, with_resolver: bool) -> list[str]:
    """Names of the constructor arguments that nobody would provide; for the system checks."""
    return [
        parameter.name
        for parameter in _parameters(cls)
        if parameter.default is _EMPTY and not (with_resolver and _is_resolvable(parameter))
    ]


@lru_cache(maxsize=1024)
def _parameters(cls: Any) -> tuple[inspect.Parameter, ...]:
    if cls.__init__ is object.__init__ and cls.__new__ is object.__new__:
        return ()
    return tuple(
        parameter
        for parameter in _signature(cls).parameters.values()
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    )


def _signature(cls: type) -> inspect.Signature:
    try:
        return inspect.signature(cls, eval_str=True)
    except ValueError:  # a constructor written in C
        return inspect.Signature()
    except Exception:  # noqa: BLE001 (an annotation that only a type checker can see)
        return _signature_as_written(cls)


def _signature_as_written(cls: type) -> inspect.Signature:
    if sys.version_info >= (3, 14):  # pragma: no cover
        import annotationlib

        return inspect.signature(cls, annotation_format=annotationlib.Format.FORWARDREF)
    return inspect.signature(cls)


def _is_resolvable(parameter: inspect.Parameter) -> bool:
    wanted = _wanted(parameter)
    if wanted is _EMPTY or isinstance(wanted, str) or type(wanted).__name__ == "ForwardRef":
        return False
    is_configuration = getattr(wanted, "__module__", None) == "builtins"
    return not (is_configuration and parameter.default is not _EMPTY)


def _wanted(parameter: inspect.Parameter) -> Any:
    """The type to ask for: `Gateway` for `Gateway | None` and `Annotated[Gateway, …]`."""
    wanted = parameter.annotation
    if hasattr(wanted, "__metadata__"):
        wanted = wanted.__origin__
    if get_origin(wanted) in (Union, types.UnionType):
        others = [kind for kind in get_args(wanted) if kind is not type(None)]
        if len(others) == 1:
            return others[0]
    return wanted


def _cannot(cls: Any, parameter: inspect.Parameter, resolve: Resolve | None) -> CannotInject:
    name = cls.__qualname__
    if resolve is None:
        text = (
            f"{name} needs the constructor argument {parameter.name!r}, and nobody provides it."
            " Set TASKS_SEQ['RESOLVER'] to a callable (type) -> object,"
            " or give the argument a default."
        )
    elif parameter.annotation is _EMPTY:
        text = (
            f"{name} needs the constructor argument {parameter.name!r}, which has no annotation:"
            " the resolver is asked by type. Annotate it, or give it a default."
        )
    else:
        text = (
            f"{name} needs the constructor argument {parameter.name!r}, whose annotation"
            f" {parameter.annotation!r:.100} is not there at run time."
            " Import it outside `if TYPE_CHECKING`."
        )
    return CannotInject(text, cls=cls, parameter=parameter.name)
