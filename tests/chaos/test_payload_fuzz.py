"""R14: any value at all, as payload and as result: kept exactly, or refused before any SQL."""

import datetime as dt
import enum
import json
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from operator import mul
from typing import Any, NamedTuple

import pytest
from django.db import connection
from hypothesis import (
    HealthCheck,
    given,
    seed as seeded,
    settings as hypothesis_settings,
    strategies as st,
)

from django_tasks_seq import InvalidPayload, Retry, TaskSpec, executor, registry
from django_tasks_seq.models import Job, TaskAttempt, TaskStatus
from django_tasks_seq.payloads import decode
from django_tasks_seq.testing import drain
from tests.chaos.report import Run, recorded
from tests.chaos.sizes import sizes
from tests.counting import cost
from tests.engines import STORE, declare
from tests.unit.test_payloads import any_values, json_values

# What one run of Hypothesis hands over at once: jobs that a worker takes together.
BATCH = 20
RESULT_ERROR = "django_tasks_seq.exceptions.TaskResultError"


class Shade(str, enum.Enum):  # noqa: UP042 (older than StrEnum, and still in use)
    DARK = "dark"


class Loud(str):
    __slots__ = ()

    def __str__(self) -> str:
        raise RuntimeError("never show me")

    def __repr__(self) -> str:
        raise RuntimeError("never show me")


class Sly(dict):
    """Says that it is empty to whoever iterates over it."""

    def __iter__(self) -> Iterator[Any]:
        return iter(())


class Broken:
    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError("never look at me")


def _circle() -> list[Any]:
    value: list[Any] = [1]
    value.append(value)
    return value


def _deep(levels: int) -> Any:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


# Made anew for each use: some can be used up, and some cannot even be shown.
EVIL: dict[str, Callable[[], Any]] = {
    **{repr(value): partial(float, value) for value in ("nan", "inf", "-inf", "-0.0", "5e-324")},
    **{
        ascii(text): partial(str, text)
        for text in ("\0", "a\0", "\ud800", "\udfff tail", "\ufffe\uffff")
    },
    **{ascii(text): partial(str, text) for text in ("\U0010ffff", "\x7f\x1b[31m", "\\u0000")},
    **{f"10 ** {power}": partial(pow, 10, power) for power in (18, 400, 4300, 5000)},
    **{f"{levels} levels": partial(_deep, levels) for levels in (199, 200, 201, 5000)},
    **{f"text of {size}": partial(mul, "x", size) for size in (1_048_574, 1_048_575)},
    "text of two bytes": partial(mul, "ä", 600_000),
    "a circle": _circle,
    "an Enum that is text": lambda: Shade.DARK,
    "text that cannot be shown": lambda: Loud("x"),
    "a dict that hides": lambda: Sly(a=1),
    "what raises when it is looked at": Broken,
    "an OrderedDict": lambda: OrderedDict(b=1, a=[]),
    "a Counter": lambda: Counter("ab"),
    "a deque": lambda: deque([1]),
    "a Decimal": lambda: Decimal("NaN"),
    "a timedelta": lambda: dt.timedelta(1),
    "a date": lambda: dt.date.max,
    "a memoryview": lambda: memoryview(b"x"),
    "a bytearray": lambda: bytearray(b"x"),
    "a range": lambda: range(3),
    "an iterator": lambda: iter([1]),
    "a generator": lambda: (n for n in [1]),
    "a function": lambda: _deep,
    "an object": object,
    "a class": lambda: type,
    "an exception": lambda: ValueError("x"),
    "an Ellipsis": lambda: Ellipsis,
    "a complex": lambda: 1j,
    "a frozenset": lambda: frozenset({1}),
    "a tuple": lambda: (1, [2]),
    "keys that meet": lambda: {1: "a", "1": "b"},
    "a key with NUL": lambda: {"\0": 1},
    "half a key": lambda: {"\ud800": 1},
    "True as a key": lambda: {True: 1},
    "None as a key": lambda: {None: 1},
    "a tuple as a key": lambda: {(1,): 2},
    "a float as a key": lambda: {1.5: 1},
}


class Evil(NamedTuple):
    """Stands for a value: Hypothesis shows what it has drawn."""

    name: str


def real(value: Any) -> Any:
    """*value* with what stands for others in it replaced."""
    if isinstance(value, Evil):
        return EVIL[value.name]()
    if type(value) is list:
        return [real(item) for item in value]
    if type(value) is dict:
        return {key: real(item) for key, item in value.items()}
    return value


evil_leaves = st.sampled_from(sorted(EVIL)).map(Evil)
values = json_values | any_values | evil_leaves | st.lists(evil_leaves, min_size=1, max_size=2)
values |= st.dictionaries(st.text(max_size=2), evil_leaves, max_size=2)


def is_same(one: Any, other: Any) -> bool:
    """Equal, with the same types as JSON knows them, the same signs of zero and the same order of keys."""
    return json.dumps(one, ensure_ascii=False) == json.dumps(other, ensure_ascii=False)


