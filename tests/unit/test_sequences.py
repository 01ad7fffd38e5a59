"""Declaring sequences: what is kept, and what is refused with file and line."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from django_tasks_seq.exceptions import SequenceDeclarationError
from django_tasks_seq.sequences import Retry, TaskSequence, TaskSpec


def validate(payload):
    return payload


def charge(payload, context):
    return payload


async def ship(payload):
    return payload


class Alert:
    def handle_error(self, error, context):
        return None


class Carrier:
    def handle_start(self, job_id, task_id, payload):
        return None


@dataclass
class OrderPayload:
    order_id: int


def here():
    """`path:line` of the line that calls."""
    frame = sys._getframe(1)
    return f"tests/unit/{Path(frame.f_code.co_filename).name}:{frame.f_lineno}"


def test_a_declaration_is_kept_as_it_was_made():
    """Tasks become specs in their order, options are attributes, the line is known."""
    spec = TaskSpec("charge", charge, retry=Retry(5), timeout=30, atomic=True, on_lost="fail")
    sequence, where = (
        TaskSequence(
            "fulfil_order",
            [("validate", validate), spec],
            error_handler=Alert,
            success_handler="shop.handlers.MarkFulfilled",
            start_task_handler=Carrier(),
            version=3,
            payload_type=OrderPayload,
        ),
        here(),
    )

    assert sequence.name == "fulfil_order"
    assert sequence.plan == ("validate", "charge")
    assert sequence.tasks[1] is spec
    assert sequence.tasks[0].task is validate
    assert sequence.version == 3
    assert sequence.payload_type is OrderPayload
    assert sequence.error_handler is Alert
    assert sequence.success_handler == "shop.handlers.MarkFulfilled"
    assert sequence.declared_at.rpartition(":")[0] == where.rpartition(":")[0]
    assert repr(sequence) == "<TaskSequence 'fulfil_order': validate, charge>"


def test_the_line_of_a_declaration_is_exact():
    """`declared_at` is the file, from the working directory, and the line."""
    assert [TaskSpec("a", validate).declared_at, here()] == [here(), here()]
    assert [TaskSequence("a", [("b", validate)]).declared_at, here()] == [here(), here()]


def test_tasks_are_found_by_id_and_alias():
    """`spec` knows ids of earlier releases, and has None for the rest."""
    spec = TaskSpec("ship", ship, aliases=["book_courier"])
    sequence = TaskSequence("fulfil", [spec])

    assert sequence.spec("ship") is spec
    assert sequence.spec("book_courier") is spec
    assert sequence.spec("nothing") is None
    assert spec.aliases == ("book_courier",)


@pytest.mark.parametrize(
    ("declared", "name"),
    [
        (TaskSequence("fulfil", [("a", validate)]), "version"),
        (TaskSpec("a", validate), "timeout"),
        (Retry(1), "delay"),
    ],
)
def test_a_declaration_is_frozen(declared, name):
    """Neither a sequence, nor a spec, nor a Retry can be changed."""
    before = getattr(declared, name)

    with pytest.raises(AttributeError):
        setattr(declared, name, 5)

    assert getattr(declared, name) == before


def test_lists_serve_as_pairs_and_generators_as_tasks():
    """Any iterable of pairs declares a sequence."""
    pairs: Any = (["x", validate] for _ in range(1))

    assert TaskSequence("a", pairs).plan == ("x",)


NAMES = [
    ("", "it is 0 characters long"),
    ("x" * 201, "it is 201 characters long, 1 to 200 are allowed"),
    ("@charge", "names that begin with '@' are reserved"),
    ("a\nb", "it has control characters"),
    ("a\u2028b", "it has control characters"),
    ("a\ud800", "it has control characters"),
    (" a", "or spaces at an end"),
    (7, "it is an int"),
    (None, "it is a NoneType"),
]


@pytest.mark.parametrize(("name", "problem"), NAMES)
def test_bad_names_are_refused_everywhere(name, problem):
    """Names of sequences, task ids and aliases obey one rule."""
    for declare in (
        lambda: TaskSequence(name, [("a", validate)]),
        lambda: TaskSpec(name, validate),
        lambda: TaskSpec("a", validate, aliases=[name]),
    ):
        with pytest.raises(SequenceDeclarationError) as caught:
            declare()
        assert problem in str(caught.value)
        assert str(caught.value).startswith("tests/unit/test_sequences.py:")


def test_a_colon_is_for_keys_alone():
    """Task ids hold no colon, since keys are joined by it; names of sequences may."""
    with pytest.raises(SequenceDeclarationError, match="':' is reserved"):
        TaskSpec("shop:charge", validate)

    assert TaskSequence("shop:fulfil", [("a", validate)]).name == "shop:fulfil"
    assert TaskSequence("x" * 200, [("ä ö" * 66, validate)]).plan == ("ä ö" * 66,)


def test_a_doubled_task_id_names_both_sides():
    """Sequence, positions, callables and lines of both stand in the message."""
    first, first_line = TaskSpec("charge", validate), here()
    second, second_line = TaskSpec("charge", charge), here()

    with pytest.raises(SequenceDeclarationError) as caught:
        TaskSequence("fulfil", [first, second])

    assert str(caught.value).partition(": ")[2] == (
        "sequence 'fulfil': the task id 'charge' is used twice,"
        f" by task 1 (validate, declared at {first_line})"
        f" and task 2 (charge, declared at {second_line}). Ids and aliases must differ."
    )
    assert caught.value.where.startswith("tests/unit/test_sequences.py:")


@pytest.mark.parametrize(
    "tasks",
    [
        [TaskSpec("a", validate, aliases=["b"]), ("b", charge)],
        [TaskSpec("a", validate, aliases=["c"]), TaskSpec("b", charge, aliases=["c"])],
        [TaskSpec("a", validate, aliases=["a"])],
    ],
)
def test_an_alias_must_not_clash(tasks):
    """An alias that is an id, or another alias, would make stored ids ambiguous."""
    with pytest.raises(SequenceDeclarationError, match="is used twice"):
        TaskSequence("fulfil", tasks)


@pytest.mark.parametrize(
    ("tasks", "problem"),
    [
        ([], "it has no tasks"),
        ("validate", "tasks is a str, no list"),
        ({"a": validate}, "tasks is a dict, no list"),
        (None, "tasks is a NoneType, no list"),
        ([validate], "is no task; give ('id', task)"),
        ([("a", validate, 3)], "is no task; give ('id', task)"),
        ([(f"t{n}", validate) for n in range(1001)], "it has 1001 tasks, 1000 at most"),
    ],
)
def test_lists_that_are_none_are_refused(tasks, problem):
    """What was given is named."""
    with pytest.raises(SequenceDeclarationError) as caught:
        TaskSequence("fulfil", tasks)

    assert "sequence 'fulfil': " in str(caught.value)
    assert problem in str(caught.value)


def test_a_thousand_tasks_are_accepted():
    """The limit itself is allowed."""
    assert len(TaskSequence("long", [(f"t{n}", validate) for n in range(1000)]).plan) == 1000


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"retry": 3}, "retry is 3; give Retry(max_attempts=…)."),
        ({"timeout": 0}, "timeout is 0; give seconds above 0, or None."),
        ({"timeout": True}, "timeout is True"),
        ({"timeout": float("inf")}, "timeout is inf"),
        ({"on_lost": "ignore"}, "on_lost is 'ignore'; give 'retry' or 'fail'."),
        ({"aliases": "book"}, "aliases is 'book'; give a list of task ids."),
        ({"aliases": 5}, "aliases is 5"),
    ],
)
def test_options_without_sense_are_refused(options, problem):
    """The task, the option and its value are named."""
    with pytest.raises(SequenceDeclarationError) as caught:
        TaskSpec("charge", charge, **options)

    assert f"task 'charge': {problem}" in str(caught.value)


def test_atomic_with_async_is_refused_with_its_place():
    """Django's transactions belong to a thread: the message names the function and where it is."""
    with pytest.raises(SequenceDeclarationError) as caught:
        TaskSpec("ship", ship, atomic=True)

    assert "task 'ship': ship (" in str(caught.value)
    assert (
        f"test_sequences.py:{ship.__code__.co_firstlineno}) is async and cannot be atomic"
        in str(caught.value)
    )


