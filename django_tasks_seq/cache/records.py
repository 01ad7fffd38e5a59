"""What a job looks like where there are no tables: the models' attributes without the ORM."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from asgiref.sync import sync_to_async

from ..choices import FINAL, JobStatus, TaskState

if TYPE_CHECKING:
    from .documents import DocumentJobStore

_JSON = {"plan", "payload", "result", "error_result", "progress"}


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskStatusRecord:
    """One task of a job that has begun, ended, waits or was skipped, as it was when read.

    Example: `[task.status for task in job.task_statuses]`
    """

    task_id: str
    position: int
    status: str
    attempts: int
    result: Any
    error: str
    progress: Any
    worker_name: str
    started_at: datetime | None
    finished_at: datetime | None

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> TaskStatusRecord:
        """The record of a task status's document."""
        return cls(**_values(cls, document))

    def get_status_display(self) -> str:
        """The status as people read it."""
        return str(TaskState(self.status).label)


@dataclass(slots=True, kw_only=True, eq=False)
class JobRecord:
    """A job as it was when read; `refresh()` reads it again.

    Two records are equal when they are of one job, as models are.

    >>> executor.start_sequence("fulfil_order", {"order_id": 7}).refresh().status  # doctest: +SKIP
    'SUCCESSFUL'
    """

    id: UUID
    sequence: str
    version: int
    plan: list[str]
    status: str
    queue: str
    priority: int
    payload: Any
    result: Any
    error: str
    error_result: Any
    handler_error: str
    requested: str
    carried: bool
    run_after: datetime
    idempotency_key: str | None
    subject_type: str
    subject_id: str
    subject_label: str
    created_by: str
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    handler_due: str
    #: False when the idempotency key had started this job before.
    was_started: bool = True
    _store: DocumentJobStore = field(repr=False)

    @classmethod
    def from_document(cls, document: Mapping[str, Any], store: DocumentJobStore) -> JobRecord:
        """The record of a job's document in *store*."""
        return cls(**_values(cls, document), _store=store)

    def __eq__(self, other: object) -> bool:
        return self.id == other.id if isinstance(other, JobRecord) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.id)

    def __str__(self) -> str:
        return self.subject_label or f"{self.sequence} {str(self.id)[:8]}"

    @property
    def pk(self) -> UUID:
        """The id, under the name that a model has for it."""
        return self.id

    @property
    def is_final(self) -> bool:
        """Whether it is SUCCESSFUL, FAILED or CANCELLED."""
        return self.status in FINAL

    @property
    def is_settled(self) -> bool:
        """Whether it is final and no handler of it is due."""
        return self.is_final and not self.handler_due

    def get_status_display(self) -> str:
        """The status as people read it."""
        return str(JobStatus(self.status).label)

    def refresh(self) -> JobRecord:
        """Read this job again; returns itself. Raises JobNotFound when it is gone."""
        fresh = self._store.load(self.id)
        for one in fields(self):
            if one.name != "was_started":
                setattr(self, one.name, getattr(fresh, one.name))
        return self

    async def arefresh(self) -> JobRecord:
        """Async twin of `refresh`."""
        return await sync_to_async(self.refresh)()

    @property
    def task_statuses(self) -> list[TaskStatusRecord]:
        """Task statuses as they are now, in order; only of tasks that have something to tell."""
        return self._store.task_statuses(self.id)

    def task_results(self) -> dict[str, Any]:
        """Results of its tasks that have succeeded or were skipped, by task id."""
        return {
            task_id: None if text is None else json.loads(text)
            for task_id, text in self._store.results(self.id).items()
        }


def _values(cls: type[Any], document: Mapping[str, Any]) -> dict[str, Any]:
    names = [one.name for one in fields(cls) if one.name in document]
    return {name: _value(name, document[name]) for name in names}


def _value(name: str, value: Any) -> Any:
    if value is None:
        return None
    if name == "id":
        return UUID(value)
    if name in _JSON:
        return json.loads(value)
    if name.endswith("_at") or name == "run_after":
        return datetime.fromisoformat(value)
    return value
