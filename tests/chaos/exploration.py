"""Two workers and one job of two tasks, as a model small enough to visit each of its states.

What is allowed is `transitions.py` itself: a move names its verb and every status it writes is looked
up there. What is modelled is the order of things: workers that stand still between any two of their
writes, crashes, leases that end, a rescuer that reads before it writes, and people.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple

from django_tasks_seq.choices import DONE, FINAL, JobStatus as S, TaskState as T
from django_tasks_seq.transitions import JOB, TASK

# So many claims: what two workers can do to each other needs two, a third one shows what follows.
CLAIMS = 3
TASKS = 2
NOBODY = -1
NO_TOKEN, ATTEMPT_AS_TOKEN, NO_RECHECK = "no token", "attempt as token", "no re-check"


class Worker(NamedTuple):
    """A worker that believes it holds the job: its claim, and the task it stands before."""

    token: int
    position: int
    attempt: int


class State(NamedTuple):
    """The job's rows, what each worker believes, and (*holder*, *commits*) what is really so."""

    status: str = S.READY.value
    token: int = 0
    lease: str = ""  # "", "live" or "ended"
    requested: str = ""
    tasks: tuple[str, ...] = (T.READY.value,) * TASKS
    attempts: tuple[int, ...] = (0,) * TASKS
    workers: tuple[Worker | None, ...] = (None, None)
    is_seen: bool = False  # a rescuer has read that the lease had ended
    holder: int = NOBODY
    commits: tuple[int, ...] = (0,) * TASKS

    @property
    def position(self) -> int:
        """The first task that is not done."""
        return next((i for i, status in enumerate(self.tasks) if status not in DONE), TASKS)


class Move(NamedTuple):
    """One step of somebody: its verb ("" writes no status), who writes under a claim, what is then."""

    label: str
    verb: str
    after: State
    writer: int = NOBODY


class Found(NamedTuple):
    """What an exploration found: nothing wrong, or the shortest way to what is."""

    states: int
    problem: str
    trace: tuple[str, ...]
    verbs: frozenset[tuple[str, str, str]]
    stuck: tuple[str, ...] = ()


def explore(bug: str = "") -> Found:
    """Visit every state, the nearest first, until something is wrong."""
    begin = State()
    came_from: dict[State, tuple[State, str]] = {begin: (begin, "")}
    engine_moves: dict[State, list[State]] = {}
    verbs: set[tuple[str, str, str]] = set()
    queue = deque([begin])
    while queue:
        state = queue.popleft()
        for move in moves(state, bug):
            problem = wrong(state, move)
            if problem:
                trace = (*_trace(came_from, state), move.label)
                return Found(len(came_from), problem, trace, frozenset(verbs))
            if move.verb:
                verbs.add((move.verb, state.status, move.after.status))
            if not move.label.startswith("a person"):
                engine_moves.setdefault(move.after, []).append(state)
            if move.after not in came_from:
                came_from[move.after] = (state, move.label)
                queue.append(move.after)
    stuck = _stuck(came_from, engine_moves)
    return Found(len(came_from), "", (), frozenset(verbs), stuck)


def _trace(came_from: dict[State, tuple[State, str]], state: State) -> list[str]:
    labels: list[str] = []
    while True:
        before, label = came_from[state]
        if not label:
            return labels[::-1]
        labels.append(label)
        state = before


def _stuck(
    came_from: dict[State, tuple[State, str]], engine_moves: dict[State, list[State]]
) -> tuple[str, ...]:
    """How to get where no worker's, rescuer's or clock's move leads to an end any more."""
    ends = [s for s in came_from if s.status in FINAL or s.status == S.PAUSED or s.token == CLAIMS]
    alive, queue = set(ends), deque(ends)
    while queue:
        for before in engine_moves.get(queue.popleft(), ()):
            if before not in alive:
                alive.add(before)
                queue.append(before)
    lost = next((state for state in came_from if state not in alive), None)
    return () if lost is None else tuple(_trace(came_from, lost))


# --- what must hold


def wrong(old: State, move: Move) -> str:
    """What is wrong with this step, or nothing."""
    new, verb = move.after, move.verb
    if move.writer not in {NOBODY, old.holder}:
        return f"{verb} of worker {move.writer} is accepted, whose claim is lost"
    if new.token != old.token + (verb == "claim"):
        return f"{verb}: the token goes from {old.token} to {new.token}"
    if verb and not (old.status in JOB[verb].sources and new.status in JOB[verb].targets):
        return f"{verb}: {old.status} becomes {new.status}"
    if not verb and old.status != new.status:
        return f"{move.label}: {old.status} becomes {new.status}"
    return _wrong_tasks(old, new, verb) or _wrong_rows(new)