def test_what_cannot_be_called_is_refused_with_the_task():
    """The task id stands before the reason."""
    with pytest.raises(
        SequenceDeclarationError, match=r"task 'email': a str 'shop\.send' is no task"
    ):
        TaskSequence("fulfil", [("email", "shop.send")])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"version": 0}, "version is 0"),
        ({"version": True}, "version is True"),
        ({"payload_type": int}, "payload_type is <class 'int'>"),
        ({"payload_type": "OrderPayload"}, "payload_type is 'OrderPayload'"),
        ({"error_handler": Carrier}, "the error handler Carrier is a class without a method"),
        ({"success_handler": 5}, "an int 5 is no success handler."),
        ({"start_task_handler": Alert}, "has no method 'handle_start'"),
        ({"start_task_handler": validate}, "has no method 'handle_start'"),
    ],
)
def test_handlers_and_types_are_looked_at_when_declared(options, problem):
    """A handler of the wrong kind is refused before any job can reach it."""
    with pytest.raises(SequenceDeclarationError) as caught:
        TaskSequence("fulfil", [("a", validate)], **options)

    assert "sequence 'fulfil': " in str(caught.value)
    assert problem in str(caught.value)


def test_a_vanished_working_directory_does_not_matter(monkeypatch):
    """Without a working directory the whole path is named."""

    def gone():
        raise FileNotFoundError

    monkeypatch.setattr(os, "getcwd", gone)

    assert TaskSpec("a", validate).declared_at.startswith(__file__)