class Returning:
    """A task that returns the value whose place is its payload, and counts its calls."""

    def __init__(self) -> None:
        self.values: list[Any] = []
        self.calls: Counter[int] = Counter()

    def __call__(self, payload: int) -> Any:
        self.calls[payload] += 1
        return self.values[payload]


class Receiving:
    def __init__(self) -> None:
        self.received: dict[Any, Any] = {}

    def __call__(self, payload: Any, context: Any) -> None:
        self.received[context.job_id] = payload


@pytest.fixture
def sequences(db: None) -> Iterator[tuple[Returning, Receiving]]:
    """A sequence whose first task returns anything, and would be tried again if that were a failure."""
    returning, receiving = Returning(), Receiving()
    with registry.isolated():
        again = Retry(5, delay=0, jitter=False)
        declare("any", TaskSpec("returns", returning, retry=again), ("receives", receiving))
        yield returning, receiving


def fuzzed(seed: int, test: Callable[[list[Any]], None]) -> Callable[[], None]:
    """*test* with lists of any values, as many in all as the size asks for."""
    total = sizes().pick(cut=300, full=2000)
    chosen = hypothesis_settings(
        max_examples=total // BATCH,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    lists = st.lists(values, min_size=BATCH, max_size=BATCH)
    return seeded(seed)(chosen(given(lists)(test)))


def noted(run: Run, kept: int, refused: int) -> None:
    run.jobs, run.faults, run.figures = kept, {"refused": refused}, {"kept": kept}
    print(f"{kept} kept, {refused} refused")
    assert kept > BATCH
    assert refused > BATCH


def test_a_payload_is_kept_exactly_or_refused_before_any_sql(sequences: Any, seed: int) -> None:
    """One exception type, and not one statement; else the row, the claim and the text are the value's."""
    kept = refused = 0

    def one_batch(batch: list[Any]) -> None:
        nonlocal kept, refused
        for value in map(real, batch):
            with cost() as spent:
                try:
                    job = executor.start_sequence("any", value)
                except InvalidPayload:
                    assert spent.words == []
                    refused += 1
                    continue
            assert is_same(value, Job.objects.get(pk=job.pk).payload)
            assert is_same(value, job.payload)
            kept += 1
        for claim in STORE.claim((), BATCH, 60.0, None):
            assert is_same(decode(claim.payload), Job.objects.get(pk=claim.job_id).payload)
        Job.objects.all().delete()

    with recorded("R14 payloads", seed=seed) as run:
        fuzzed(seed, one_batch)()
        noted(run, kept, refused)


def test_a_result_is_kept_exactly_or_fails_its_task_for_good(
    sequences: tuple[Returning, Receiving], seed: int
) -> None:
    """The effect has happened: whatever the task returned, it ran once, and the next got just that."""
    returning, receiving = sequences
    kept = refused = 0

    def one_batch(batch: list[Any]) -> None:
        nonlocal kept, refused
        values = returning.values = [real(one) for one in batch]
        returning.calls, receiving.received = Counter(), {}
        jobs = executor.start_many("any", range(len(batch)))
        drain()
        assert returning.calls == Counter(range(len(batch)))
        rows = dict(TaskStatus.objects.filter(task_id="returns").values_list("job_id", "status"))
        for job, value in zip(jobs, values, strict=True):
            if rows[job.id] == "SUCCESSFUL":
                assert is_same(value, receiving.received[job.id])
                assert is_same(value, job.refresh().task_results()["returns"])
                assert job.status == "SUCCESSFUL"
                kept += 1
            else:
                assert (rows[job.id], job.refresh().status) == ("FAILED", "FAILED")
                assert job.id not in receiving.received
                # Not what the database said of it: it was refused before.
                assert TaskAttempt.objects.get(job=job).exception_class == RESULT_ERROR
                refused += 1
        Job.objects.all().delete()

    with recorded("R14 results", seed=seed) as run:
        fuzzed(seed, one_batch)()
        noted(run, kept, refused)
        run.doubled = 0


EVERY_WAY_IN = {
    "one payload": lambda value: executor.start_sequence("any", value),
    "many payloads": lambda value: executor.start_many("any", [1, value]),
    "the result of a skip": lambda value: executor.skip(_waiting(), "returns", value),
}


def _waiting() -> Any:
    return Job.objects.get()


@pytest.mark.parametrize("way", EVERY_WAY_IN)
def test_each_way_in_refuses_alike(sequences: Any, way: str) -> None:
    """What a view can hand over is refused by the same exception, whatever it is handed to."""
    executor.start_sequence("any", 0)
    before = list(Job.objects.values())
    for value in (float("nan"), "\0", "\ud800", 10**5000, _deep(5000), (1,), object(), Broken()):
        with pytest.raises(InvalidPayload):
            EVERY_WAY_IN[way](value)
    assert list(Job.objects.values()) == before
    assert connection.in_atomic_block