def _wrong_tasks(old: State, new: State, verb: str) -> str:
    for i, (before, after) in enumerate(zip(old.tasks, new.tasks, strict=True)):
        # A cancel lays a task to rest as a release does, so does the stop of a job.
        table = TASK.get("release" if verb in {"cancel", "stop"} else verb)
        if verb in {"complete_job", "stop"} and after in {T.SUCCESSFUL, T.WAITING}:
            table = TASK["complete_task" if after == T.SUCCESSFUL else "retry_task"]
        if before != after and not (table and before in table.sources and after in table.targets):
            return f"{verb}: task {i} goes from {before} to {after}"
        if before in DONE and before != after and verb != "retry_from":
            return f"{verb}: task {i}, which is {before}, is written over"
    return ""


def _wrong_rows(state: State) -> str:  # noqa: PLR0911 (one for each rule)
    is_running = state.status == S.RUNNING
    if any(count > 1 for count in state.commits):
        return "a task has two outcomes"
    if any(status != T.READY for status in state.tasks[state.position + 1 :]):
        return "a task has begun before the one in front of it is done"
    if is_running != bool(state.lease) or is_running != (state.holder != NOBODY):
        return f"{state.status} with the lease {state.lease!r}"
    if state.status == S.SUCCESSFUL and state.position < TASKS:
        return "SUCCESSFUL, and a task is not done"
    if state.requested and state.status in (*FINAL, S.PAUSED):
        return f"{state.status}, and {state.requested} is still asked for"
    if state.status in FINAL and {T.RUNNING, T.WAITING} & set(state.tasks):
        return f"{state.status}, and a task is {state.tasks}"
    return ""


# --- what can happen


def moves(state: State, bug: str) -> Iterator[Move]:
    """Every step that anybody can make in *state*."""
    for number, worker in enumerate(state.workers):
        if worker is None:
            yield from _claim(state, number)
            continue
        yield Move(f"worker {number} crashes", "", _forget(state, number))
        if _is_fenced(state, worker, bug):
            yield from _under_claim(state, number, worker)
    yield from _upkeep(state, bug)
    yield from _people(state)


def _is_fenced(state: State, worker: Worker, bug: str) -> bool:
    """Whether a write of *worker* is accepted."""
    if state.status not in JOB["complete_task"].sources:
        return False
    if bug == NO_TOKEN:
        return True
    if bug == ATTEMPT_AS_TOKEN:
        return worker.position == state.position and worker.attempt == _attempt(state)
    return worker.token == state.token


def _attempt(state: State) -> int:
    """Number of the attempt that runs, or begins next."""
    if state.position == TASKS:
        return 0
    is_shown = state.tasks[state.position] == T.RUNNING
    return state.attempts[state.position] + (not is_shown)


def _claim(state: State, number: int) -> Iterator[Move]:
    if state.status not in JOB["claim"].sources or state.token == CLAIMS:
        return
    if number and state.workers[0] is None:
        return  # of two that know nothing, either is as good as the other
    worker = Worker(state.token + 1, state.position, _attempt(state))
    after = state._replace(
        status=S.RUNNING.value,
        token=worker.token,
        lease="live",
        holder=number,
        workers=_put(state.workers, number, worker),
    )
    yield Move(f"worker {number} claims", "claim", after)


def _under_claim(state: State, n: int, worker: Worker) -> Iterator[Move]:
    """Writes that the fence has let pass."""
    place, who = worker.position, f"worker {n}"
    if state.lease:
        yield Move(f"{who} renews", "", state._replace(lease="live"), n)
    yield Move(f"{who} defers", "defer", _end(_forget(state, n), S.WAITING), n)
    if place == TASKS:
        yield Move(f"{who} ends the job", "complete_job", _end(_forget(state, n), S.SUCCESSFUL), n)
        return
    done = _task(state, place, T.SUCCESSFUL, worker.attempt)
    done = done._replace(commits=_put(done.commits, place, done.commits[place] + 1))
    if place + 1 == TASKS:
        yield Move(f"{who} succeeds", "complete_job", _end(_forget(done, n), S.SUCCESSFUL), n)
    else:
        onward = Worker(worker.token, place + 1, done.attempts[place + 1] + 1)
        kept = done._replace(workers=_put(done.workers, n, onward))
        yield Move(f"{who} succeeds and goes on", "complete_task", kept, n)
        yield _heeding(f"{who} succeeds and gives up", "complete_task", done, S.READY, n)
    shown = _task(state, place, T.RUNNING, worker.attempt)
    yield Move(f"{who} shows its task", "start_task", shown, n)
    failed = _task(state, place, T.WAITING, worker.attempt)
    yield _heeding(f"{who} fails, to be retried", "retry_task", failed, S.WAITING, n)
    failed = _task(state, place, T.FAILED, worker.attempt)
    yield Move(f"{who} fails for good", "fail_job", _end(_forget(failed, n), S.FAILED), n)
    is_shown = state.tasks[place] == T.RUNNING
    released = _task(state, place, T.READY, worker.attempt - 1) if is_shown else state
    yield _heeding(f"{who} releases", "release", released, S.READY, n)


