"""What an app declares: a sequence of tasks, and how each is tried again. No ORM in here.

All that is wrong with a declaration is refused where it is made, with its file and line.
"""

from __future__ import annotations

import math
import os
import random as random_module
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, get_args

from .exceptions import DontRetry, RetryLater, SequenceDeclarationError
from .payload_types import supports
from .tasks import Adapter, adapt
from .text import article

__all__ = ["Retry", "TaskSequence", "TaskSpec"]

Backoff = Callable[[BaseException, int], "float | None"]
OnLost = Literal["retry", "fail"]
NAME_LENGTH: Final = 200
TASKS_LIMIT: Final = 1000


@dataclass(frozen=True)
class Retry:
    """How often and when a failed task is tried again; `Retry(1)`, the default, is never.

    The delay before attempt n + 1 is `delay * factor ** (n - 1)` seconds, at most `max_delay`; with
    `jitter` it is a random part of that, so that jobs that failed together do not return together.
    `backoff(exception, attempt)` replaces that formula; None from it means: no further attempt.
    Raises `SequenceDeclarationError` for values that make no sense.

    >>> Retry(max_attempts=3, jitter=False).next_delay(ValueError(), attempt=2)
    2.0
    """

    max_attempts: int
    delay: float = field(default=1.0, kw_only=True)
    factor: float = field(default=2.0, kw_only=True)
    max_delay: float = field(default=3600.0, kw_only=True)
    jitter: bool = field(default=True, kw_only=True)
    backoff: Backoff | None = field(default=None, kw_only=True)
    retry_on: tuple[type[BaseException], ...] = field(default=(Exception,), kw_only=True)
    dont_retry_on: tuple[type[BaseException], ...] = field(default=(), kw_only=True)

    def __post_init__(self) -> None:
        object.__setattr__(self, "retry_on", _exceptions("retry_on", self.retry_on))
        object.__setattr__(self, "dont_retry_on", _exceptions("dont_retry_on", self.dont_retry_on))
        if type(self.max_attempts) is not int or self.max_attempts < 1:
            _refuse("Retry", f"max_attempts is {self.max_attempts!r}; give a whole number from 1.")
        for name, least in (("delay", 0.0), ("factor", 1.0), ("max_delay", 0.0)):
            if not _is_number(getattr(self, name), least):
                _refuse(
                    "Retry", f"{name} is {getattr(self, name)!r}; give a number from {least:g}."
                )
        if self.backoff is not None and not callable(self.backoff):
            _refuse("Retry", f"backoff is {self.backoff!r}; give a callable (exception, attempt).")

    def next_delay(
        self,
        exception: BaseException,
        attempt: int,
        random: Callable[[], float] = random_module.random,
    ) -> float | None:
        """Seconds until the next attempt, or None when there is none.

        `attempt` is the number of attempts of this budget that are used up, from 1. Raises what
        `backoff` raises, and ValueError when that returns anything but seconds or None.
        """
        if attempt >= self.max_attempts or isinstance(exception, DontRetry):
            return None
        if isinstance(exception, RetryLater):
            return _seconds(exception.seconds, "RetryLater")
        if isinstance(exception, self.dont_retry_on) or not isinstance(exception, self.retry_on):
            return None
        if self.backoff is not None:
            seconds = self.backoff(exception, attempt)
            return None if seconds is None else _seconds(seconds, "backoff")
        return self._exponential(attempt) * (random() if self.jitter else 1.0)

    def _exponential(self, attempt: int) -> float:
        try:
            return min(self.max_delay, self.delay * self.factor ** (attempt - 1))
        except OverflowError:
            return self.max_delay


