"""Reading and writing the documents of one job so that a crash between two of them is no harm.

No handler promises more than one `set` at once. Where several documents change, the job's own is
set first and carries the others in `unwritten` until they are all there: a reader looks there
first, and the next writer finishes what a crash has left.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from ..choices import DONE
from ..exceptions import JobNotFound
from . import rendering
from .base import BaseTaskCacheHandler, job_key, task_key
from .changes import TaskRow
from .rendering import Document


class Journal:
    """The documents of jobs in a handler, each job's as one."""

    def __init__(self, handler: BaseTaskCacheHandler) -> None:
        self._handler = handler

    def find(self, job_id: UUID) -> Document | None:
        """Return the job's document, or None."""
        return self._handler.get(job_key(job_id))

    def job(self, job_id: UUID) -> Document:
        """Return the job's document; raises JobNotFound."""
        document = self.find(job_id)
        if document is None:
            raise JobNotFound(job_id)
        return document

    def task(self, document: Document, task_id: str) -> Document | None:
        """Return the document of one of its task statuses, or None."""
        for task in document.get("unwritten", ()):
            if task["task_id"] == task_id:
                return dict(task)
        return self._handler.get(task_key(UUID(document["id"]), task_id))

    def task_or_new(self, document: Document, task_id: str, position: int) -> Document:
        """Return the document of one of its task statuses, a blank one when there is none."""
        task = self.task(document, task_id)
        return task or rendering.new_task(document["id"], task_id, position)

    def tasks(self, document: Document) -> list[Document]:
        """Return the documents of its task statuses, in order."""
        found = (self.task(document, task_id) for task_id in rendering.plan(document))
        return [task for task in found if task is not None]

    def standing(self, document: Document) -> tuple[int, str | None, TaskRow | None]:
        """Position, payload and row of the task this job stands before; behind the last, no row."""
        plan, position = rendering.plan(document), document["position"]
        payload: str | None = document["payload"]
        if position:
            before = self.task(document, plan[position - 1])
            payload = before["result"] if before else None
        while position < len(plan):
            task = self.task(document, plan[position])
            if task is None:
                return position, payload, None
            if task["status"] not in DONE:
                given = task["payload"]
                return position, payload if given is None else given, rendering.task_row(task)
            payload = task["result"]
            position += 1
        return position, payload, None

    def write_task(self, document: Document, task: Document) -> None:
        """Write a task status alone; the job's document stays as it is."""
        if document.get("unwritten"):
            self.write(document, [task])
        else:
            self._set_task(document, task)

    def write(self, document: Document, tasks: Sequence[Document] = ()) -> None:
        """Write a job's document and with it those of these tasks; the first `set` decides."""
        key = job_key(UUID(document["id"]))
        unwritten = {task["task_id"]: task for task in document.pop("unwritten", ())}
        unwritten |= {task["task_id"]: task for task in tasks}
        if unwritten:
            self._handler.set(key, {**document, "unwritten": list(unwritten.values())})
            for task in unwritten.values():
                self._set_task(document, task)
        self._handler.set(key, document)

    def _set_task(self, document: Document, task: Document) -> None:
        self._handler.set(task_key(UUID(document["id"]), task["task_id"]), task)