def _heeding(label: str, verb: str, state: State, status: S, number: int) -> Move:
    """The claim is given up; what a person has asked for is done by the same commit."""
    state = _forget(state, number)
    if state.requested == "cancel":
        return Move(label, "stop", _end(_at_rest(state), S.CANCELLED), number)
    if state.requested == "pause":
        return Move(label, "stop", _end(state, S.PAUSED), number)
    return Move(label, verb, _end(state, status), number)


def _upkeep(state: State, bug: str) -> Iterator[Move]:
    if state.lease == "live":
        yield Move("the lease ends", "", state._replace(lease="ended"))
    if state.status in JOB["promote"].sources:
        yield Move("its time comes", "promote", state._replace(status=S.READY.value))
    is_lost = state.status in JOB["rescue"].sources and state.lease == "ended"
    if is_lost and not state.is_seen:
        yield Move("a rescuer sees it", "", state._replace(is_seen=True))
    if not state.is_seen:
        return
    passed = state._replace(is_seen=False)
    if not is_lost and bug != NO_RECHECK:
        yield Move("the rescuer passes it by", "", passed)
        return
    place = min(passed.position, TASKS - 1)
    is_shown = passed.tasks[place] == T.RUNNING
    again = _task(passed, place, T.READY) if is_shown else passed
    yield Move("the rescuer gives it to others", "rescue", _give_up(again, S.READY))
    if is_shown:
        ended = _end(_task(passed, place, T.FAILED), S.FAILED)
        yield Move("the rescuer fails it", "rescue", ended)


def _people(state: State) -> Iterator[Move]:  # noqa: C901 (one branch for each verb)
    """People's verbs, each under the row's lock: what is forbidden changes nothing."""
    status, place = state.status, state.position
    if status in JOB["request"].sources:
        yield Move("a person asks to cancel", "request", state._replace(requested="cancel"))
        if state.requested != "cancel":
            yield Move("a person asks to pause", "request", state._replace(requested="pause"))
        if state.requested == "pause":
            yield Move("a person withdraws the pause", "request", state._replace(requested=""))
    if status in JOB["cancel"].sources:
        force = " by force" if status == S.RUNNING else ""
        ended = _end(_at_rest(state), S.CANCELLED)
        yield Move(f"a person cancels{force}", "cancel", ended)
    if status in JOB["pause"].sources and state.requested != "cancel":
        yield Move("a person pauses", "pause", _end(state, S.PAUSED))
    if status in JOB["resume"].sources:
        for target in (S.READY, S.WAITING):
            yield Move(f"a person resumes, {target}", "resume", _end(state, target))
    if status in JOB["retry"].sources:
        ready = state if place == TASKS else _task(state, place, T.READY)
        yield Move("a person retries", "retry", _end(ready, S.READY))
    if status in JOB["retry_from"].sources:
        anew = state._replace(tasks=(T.READY.value,) * TASKS, commits=(0,) * TASKS)
        yield Move("a person runs it again from the first task", "retry_from", _end(anew, S.READY))
    if status in JOB["skip"].sources and place < TASKS:
        skipped = _task(state, place, T.SKIPPED)
        if place + 1 == TASKS:
            after = _end(skipped, S.SUCCESSFUL)
        else:
            after = _give_up(skipped, S.PAUSED if status == S.PAUSED else S.READY)
        yield Move("a person skips the next task", "skip", after)


# --- parts


def _put(values: tuple, place: int, value: object) -> tuple:
    return (*values[:place], value, *values[place + 1 :])


def _task(state: State, place: int, status: T, attempts: int | None = None) -> State:
    count = state.attempts[place] if attempts is None else attempts
    return state._replace(
        tasks=_put(state.tasks, place, status.value),
        attempts=_put(state.attempts, place, count),
    )


def _forget(state: State, number: int) -> State:
    return state._replace(workers=_put(state.workers, number, None))


def _give_up(state: State, status: S) -> State:
    """No claim holds; what was requested stays."""
    return state._replace(status=status.value, lease="", holder=NOBODY)


def _end(state: State, status: S) -> State:
    kept = state.requested if status == S.WAITING else ""
    return _give_up(state, status)._replace(requested=kept)


def _at_rest(state: State) -> State:
    place = state.position
    if place < TASKS and state.tasks[place] in (T.RUNNING, T.WAITING):
        return _task(state, place, T.READY)
    return state
