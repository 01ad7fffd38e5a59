"""Every error of this package, one class a case.

The docstring of a class is its message when nothing more exact is known; what an error knows
besides its text is kept in attributes. `docs_url` leads to cause and remedy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from .text import listing, suggest

__all__ = [
    "CannotInject",
    "ClaimLost",
    "ConfigurationError",
    "DontRetry",
    "IdempotencyConflict",
    "InvalidPayload",
    "InvalidTransition",
    "JobNotCancellable",
    "JobNotFound",
    "JobNotPausable",
    "JobNotResumable",
    "JobNotRetryable",
    "RetryLater",
    "SequenceAlreadyRegistered",
    "SequenceChanged",
    "SequenceDeclarationError",
    "StopTask",
    "StoreNotSupported",
    "TaskFailed",
    "TaskNotSkippable",
    "TaskResultError",
    "TaskTimeout",
    "TasksSeqError",
    "UnknownSequence",
    "UnknownTask",
    "WorkerLost",
]

DOCS_URL: Final = "https://django-tasks-seq.readthedocs.io/en/stable/reference/errors.html"


def _restore(
    kind: type[TasksSeqError], args: tuple[Any, ...], facts: dict[str, Any]
) -> TasksSeqError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(facts)
    return error


class TasksSeqError(Exception):
    """django_tasks_seq refused this or could not do it."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message or _summary(type(self)))

    @property
    def docs_url(self) -> str:
        """Where cause and remedy of this kind of error are written down."""
        return f"{DOCS_URL}#{type(self).__name__.lower()}"

    def __reduce__(self) -> tuple[Callable[..., TasksSeqError], tuple[Any, ...]]:
        # The constructors take facts, not messages: pickling by `args` would call them wrongly.
        return _restore, (type(self), self.args, self.__dict__)


def _summary(kind: type[TasksSeqError]) -> str:
    return (kind.__doc__ or kind.__name__).partition("\n\n")[0].strip()


# --- what was declared or configured wrongly


class SequenceDeclarationError(TasksSeqError):
    """This sequence is declared wrongly."""

    def __init__(self, message: str = "", *, where: str = "") -> None:
        super().__init__(f"{where}: {message}" if where and message else message)
        self.where = where


class SequenceAlreadyRegistered(SequenceDeclarationError):
    """Two sequences have one name."""

    def __init__(self, name: str, first: str, second: str) -> None:
        hint = (
            "The module is imported under two names; import it as the app does."
            if first == second
            else "Give one of them another name."
        )
        super().__init__(
            f"Two sequences are named {name!r}: one declared at {first}, one at {second}. {hint}"
        )
        self.name = name
        self.first = first
        self.second = second
        self.where = second


class ConfigurationError(TasksSeqError):
    """The settings in TASKS_SEQ cannot be used."""

    def __init__(self, message: str = "", *, hint: str = "") -> None:
        super().__init__(f"{message} {hint}".strip())
        self.problem = message
        self.hint = hint


class CannotInject(TasksSeqError):
    """A constructor needs an argument that nobody provides."""

    def __init__(self, message: str = "", *, cls: type | None = None, parameter: str = "") -> None:
        super().__init__(message)
        self.cls = cls
        self.parameter = parameter


class StoreNotSupported(TasksSeqError):
    """The cache handler in use cannot do this."""

    def __init__(self, store: str, verb: str, hint: str = "") -> None:
        remedy = hint or "The default, ModelTaskCacheHandler, can. Nothing was changed."
        super().__init__(f"{store} cannot {verb}. {remedy}")
        self.store = store
        self.verb = verb


# --- what was called wrongly


class UnknownSequence(TasksSeqError):
    """No sequence has this name."""

    def __init__(self, name: str, known: Iterable[str] = (), message: str = "") -> None:
        self.name = name
        self.known = tuple(known)
        parts = (
            f"No sequence named {name!r}.",
            suggest(name, self.known),
            f"Known: {listing(self.known)}." if self.known else "None is registered.",
            "New file? It must be called tasks_sequences.py in an installed app.",
        )
        super().__init__(message or " ".join(part for part in parts if part))


class UnknownTask(TasksSeqError):
    """The sequence has no task of this id."""

    def __init__(self, task_id: str, sequence: str, known: Iterable[str] = ()) -> None:
        self.task_id = task_id
        self.sequence = sequence
        self.known = tuple(known)
        parts = (
            f"{sequence} has no task {task_id!r}.",
            suggest(task_id, self.known),
            f"Its tasks: {listing(self.known)}." if self.known else "",
            "Nothing was changed.",
        )
        super().__init__(" ".join(part for part in parts if part))


class InvalidPayload(TasksSeqError):
    """This payload cannot be stored as JSON."""

    def __init__(self, message: str = "", *, path: str = "") -> None:
        super().__init__(message)
        self.path = path


class TaskResultError(TasksSeqError):
    """What a task returned cannot be stored as JSON."""

    def __init__(self, message: str = "", *, task_id: str = "", path: str = "") -> None:
        super().__init__(message)
        self.task_id = task_id
        self.path = path


