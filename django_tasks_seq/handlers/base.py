"""What an app can plug in around a job: who carries it, and what follows its end."""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from threading import RLock
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal
from uuid import UUID

from django.core.signals import setting_changed
from django.dispatch import receiver

from ..conf import get_config, get_resolver, load
from ..exceptions import ConfigurationError, SequenceDeclarationError, TaskFailed
from ..tasks import Adapter, adapt, build_instance

if TYPE_CHECKING:
    from ..sequences import TaskSequence

__all__ = [
    "UNCHANGED",
    "BaseErrorHandler",
    "BaseStartTaskHandler",
    "BaseSuccessHandler",
    "Complete",
    "RetryJob",
    "RetryTask",
    "error_handler_for",
    "handler_due_for",
    "start_handler_for",
    "success_handler_for",
]


class _Unchanged(enum.Enum):
    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "UNCHANGED"


UNCHANGED: Final = _Unchanged.UNCHANGED


@dataclass(frozen=True, slots=True)
class RetryJob:
    """Returned by an error handler: run the job again from its first task.

    Example: `return RetryJob() if error.is_a(StockChanged) else None`
    """


@dataclass(frozen=True, slots=True)
class RetryTask:
    """Returned by an error handler: run the failed task again, with another payload if given.

    Example: `return RetryTask({**context.payload, "courier": "fallback"})`
    """

    payload: Any | Literal[_Unchanged.UNCHANGED] = UNCHANGED


@dataclass(frozen=True, slots=True)
class Complete:
    """Returned by an error handler: the job is successful after all, with this result.

    Example: `return Complete({"shipped": False})`
    """

    result: Any = None


class BaseErrorHandler(ABC):
    """Called once a job has failed, at least once, and again when it raises (`HANDLER_ATTEMPTS`).

    Built anew for each call, constructor arguments injected; `handle_error` may be `async`.

    Example:
        class AlertOps(BaseErrorHandler):
            def handle_error(self, error, context):
                mail_admins(f"{context.sequence} failed", error.traceback)
    """

    @abstractmethod
    def handle_error(self, error: TaskFailed, context: Any) -> Any:
        """What is returned is kept as the job's `error_result`.

        `RetryJob()`, `RetryTask(payload)` and `Complete(result)` change the outcome, each at most
        three times a job.
        """


class BaseSuccessHandler(ABC):
    """Called once a job is successful, at least once, and again when it raises.

    Example:
        class MarkFulfilled(BaseSuccessHandler):
            def handle_success(self, result, context):
                Order.objects.filter(pk=result["order_id"]).update(fulfilled=True)
    """

    @abstractmethod
    def handle_success(self, result: Any, context: Any) -> Any:
        """`result` is what the last task returned; what this returns is not kept."""


class BaseStartTaskHandler(ABC):
    """Brings a due task to whoever runs it: called after the commit, whenever a task becomes due.

    It may be called twice for one task, and a message may be lost: the job's row is the truth, and
    jobs that were not begun are swept. The consumer calls `executor.execute_task(job_id, task_id)`.
    One instance serves the whole process.

    Example:
        class QueueStartTaskHandler(BaseStartTaskHandler):
            def handle_start(self, job_id, task_id, payload):
                queue.put((str(job_id), task_id))
    """

    # Whether its jobs are left to its consumer; a worker claims only jobs that are not carried.
    carried: ClassVar[bool] = True

    @abstractmethod
    def handle_start(self, job_id: UUID, task_id: str, payload: Any) -> None:
        """Tell the consumer that `task_id` of this job is due; what is raised is logged."""


def error_handler_for(sequence: TaskSequence | None) -> Adapter | None:
    """The error handler of `sequence`, or of the settings; call it `(error, context)`."""
    return _adapted(_handler(sequence, "error_handler"), "handle_error", "error handler")


def success_handler_for(sequence: TaskSequence | None) -> Adapter | None:
    """The success handler of `sequence`, or of the settings; call it `(result, context)`."""
    return _adapted(_handler(sequence, "success_handler"), "handle_success", "success handler")


def handler_due_for(sequence: TaskSequence | None, kind: Literal["success", "error"]) -> str:
    """*kind* when such a handler is declared or set, else ""; a broken path counts as declared."""
    find = success_handler_for if kind == "success" else error_handler_for
    try:
        return str(kind) if find(sequence) is not None else ""
    except ConfigurationError:
        return str(kind)


def start_handler_for(sequence: TaskSequence | None = None) -> BaseStartTaskHandler:
    """The start handler of `sequence`, or of the settings: one instance for the whole process.

    Raises `ConfigurationError` when a path cannot be imported or names something else.
    """
    handler = _handler(sequence, "start_task_handler")
    instance: BaseStartTaskHandler = _kept(handler, "start", lambda: _start_handler(handler))
    return instance


def _handler(sequence: TaskSequence | None, role: str) -> Any:
    declared = getattr(sequence, role, None)
    return getattr(get_config(), role) if declared is None else declared


# By identity, since an object that handles need not be hashable; holding it keeps its id its own.
_made: Final[dict[tuple[int, str], tuple[Any, Any]]] = {}
_making: Final = RLock()


def _kept(handler: Any, role: str, make: Callable[[], Any]) -> Any:
    key = id(handler), role
    found = _made.get(key)
    if found is None:
        with _making:
            found = _made.get(key)
            if found is None:
                found = _made[key] = handler, make()
    return found[1]


def _adapted(handler: Any, method: str, what: str) -> Adapter | None:
    if handler is None:
        return None
    adapter: Adapter = _kept(handler, method, lambda: _adapt(handler, method, what))
    return adapter


def _adapt(handler: Any, method: str, what: str) -> Adapter:
    try:
        return adapt(load(handler, what=what), method=method, what=what)
    except SequenceDeclarationError as error:
        raise ConfigurationError(str(error)) from None


def _start_handler(handler: Any) -> BaseStartTaskHandler:
    loaded = load(handler, what="start handler")
    # Not in a scope: what a scope gives is closed with it, and this instance serves the process.
    instance = build_instance(loaded, get_resolver())
    if not isinstance(instance, BaseStartTaskHandler):
        raise ConfigurationError(
            f"{handler!r:.100} is no start handler.", hint="Derive it from BaseStartTaskHandler."
        )
    return instance


@receiver(setting_changed)
def _forget_handlers(*, setting: str, **_: Any) -> None:
    if setting == "TASKS_SEQ":
        _made.clear()
