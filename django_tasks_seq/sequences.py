"""What an app declares: a sequence of tasks, and how each is tried again. No ORM in here.

All that is wrong with a declaration is refused where it is made, with its file and line.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NoReturn, get_args

from .declarations import caller, check_name, is_number, refuse
from .exceptions import SequenceDeclarationError
from .payload_types import supports
from .retry import Retry
from .tasks import Adapter, adapt
from .text import article

__all__ = ["Retry", "TaskSequence", "TaskSpec"]

OnLost = Literal["retry", "fail"]
TASKS_LIMIT: Final = 1000


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
    aliases: Sequence[str] = field(default=(), kw_only=True)
    adapter: Adapter = field(init=False, repr=False)
    declared_at: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        where = caller()
        object.__setattr__(self, "declared_at", where)
        check_name(self.id, "a task id", where, refused=":")
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
            refuse(options, f"retry is {self.retry!r}; give Retry(max_attempts=…).", where)
        if self.timeout is not None and not (is_number(self.timeout, 0) and self.timeout > 0):
            refuse(options, f"timeout is {self.timeout!r}; give seconds above 0, or None.", where)
        if self.on_lost not in get_args(OnLost):
            refuse(options, f"on_lost is {self.on_lost!r}; give 'retry' or 'fail'.", where)
        if self.atomic and self.adapter.is_async:
            refuse(
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
        where = caller()
        check_name(name, "a sequence's name", where)
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
        refuse(f"sequence {self.name!r}", problem, self.declared_at)


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
        refuse(
            f"sequence {sequence!r}", f"tasks is {article(type(tasks).__name__)}, no list.", where
        )
    specs = tuple(_spec(sequence, item, where) for item in tasks)
    if not specs:
        refuse(f"sequence {sequence!r}", "it has no tasks; give at least one.", where)
    if len(specs) > TASKS_LIMIT:
        refuse(
            f"sequence {sequence!r}", f"it has {len(specs)} tasks, {TASKS_LIMIT} at most.", where
        )
    return specs


def _spec(sequence: str, item: Any, where: str) -> TaskSpec:
    if isinstance(item, TaskSpec):
        return item
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        refuse(
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
                refuse(
                    f"sequence {sequence!r}",
                    f"the task id {task_id!r} is used twice, by {both}."
                    " Ids and aliases must differ.",
                    where,
                )
            found[task_id] = position, spec
    return {task_id: spec for task_id, (_, spec) in found.items()}


def _place(position: int, spec: TaskSpec) -> str:
    return f"task {position} ({spec.adapter.name}, declared at {spec.declared_at})"


def _aliases(given: Any, task_id: str, where: str) -> tuple[str, ...]:
    if isinstance(given, str) or not isinstance(given, Iterable):
        refuse(f"task {task_id!r}", f"aliases is {given!r:.80}; give a list of task ids.", where)
    aliases = tuple(given)
    for alias in aliases:
        check_name(alias, "an alias", where, refused=":")
    return aliases