@dataclass(frozen=True, eq=False)
class TaskSpec:
    """A task of a sequence, and how it is run.

    `timeout` is in seconds. `atomic=True`: its ORM writes on the jobs' database commit together
    with its outcome. `on_lost="fail"`: when its worker dies it is failed, not run again. `aliases`
    are ids that jobs of earlier releases may hold.

    Example: `TaskSpec("charge", ChargeCard, retry=Retry(max_attempts=5), timeout=30)`
    """

    id: str
    task: Any
    retry: Retry | None = field(default=None, kw_only=True)
    timeout: float | None = field(default=None, kw_only=True)
    atomic: bool = field(default=False, kw_only=True)
    on_lost: OnLost = field(default="retry", kw_only=True)
    aliases: tuple[str, ...] = field(default=(), kw_only=True)
    adapter: Adapter = field(init=False, repr=False)
    declared_at: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        where = _caller()
        object.__setattr__(self, "declared_at", where)
        _check_name(self.id, "a task id", where, refused=":")
        object.__setattr__(self, "aliases", _aliases(self.aliases, self.id, where))
        object.__setattr__(self, "adapter", self._adapt(where))
        self._check_options(where)

    def _adapt(self, where: str) -> Adapter:
        try:
            return adapt(self.task)
        except SequenceDeclarationError as error:
            raise SequenceDeclarationError(f"task {self.id!r}: {error}", where=where) from None

    def _check_options(self, where: str) -> None:
        options = f"task {self.id!r}"
        if self.retry is not None and not isinstance(self.retry, Retry):
            _refuse(options, f"retry is {self.retry!r}; give Retry(max_attempts=…).", where)
        if self.timeout is not None and not (_is_number(self.timeout, 0) and self.timeout > 0):
            _refuse(options, f"timeout is {self.timeout!r}; give seconds above 0, or None.", where)
        if self.on_lost not in get_args(OnLost):
            _refuse(options, f"on_lost is {self.on_lost!r}; give 'retry' or 'fail'.", where)
        if self.atomic and self.adapter.is_async:
            _refuse(
                options,
                f"{self.adapter.name} ({self.adapter.where}) is async and cannot be atomic:"
                " Django's transactions belong to a thread. Leave atomic out, or make it sync.",
                where,
            )


class TaskSequence:
    """Tasks that run in this order as one job; what one returns is what the next receives.

    `tasks` are `("id", task)` pairs or `TaskSpec`s, at least one. A handler is a class, an object,
    a function or a dotted path; it replaces the one of the settings. `payload_type` (dataclass,
    TypedDict, pydantic model, msgspec Struct) is enforced when a job starts. Raises
    `SequenceDeclarationError`, which names file and line, for whatever could not run.

    Example: `register_sequence(TaskSequence("fulfil_order", [("validate", validate_order)]))`
    """

    name: str
    tasks: tuple[TaskSpec, ...]
    plan: tuple[str, ...]
    error_handler: Any
    success_handler: Any
    start_task_handler: Any
    version: int
    payload_type: Any
    declared_at: str
    _by_id: dict[str, TaskSpec]

    def __init__(
        self,
        name: str,
        tasks: Iterable[TaskSpec | tuple[str, Any]],
        *,
        error_handler: Any = None,
        success_handler: Any = None,
        start_task_handler: Any = None,
        version: int = 1,
        payload_type: Any = None,
    ) -> None:
        where = _caller()
        _check_name(name, "a sequence's name", where)
        specs = _specs(name, tasks, where)
        # Past __setattr__, which keeps a declaration as it was declared.
        vars(self).update(
            name=name,
            tasks=specs,
            plan=tuple(spec.id for spec in specs),
            error_handler=error_handler,
            success_handler=success_handler,
            start_task_handler=start_task_handler,
            version=version,
            payload_type=payload_type,
            declared_at=where,
            _by_id=_by_id(name, specs, where),
        )
        self._check()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{self!r} is frozen: declare another sequence to change {name!r}.")

    def __repr__(self) -> str:
        return f"<TaskSequence {self.name!r}: {', '.join(self.plan)}>"

    def spec(self, task_id: str) -> TaskSpec | None:
        """The task of this id or alias, or None."""
        return self._by_id.get(task_id)

    def _check(self) -> None:
        if type(self.version) is not int or self.version < 1:
            self._refuse(f"version is {self.version!r}; give a whole number from 1.")
        if self.payload_type is not None and not supports(self.payload_type):
            self._refuse(
                f"payload_type is {self.payload_type!r:.80}; give a dataclass, a TypedDict,"
                " a pydantic model or a msgspec Struct."
            )
        for role, method in HANDLER_METHODS.items():
            handler = getattr(self, role)
            if handler is not None and not isinstance(handler, str):
                self._check_handler(role, handler, method)

    def _check_handler(self, role: str, handler: Any, method: str) -> None:
        if role == "start_task_handler":
            if not callable(getattr(handler, method, None)):
                self._refuse(f"{role} {handler!r:.80} has no method {method!r}.")
            return
        try:
            adapt(handler, method=method, what=role.replace("_", " "))
        except SequenceDeclarationError as error:
            self._refuse(str(error))

    def _refuse(self, problem: str) -> NoReturn:
        _refuse(f"sequence {self.name!r}", problem, self.declared_at)


HANDLER_METHODS: Final = {
    "error_handler": "handle_error",
    "success_handler": "handle_success",
    "start_task_handler": "handle_start",
}


