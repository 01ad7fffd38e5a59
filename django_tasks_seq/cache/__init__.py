"""Where jobs are kept: the handler's base, the store's, and those that are shipped."""

from __future__ import annotations

from .base import BaseJobStore, BaseTaskCacheHandler, job_key, task_key
from .documents import DocumentJobStore, as_store
from .memory import InMemoryTaskCacheHandler
from .model import ModelTaskCacheHandler
from .records import JobRecord

__all__ = [
    "BaseJobStore",
    "BaseTaskCacheHandler",
    "DocumentJobStore",
    "InMemoryTaskCacheHandler",
    "JobRecord",
    "ModelTaskCacheHandler",
    "as_store",
    "job_key",
    "task_key",
]