class IdempotencyConflict(TasksSeqError):
    """This idempotency key belongs to a job with another payload."""

    def __init__(self, sequence: str, key: str, job_id: object) -> None:
        super().__init__(
            f"{sequence} was already started with the idempotency key {key!r}, as job {job_id},"
            " and with another payload. Use another key, or the same payload to get that job."
            " Nothing was started."
        )
        self.sequence = sequence
        self.key = key
        self.job_id = job_id


class JobNotFound(TasksSeqError):
    """There is no such job."""

    def __init__(self, job: object) -> None:
        super().__init__(f"There is no job {job!s}. It may have been deleted, or never committed.")
        self.job = job


class InvalidTransition(TasksSeqError):
    """The job's status does not allow this; nothing was changed."""

    def __init__(self, message: str = "", *, job: object = None, status: str = "") -> None:
        super().__init__(message)
        self.job = job
        self.status = status


class JobNotRetryable(InvalidTransition):
    """This job cannot be retried as it is now; nothing was changed."""


class JobNotCancellable(InvalidTransition):
    """This job cannot be cancelled as it is now; nothing was changed."""


class JobNotPausable(InvalidTransition):
    """This job cannot be paused as it is now; nothing was changed."""


class JobNotResumable(InvalidTransition):
    """This job is not paused, so it cannot be resumed; nothing was changed."""


class TaskNotSkippable(InvalidTransition):
    """This task cannot be skipped as the job is now; nothing was changed."""


class SequenceChanged(TasksSeqError):
    """The sequence no longer has a task that this job still has to run."""

    def __init__(self, job_id: object, sequence: str, version: int, task_id: str = "") -> None:
        short = str(job_id)[-8:]
        started = f"job {short} was started with {sequence} v{version}"
        if task_id:
            text = (
                f"{started}, whose task {task_id!r} no longer exists. Keep it as an alias"
                f' (TaskSpec(aliases=["{task_id}"])), or run: tasks_seq cancel {short}'
            )
        else:
            text = (
                f"{started}, a sequence that no longer exists. Register it again,"
                f" or run: tasks_seq cancel {short}"
            )
        super().__init__(text)
        self.job_id = job_id
        self.sequence = sequence
        self.version = version
        self.task_id = task_id


# --- how a task ended


class TaskTimeout(TasksSeqError):
    """The task ran longer than its time limit."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(f"The task ran longer than {seconds:g} s." if seconds else "")
        self.seconds = seconds


class TaskFailed(TasksSeqError):
    """How a task failed, as text: the exception itself is never stored, nor rebuilt.

    `exception_class` and `exception_bases` are dotted paths, `attempt` counts from 1.

    Example: `if error.is_a(PaymentDeclined): return Complete({"declined": True})`
    """

    def __init__(
        self,
        *,
        task_id: str,
        attempt: int,
        exception_class: str,
        message: str = "",
        traceback: str = "",
        exception_bases: Iterable[str] = (),
    ) -> None:
        self.task_id: Final = task_id
        self.attempt: Final = attempt
        self.exception_class: Final = exception_class
        self.message: Final = message
        self.traceback: Final = traceback
        self.exception_bases: Final = tuple(exception_bases)
        super().__init__(f"Task {task_id!r} failed: {self.summary}")

    @property
    def summary(self) -> str:
        """Class name and message, as people read it: `WarehouseUnavailable: HTTP 503`."""
        name = self.exception_class.rpartition(".")[2]
        return f"{name}: {self.message}" if self.message else name

    def is_a(self, cls: type[BaseException] | str) -> bool:
        """Whether the task raised this class, or a subclass of it; nothing is imported."""
        path = cls if isinstance(cls, str) else f"{cls.__module__}.{cls.__qualname__}"
        return path == self.exception_class or path in self.exception_bases


# --- what a task may raise


class DontRetry(Exception):
    """Raised by a task: this attempt is the last, whatever `retry` says.

    Example: `raise DontRetry("card declined") from error`
    """


class RetryLater(Exception):
    """Raised by a task: try again after this many seconds, if an attempt is left.

    Example: `raise RetryLater(float(response.headers["Retry-After"]), "HTTP 429")`
    """

    def __init__(self, seconds: float, reason: str = "") -> None:
        super().__init__(reason or f"again in {seconds:g} s")
        self.seconds = seconds
        self.reason = reason


# --- control flow; from BaseException, so that a task's `except Exception` lets it pass


class StopTask(BaseException):
    """Raised by `context.raise_if_stopping()`: the attempt is released and costs nothing."""

    def __init__(self, reason: str = "") -> None:
        super().__init__(reason)
        self.reason = reason


class ClaimLost(BaseException):
    """The job is no longer this worker's: nothing may be recorded under its claim."""

    def __init__(self, job_id: object = None) -> None:
        super().__init__(f"the claim on job {job_id} is lost")
        self.job_id = job_id


class WorkerLost(TasksSeqError):
    """The worker that ran this task is gone; named in the record of the attempt, never raised."""