# --- the tasks of a sequence


def _specs(
    sequence: str, tasks: Iterable[TaskSpec | tuple[str, Any]], where: str
) -> tuple[TaskSpec, ...]:
    if isinstance(tasks, (str, dict)) or not isinstance(tasks, Iterable):
        _refuse(
            f"sequence {sequence!r}", f"tasks is {article(type(tasks).__name__)}, no list.", where
        )
    specs = tuple(_spec(sequence, item, where) for item in tasks)
    if not specs:
        _refuse(f"sequence {sequence!r}", "it has no tasks; give at least one.", where)
    if len(specs) > TASKS_LIMIT:
        _refuse(
            f"sequence {sequence!r}", f"it has {len(specs)} tasks, {TASKS_LIMIT} at most.", where
        )
    return specs


def _spec(sequence: str, item: Any, where: str) -> TaskSpec:
    if isinstance(item, TaskSpec):
        return item
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        _refuse(
            f"sequence {sequence!r}",
            f"{item!r:.80} is no task; give ('id', task) or TaskSpec('id', task, …).",
            where,
        )
    return TaskSpec(*item)


def _by_id(sequence: str, specs: tuple[TaskSpec, ...], where: str) -> dict[str, TaskSpec]:
    found: dict[str, tuple[int, TaskSpec]] = {}
    for position, spec in enumerate(specs, 1):
        for task_id in (spec.id, *spec.aliases):
            if task_id in found:
                both = f"{_place(*found[task_id])} and {_place(position, spec)}"
                _refuse(
                    f"sequence {sequence!r}",
                    f"the task id {task_id!r} is used twice, by {both}."
                    " Ids and aliases must differ.",
                    where,
                )
            found[task_id] = position, spec
    return {task_id: spec for task_id, (_, spec) in found.items()}


def _place(position: int, spec: TaskSpec) -> str:
    return f"task {position} ({spec.adapter.name}, declared at {spec.declared_at})"


# --- small checks


def _refuse(subject: str, problem: str, where: str = "") -> NoReturn:
    raise SequenceDeclarationError(f"{subject}: {problem}", where=where or _caller())


def _is_number(value: object, least: float) -> bool:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and math.isfinite(value) and value >= least  # type: ignore[arg-type,operator]


def _seconds(value: float, source: str) -> float:
    if not _is_number(value, 0):
        raise ValueError(f"{source} gave {value!r}; seconds from 0 were expected.")
    return float(value)


def _exceptions(name: str, given: Any) -> tuple[type[BaseException], ...]:
    classes = (given,) if isinstance(given, type) else given
    is_iterable = isinstance(classes, Iterable)
    found = tuple(classes) if is_iterable else ()
    if not is_iterable or not all(
        isinstance(cls, type) and issubclass(cls, BaseException) for cls in found
    ):
        _refuse("Retry", f"{name} is {given!r}; give a tuple of exception classes.")
    return found


def _check_name(name: Any, what: str, where: str, refused: str = "") -> None:
    problem = ""
    if not isinstance(name, str):
        problem = f"it is {article(type(name).__name__)}"
    elif not 1 <= len(name) <= NAME_LENGTH:
        problem = f"it is {len(name)} characters long, 1 to {NAME_LENGTH} are allowed"
    elif name != name.strip() or not name.isprintable():
        problem = "it has control characters, or spaces at an end"
    elif name.startswith("@"):
        problem = "names that begin with '@' are reserved"
    elif refused and refused in name:
        problem = f"{refused!r} is reserved"
    if problem:
        raise SequenceDeclarationError(f"{name!r:.80} cannot be {what}: {problem}.", where=where)


def _aliases(given: Any, task_id: str, where: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        _refuse(f"task {task_id!r}", f"aliases is {given!r:.80}; give a list of task ids.", where)
    aliases = tuple(given)
    for alias in aliases:
        _check_name(alias, "an alias", where, refused=":")
    return aliases


def _caller() -> str:
    """`path:line` of the declaration: the nearest frame that is not of this module."""
    frame = sys._getframe(1)  # noqa: SLF001
    while frame.f_back is not None and frame.f_globals.get("__name__") == __name__:
        frame = frame.f_back
    return f"{_relative(frame.f_code.co_filename)}:{frame.f_lineno}"


def _relative(path: str) -> str:
    try:
        return path.removeprefix(f"{os.getcwd()}{os.sep}")  # noqa: PTH109
    except OSError:  # the working directory is gone
        return path
