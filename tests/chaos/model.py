"""What a job must be after each verb: the rules of the design, without a database or an engine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

FINAL, DONE = ("SUCCESSFUL", "FAILED", "CANCELLED"), ("SUCCESSFUL", "SKIPPED")
LEASE, DELAY, MAX_CRASHES = 60.0, 45.0, 3


@dataclass
class TaskModel:
    status: str = "READY"
    attempts: int = 0
    crashes: int = 0
    result: Any = None


@dataclass
class JobModel:
    has_handlers: bool
    due: float
    status: str = "READY"
    token: int = 0
    lease: float | None = None  # None: no claim holds
    requested: str = ""
    handler: str = ""
    suspect: bool = False
    finished: float | None = None
    tasks: list[TaskModel] = field(default_factory=lambda: [TaskModel() for _ in range(3)])

    @property
    def position(self) -> int:
        return next((i for i, t in enumerate(self.tasks) if t.status not in DONE), len(self.tasks))

    def holds(self, token: int, handler: str) -> bool:
        is_running = self.handler == handler if handler else self.status == "RUNNING"
        return is_running and self.token == token and self.lease is not None

    def claim(self, now: float, handler: str = "") -> None:
        self.token, self.lease = self.token + 1, now + LEASE
        self.status = self.status if handler else "RUNNING"

    def task(self, status: str) -> TaskModel:
        """The task that it stands before, in another status; one that began has one attempt more."""
        task = self.tasks[self.position]
        task.attempts += status != "SKIPPED" and task.status != "RUNNING"
        task.status = status
        return task

    def end(self, status: str, now: float, handler: str = "", keep: bool = False) -> None:
        self.status, self.finished, self.requested, self.suspect = status, now, "", False
        self.handler = handler if self.has_handlers else ""
        self.due = now if self.handler else self.due
        self.lease = self.lease if keep and self.handler else None

    def leave(self, status: str, now: float, due: float) -> None:
        """To others; or what people have asked for is done."""
        asked, self.requested = self.requested, ""
        self.lease, self.due = None, due
        self.status = "PAUSED" if asked == "pause" else status
        if asked == "cancel":
            self.cancel(now)

    def succeed(self, now: float, result: Any, keep: bool) -> None:
        self.task("SUCCESSFUL").result, self.suspect = result, False
        if self.position == len(self.tasks):
            self.end("SUCCESSFUL", now, "success", keep)
        elif not keep:
            self.leave("READY", now, now)

    def fail(self, now: float, is_last: bool, keep: bool) -> None:
        self.task("FAILED" if is_last else "WAITING")
        self.suspect = False
        if is_last:
            self.end("FAILED", now, "error", keep)
        else:
            self.leave("WAITING", now, now + DELAY)

    def release(self, now: float) -> None:
        if self.tasks[self.position].status == "RUNNING":
            self.task("READY").attempts -= 1
        self.leave("READY", now, self.due)

    def rescue(self, now: float) -> None:
        task, self.status, self.lease = self.tasks[self.position], "READY", None
        if task.status == "RUNNING":
            task.status, task.crashes = "READY", task.crashes + self.suspect
            if self.suspect and task.crashes >= MAX_CRASHES:
                task.status = "FAILED"
                self.end("FAILED", now, "error")
        self.suspect = self.status == "READY"

    def cancel(self, now: float) -> None:
        task = self.tasks[self.position]
        task.status = "READY" if task.status in {"RUNNING", "WAITING"} else task.status
        self.end("CANCELLED", now)

    def retry(self, now: float, renewed: slice) -> None:
        self.end("READY", now)
        self.finished, self.due = None, now
        for task in self.tasks[renewed]:
            task.status, task.crashes, task.result = "READY", 0, None

    def skip(self, now: float, result: Any) -> None:
        asked, self.suspect = self.requested, False
        self.task("SKIPPED").result = result
        if self.position == len(self.tasks):
            self.end("SUCCESSFUL", now, "success")
        elif self.status != "PAUSED":
            self.retry(now, slice(0))
            self.requested = asked
