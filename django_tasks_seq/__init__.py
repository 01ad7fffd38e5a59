"""Durable task sequences for Django: ordered tasks that run as one job.

All public names are here. Importing this package imports no ORM, so that it can be imported by
models, settings and `tasks_sequences` modules; names that need the ORM are loaded when asked for.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .exceptions import (
    CannotInject,
    ConfigurationError,
    DontRetry,
    IdempotencyConflict,
    InvalidPayload,
    InvalidTransition,
    JobNotCancellable,
    JobNotFound,
    JobNotPausable,
    JobNotResumable,
    JobNotRetryable,
    RetryLater,
    SequenceAlreadyRegistered,
    SequenceChanged,
    SequenceDeclarationError,
    StoreNotSupported,
    TaskFailed,
    TaskNotSkippable,
    TaskResultError,
    TasksSeqError,
    TaskTimeout,
    UnknownSequence,
    UnknownTask,
    WorkerLost,
)
from .handlers.base import (
    UNCHANGED,
    BaseErrorHandler,
    BaseStartTaskHandler,
    BaseSuccessHandler,
    Complete,
    RetryJob,
    RetryTask,
)
from .loggers import BaseTaskLogger, StdlibTaskLogger
from .registry import get_sequence, register_sequence
from .sequences import Retry, TaskSequence, TaskSpec
from .signals import (
    job_finished,
    job_started,
    task_finished,
    task_ready,
    task_retried,
    task_started,
)
from .tasks import BaseTask

if TYPE_CHECKING:
    from . import executor
    from .cache import (
        BaseJobStore,
        BaseTaskCacheHandler,
        InMemoryTaskCacheHandler,
        JobRecord,
        ModelTaskCacheHandler,
    )
    from .conf import TasksSeqSettings
    from .consuming import TaskRun
    from .context import TaskContext
    from .executor import TaskExecutor
    from .handlers.start import (
        InlineStartTaskHandler,
        SignalStartTaskHandler,
        WorkerStartTaskHandler,
    )
    from .status import TaskStatusManager

__version__ = "0.1.0"

_LAZY = {
    "BaseJobStore": "cache",
    "BaseTaskCacheHandler": "cache",
    "InMemoryTaskCacheHandler": "cache",
    "InlineStartTaskHandler": "handlers.start",
    "JobRecord": "cache",
    "ModelTaskCacheHandler": "cache",
    "SignalStartTaskHandler": "handlers.start",
    "TaskContext": "context",
    "TaskExecutor": "executor",
    "TaskRun": "consuming",
    "TaskStatusManager": "status",
    "TasksSeqSettings": "conf",
    "WorkerStartTaskHandler": "handlers.start",
}

__all__ = [
    "UNCHANGED",
    "BaseErrorHandler",
    "BaseJobStore",
    "BaseStartTaskHandler",
    "BaseSuccessHandler",
    "BaseTask",
    "BaseTaskCacheHandler",
    "BaseTaskLogger",
    "CannotInject",
    "Complete",
    "ConfigurationError",
    "DontRetry",
    "IdempotencyConflict",
    "InMemoryTaskCacheHandler",
    "InlineStartTaskHandler",
    "InvalidPayload",
    "InvalidTransition",
    "JobNotCancellable",
    "JobNotFound",
    "JobNotPausable",
    "JobNotResumable",
    "JobNotRetryable",
    "JobRecord",
    "ModelTaskCacheHandler",
    "Retry",
    "RetryJob",
    "RetryLater",
    "RetryTask",
    "SequenceAlreadyRegistered",
    "SequenceChanged",
    "SequenceDeclarationError",
    "SignalStartTaskHandler",
    "StdlibTaskLogger",
    "StoreNotSupported",
    "TaskContext",
    "TaskExecutor",
    "TaskFailed",
    "TaskNotSkippable",
    "TaskResultError",
    "TaskRun",
    "TaskSequence",
    "TaskSpec",
    "TaskStatusManager",
    "TaskTimeout",
    "TasksSeqError",
    "TasksSeqSettings",
    "UnknownSequence",
    "UnknownTask",
    "WorkerLost",
    "WorkerStartTaskHandler",
    "executor",
    "get_sequence",
    "job_finished",
    "job_started",
    "register_sequence",
    "task_finished",
    "task_ready",
    "task_retried",
    "task_started",
]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
    if name == "executor":
        return import_module(f"{__name__}.executor")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
