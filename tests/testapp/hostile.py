"""Tasks and handlers that do what tasks should not do: to their process, thread, files, texts, database.

`ZOO` names each with how its job ends. What they change they leave changed: the next job has to live
with it. Those that never end by themselves end when the file `payload["until"]` is there.
"""

from __future__ import annotations

import asyncio
import atexit
import gc
import json
import locale
import logging
import os
import signal
import socket
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import connection, connections, transaction

from django_tasks_seq import TaskSequence, TaskSpec, executor, register_sequence
from django_tasks_seq.models import Job
from tests.testapp.models import Account, Effect

if TYPE_CHECKING:
    from django_tasks_seq import TaskContext

LIMIT = 120.0


@dataclass(frozen=True)
class Behaviour:
    """One of them: its sequence, how its job ends, and what its error says."""

    name: str
    status: str
    error: str = ""


ZOO: list[Behaviour] = []


def shown(
    status: str = "SUCCESSFUL", error: str = "", **options: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Put a task into the zoo, as the only task of a sequence of its own; *options* are its spec's."""

    def enter(task: Callable[..., Any]) -> Callable[..., Any]:
        _enter(task.__name__, status, error, [TaskSpec("only", task, **options)])
        return task

    return enter


def _enter(name: str, status: str, error: str, tasks: list[Any], **handlers: Any) -> None:
    register_sequence(TaskSequence(f"hostile_{name}", tasks, **handlers))
    ZOO.append(Behaviour(f"hostile_{name}", status, error))


def wait_until_released(payload: dict[str, Any]) -> None:
    deadline = time.monotonic() + LIMIT
    while not Path(payload["until"]).exists() and time.monotonic() < deadline:
        time.sleep(0.005)


# --- what it raises


@shown("FAILED", "SystemExit: 3")
def exits(payload: Any) -> None:
    sys.exit(3)


@shown("FAILED", "KeyboardInterrupt")
def interrupts(payload: Any) -> None:
    raise KeyboardInterrupt


@shown("FAILED", "GeneratorExit")
def generator_exit(payload: Any) -> None:
    raise GeneratorExit


@shown("FAILED", "RecursionError")
def recurses(payload: Any) -> None:
    recurses(payload)


@shown("FAILED", "ValueError: xxxx")
def thirty_megabytes(payload: Any) -> None:
    raise ValueError("x" * 30_000_000)


@shown("FAILED", "ValueError: a?b")
def nul_in_its_message(payload: Any) -> None:
    raise ValueError("a\0b\ud800")


class Unspeakable(BaseException):
    """It has no text, no repr, and is no Exception."""

    def __str__(self) -> str:
        raise SystemExit(9)

    __repr__ = __str__


@shown("FAILED", "Unspeakable: <the text of this exception could not be made")
def unspeakable(payload: Any) -> None:
    raise Unspeakable


@shown("FAILED", "ValueError: second")
def causes_itself(payload: Any) -> None:
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    raise second


class Unpicklable(Exception):
    """It cannot be copied, and its arguments are locks."""

    def __init__(self) -> None:
        super().__init__(threading.Lock())

    def __reduce__(self) -> Any:
        raise TypeError("no")


@shown("FAILED", "Unpicklable")
def unpicklable(payload: Any) -> None:
    raise Unpicklable


@shown("FAILED", "MemoryError")
def out_of_memory(payload: Any) -> None:
    raise MemoryError


# --- what it returns


@shown("FAILED", "TaskResultError")
def returns_an_object(payload: Any) -> Any:
    return object()


@shown("FAILED", "TaskResultError")
def returns_itself(payload: Any) -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@shown("FAILED", "TaskResultError")
def returns_too_much(payload: Any) -> Any:
    return "x" * (2 * 1024 * 1024)


class Unequal(dict[str, Any]):
    """It ends who compares it."""

    def __eq__(self, other: object) -> bool:
        sys.exit(4)

    __hash__ = None


@shown("FAILED", "SystemExit: 4")
def returns_what_cannot_be_compared(payload: Any) -> Any:
    return Unequal(a=1)


# --- what it does to its process


@shown()
def forks(payload: Any) -> Any:
    """The child ends at once, as `multiprocessing` lets it."""
    warnings.simplefilter("ignore", DeprecationWarning)
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@shown()
def forks_and_both_return(payload: Any) -> Any:
    """The child comes back from the task, into the worker's own code."""
    warnings.simplefilter("ignore", DeprecationWarning)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return payload


@shown(atomic=True)
def forks_inside_a_transaction(payload: Any) -> Any:
    """The child comes back into the transaction of its parent, on its parent's connection."""
    warnings.simplefilter("ignore", DeprecationWarning)
    Effect.objects.create(value="forked")
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    return payload


@shown("FAILED", "SystemExit")
def forks_and_both_exit(payload: Any) -> Any:
    warnings.simplefilter("ignore", DeprecationWarning)
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
    sys.exit(5)


@shown()
def leaves_threads(payload: Any) -> Any:
    """One that is no daemon, one that raises, one that uses the database."""
    threading.Thread(target=wait_until_released, args=(payload,)).start()
    threading.Thread(target=sys.exit, args=("from a thread",), daemon=True).start()
    threading.Thread(target=_use_database, daemon=True).start()
    return payload


def _use_database() -> None:
    Account.objects.count()
    connections.close_all()


@shown()
def changes_folder(payload: Any) -> Any:
    """To one that is gone."""
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
    return payload


@shown("FAILED", "ValueError: signal only works in main thread")
def handles_signals(payload: Any) -> Any:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


@shown("FAILED", "ValueError: signal only works in main thread")
def limits_its_time_by_alarm(payload: Any) -> Any:
    """As a library with a time limit does, which expects to be in the main thread."""
    try:
        signal.signal(signal.SIGALRM, lambda *_: None)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.05)


