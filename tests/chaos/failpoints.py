"""Points of a worker's life at which a test can strike: production code knows nothing of them.

`install` wraps the functions named here, before or after; a process strikes at the one point that its
environment's `TASKS_SEQ_TEST_FAILPOINT` names (`claim.after:kill`), once.
"""

import functools
import importlib
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django.db import OperationalError

from django_tasks_seq import (
    BaseSuccessHandler,
    Retry,
    TaskContext,
    TaskSequence,
    TaskSpec,
    register_sequence,
)
from tests.testapp.hard_sequences import LEDGER, atomic_link, chain_link, fail_at_first, note

CHOSEN = "TASKS_SEQ_TEST_FAILPOINT"
INSTALL = "tests.chaos.failpoints.install"
SEQUENCE = "struck"
EXIT_CODE = 66


@dataclass(frozen=True)
class Point:
    """Before or after a call of the function *name* of *owner* (`module` or `module:Class`)."""

    owner: str
    name: str
    when: str

    def find(self) -> tuple[Any, Callable[..., Any]]:
        """Whose attribute it is, and the function."""
        module, _, cls = self.owner.partition(":")
        owner = importlib.import_module(module)
        owner = getattr(owner, cls) if cls else owner
        return owner, getattr(owner, self.name)


STORE = "django_tasks_seq.cache.model:ModelTaskCacheHandler"
WRITES = "django_tasks_seq.cache.model.writes"
COMMIT = "django_tasks_seq.cache.model.group_commit"

# In the order in which one job meets them.
POINTS = {
    "rescue.between": Point("django_tasks_seq.cache.model.upkeep", "read_snapshots", "after"),
    "claim.before": Point(STORE, "claim", "before"),
    "claim.after": Point(STORE, "claim", "after"),
    "task.before": Point("django_tasks_seq.task_call:TaskCall", "run", "before"),
    "task.after": Point("django_tasks_seq.attempt:Attempt", "call", "after"),
    "checkpoint.before": Point(COMMIT, "commit", "before"),
    "checkpoint.after": Point(COMMIT, "commit", "after"),
    "fence.before": Point(STORE, "apply_inside", "before"),
    "fence.after": Point(STORE, "apply_inside", "after"),
    "atomic.after": Point("django_tasks_seq.task_call", "run_atomic", "after"),
    "failure.after": Point(WRITES, "_commit_changes", "after"),
    "handler.after": Point("django_tasks_seq.handler_call:HandlerCall", "settle", "after"),
}


class Struck(BaseException):
    """What no `except Exception` catches."""


def _raise(error: BaseException) -> None:
    raise error


ACTIONS: dict[str, Callable[[], object]] = {
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "exit": lambda: os._exit(EXIT_CODE),
    "exception": lambda: _raise(RuntimeError("struck")),
    "base": lambda: _raise(Struck("struck")),
    "connection": lambda: _raise(OperationalError("struck: the connection is lost")),
}


def install() -> None:
    """Wrap all functions, and declare the sequence; called when the test app is ready in a worker."""
    declare()
    for name, point in POINTS.items():
        owner, real = point.find()
        setattr(owner, point.name, _wrapped(name, point.when, real))


def declare() -> None:
    """A sequence that meets every point: a plain task, an atomic one, one that is retried, a handler."""
    register_sequence(
        TaskSequence(
            name=SEQUENCE,
            tasks=[
                TaskSpec("first", chain_link, retry=Retry(3, delay=0)),
                TaskSpec("second", atomic_link, atomic=True, retry=Retry(3, delay=0)),
                TaskSpec("third", fail_at_first, retry=Retry(3, delay=0)),
                TaskSpec("fourth", chain_link, retry=Retry(3, delay=0)),
            ],
            success_handler=Noting,
        )
    )


class Noting(BaseSuccessHandler):
    """Leaves a line."""

    def handle_success(self, result: Any, context: TaskContext) -> None:
        note("call", context)


def _wrapped(name: str, when: str, real: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(real)
    def call(*args: Any, **kwargs: Any) -> Any:
        if when == "before":
            strike(name)
        value = real(*args, **kwargs)
        if when == "after":
            strike(name)
        return value

    return call


_struck = False


def strike(name: str) -> None:
    """Act, if this is the point that was chosen, and the first time."""
    global _struck  # noqa: PLW0603 (once for a process, whichever of its threads comes by)
    point, _, action = os.environ.get(CHOSEN, "").partition(":")
    if point != name or _struck:
        return
    _struck = True
    fd = os.open(os.environ[LEDGER], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, f"struck {point} {action} 0 {os.getpid()}\n".encode())
    os.close(fd)
    ACTIONS[action]()