@shown()
def blocks_signals(payload: Any) -> Any:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    return payload


@shown()
def changes_locale(payload: Any) -> Any:
    locale.setlocale(locale.LC_ALL, "C")
    os.environ["TZ"] = "Asia/Kathmandu"
    time.tzset()
    return payload


@shown()
def empties_its_environment(payload: Any) -> Any:
    kept = {name: value for name, value in os.environ.items() if name.startswith("COVERAGE")}
    os.environ.clear()
    os.environ.update(kept)
    return payload


@shown()
def breaks_json(payload: Any) -> Any:
    """Monkeypatched, as by a library that thinks it is faster."""

    def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("json is broken")

    json.loads = json.dumps = json.load = json.dump = broken
    return payload


@shown()
def sets_what_is_for_all(payload: Any) -> Any:
    socket.setdefaulttimeout(0.000001)
    warnings.simplefilter("error")
    logging.raiseExceptions = True
    threading.excepthook = lambda _: None
    sys.excepthook = lambda *_: None
    gc.disable()
    return payload


@shown()
def hangs_at_exit(payload: Any) -> Any:
    atexit.register(threading.Event().wait)
    return payload


@shown()
def closes_streams(payload: Any) -> Any:
    """Those of Python; the worker prints to them, and so does its log."""
    sys.stdout.close()
    sys.stderr.close()
    return payload


@shown()
def closes_descriptors(payload: Any) -> Any:
    """Those of the process: whatever is opened next takes their numbers."""
    for fd in (0, 1, 2):
        with suppress(OSError):
            os.close(fd)
    return payload


# --- what it does to its connection


@shown()
def leaves_a_transaction(payload: Any) -> Any:
    transaction.atomic().__enter__()
    Account.objects.create(name="left open")
    return payload


@shown()
def begins_by_hand(payload: Any) -> Any:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
    Account.objects.create(name="left open")
    return payload


@shown()
def switches_autocommit_off(payload: Any) -> Any:
    transaction.set_autocommit(False)
    Account.objects.create(name="left open")
    return payload


@shown()
def breaks_its_transaction(payload: Any) -> Any:
    transaction.atomic().__enter__()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT * FROM there_is_no_such_table")
    except Exception:
        connection.needs_rollback = True
    return payload


@shown()
def closes_its_connection(payload: Any) -> Any:
    connection.ensure_connection()
    connection.connection.close()
    return payload


@shown()
def sets_its_session(payload: Any) -> Any:
    """What it sets would break whoever gets this session next; on SQLite there is nothing like it."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET statement_timeout = '10min'")
            cursor.execute("SET search_path = pg_catalog, public")
    return payload


@shown("FAILED", "on_commit hook")
def fails_in_a_commit_hook(payload: Any) -> Any:
    def hook() -> None:
        raise ValueError("in an on_commit hook")

    with transaction.atomic():
        transaction.on_commit(hook)


@shown("gone")
def deletes_its_job(payload: Any, context: TaskContext) -> Any:
    Job.objects.filter(pk=context.job_id).delete()
    return payload


@shown("CANCELLED")
def ends_its_job(payload: Any, context: TaskContext) -> Any:
    executor.cancel(context.job_id, force=True, by="itself")
    return payload


# --- what never ends by itself


@shown("FAILED", "TaskTimeout", timeout=0.2)
def spins(payload: Any) -> None:
    while not os.path.exists(payload["until"]):  # noqa: PTH110
        pass


@shown("FAILED", "TaskTimeout", timeout=0.2)
def hangs(payload: Any) -> None:
    wait_until_released(payload)


@shown("FAILED", "TaskTimeout", timeout=0.2)
def swallows_everything(payload: Any, context: TaskContext) -> None:
    while not Path(payload["until"]).exists():
        try:
            context.raise_if_stopping()
            time.sleep(0.01)
        except BaseException:
            pass


# --- on the event loop


@shown("FAILED", "SystemExit: 6")
async def exits_in_the_loop(payload: Any) -> None:
    sys.exit(6)


@shown("FAILED", "CancelledError")
async def cancels_itself(payload: Any) -> None:
    raise asyncio.CancelledError


@shown()
async def lets_a_child_exit(payload: Any) -> Any:
    """A task of asyncio that raises SystemExit ends the loop that it runs on."""

    async def child() -> None:
        sys.exit(7)

    asyncio.get_running_loop().create_task(child())
    return payload


@shown()
async def stops_the_loop(payload: Any) -> Any:
    asyncio.get_running_loop().stop()
    return payload


@shown()
async def blocks_the_loop(payload: Any) -> Any:
    time.sleep(0.3)  # noqa: ASYNC251 (it is hostile)
    return payload


@shown()
async def leaves_tasks(payload: Any) -> Any:
    for _ in range(100):
        asyncio.get_running_loop().create_task(asyncio.sleep(30))
    return payload


@shown("FAILED", "TaskTimeout", timeout=0.2)
async def will_not_be_cancelled(payload: Any) -> None:
    while not os.path.exists(payload["until"]):  # noqa: PTH110, ASYNC240 (it is hostile)
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0.01)


# --- handlers


def _raises(*args: Any) -> None:
    sys.exit("a handler")


def _fails(payload: Any) -> None:
    raise ValueError("a task")


def _returns_nonsense(*args: Any) -> Any:
    return {1, 2}


def _same(payload: Any) -> Any:
    return payload


_enter("error_handler", "FAILED", "ValueError: a task", [("only", _fails)], error_handler=_raises)
_enter("success_handler", "SUCCESSFUL", "", [("only", _same)], success_handler=_raises)
_enter(
    "error_result",
    "FAILED",
    "ValueError: a task",
    [("only", _fails)],
    error_handler=_returns_nonsense,
)
_enter("hanging_handler", "SUCCESSFUL", "", [("only", _same)], success_handler=wait_until_released)


# --- the canary


def writes(payload: Any, context: TaskContext) -> Any:
    Effect.objects.create(job_id=context.job_id, task_id=context.task_id)
    return payload


async def awaits(payload: Any, context: TaskContext) -> Any:
    await asyncio.sleep(0)
    await Effect.objects.acreate(job_id=context.job_id, task_id=context.task_id)
    return payload


register_sequence(
    TaskSequence(
        "hostile_canary",
        [("writes", writes), TaskSpec("atomic", writes, atomic=True), ("awaits", awaits)],
        success_handler=_same,
    )
)
