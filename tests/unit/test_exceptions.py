"""Errors: one class a case, facts as attributes, messages that say what to do next."""

import pickle
from typing import Any

import pytest

from django_tasks_seq import exceptions
from django_tasks_seq.exceptions import (
    CannotInject,
    ClaimLost,
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
    StopTask,
    StoreNotSupported,
    TaskFailed,
    TaskNotSkippable,
    TaskResultError,
    TasksSeqError,
    TaskTimeout,
    UnknownSequence,
    UnknownTask,
)

EXAMPLES = [
    SequenceDeclarationError("it has no tasks", where="shop/tasks_sequences.py:7"),
    SequenceAlreadyRegistered("fulfil", "a.py:1", "b.py:2"),
    ConfigurationError("no dict", hint="Write one."),
    CannotInject("needs a gateway", cls=int, parameter="gateway"),
    StoreNotSupported("InMemoryTaskCacheHandler", "claim jobs"),
    UnknownSequence("x", ["y"]),
    UnknownTask("chrge", "fulfil_order", ["charge"]),
    InvalidPayload("payload is a set", path="payload"),
    TaskResultError("'a' returned a set", task_id="a", path="result"),
    IdempotencyConflict("fulfil_order", "order-7", "0b8d90ba"),
    JobNotFound("0b8d90ba"),
    InvalidTransition("no", job="0b8d90ba", status="RUNNING"),
    SequenceChanged("0b8d90ba-1", "fulfil_order", 2, "book_courier"),
    TaskTimeout(3),
    TaskFailed(task_id="a", attempt=1, exception_class="builtins.ValueError", message="no"),
]
by_class = pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)


@by_class
def test_errors_have_one_base_and_lead_to_their_docs(error):
    """Each is a TasksSeqError whose docs_url names its class."""
    assert isinstance(error, TasksSeqError)
    assert error.docs_url.endswith(f"/errors.html#{type(error).__name__.lower()}")


@by_class
def test_errors_survive_pickling_with_their_facts(error):
    """A process pool or a test runner can hand them on."""
    copy = pickle.loads(pickle.dumps(error))

    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))


@pytest.mark.parametrize(
    "kind",
    [JobNotRetryable, JobNotCancellable, JobNotPausable, JobNotResumable, TaskNotSkippable],
)
def test_without_a_message_the_docstring_speaks(kind):
    """The docstring is the message of an error raised without one; refusals share a base."""
    assert str(kind()) == kind.__doc__
    assert isinstance(kind(), InvalidTransition)
    assert "nothing was changed" in str(kind())


def test_a_message_is_the_first_paragraph_of_the_docstring():
    """What follows the first paragraph of a docstring is no message."""

    class Odd(TasksSeqError):
        """Something odd.

        Explained at length.
        """

    assert str(Odd()) == "Something odd."


def test_an_undocumented_subclass_names_itself():
    """A subclass without docstring falls back to its name."""
    kind = type("Nameless", (TasksSeqError,), {})

    assert str(kind()) == "Nameless"


def test_unknown_sequence_suggests_and_lists():
    """The message is the one of the design, word for word."""
    error = UnknownSequence("fulfil_ordr", ["fulfil_order", "import_products_csv"])

    assert str(error) == (
        "No sequence named 'fulfil_ordr'. Did you mean 'fulfil_order'?"
        " Known: fulfil_order, import_products_csv."
        " New file? It must be called tasks_sequences.py in an installed app."
    )
    assert (error.name, error.known) == ("fulfil_ordr", ("fulfil_order", "import_products_csv"))


def test_unknown_sequence_when_there_is_none_at_all():
    """With an empty registry the message says so."""
    assert "None is registered." in str(UnknownSequence("fulfil_order"))


def test_unknown_task_suggests_and_lists():
    """The sequence's task ids are named."""
    assert str(UnknownTask("chrge", "fulfil_order", ["validate", "charge"])) == (
        "fulfil_order has no task 'chrge'. Did you mean 'charge'? Its tasks: validate, charge."
        " Nothing was changed."
    )


def test_a_doubled_name_names_both_sides():
    """File and line of both declarations stand in the message."""
    error = SequenceAlreadyRegistered("fulfil", "a.py:1", "b.py:2")

    assert str(error) == (
        "Two sequences are named 'fulfil': one declared at a.py:1, one at b.py:2."
        " Give one of them another name."
    )


def test_a_module_imported_twice_is_recognised():
    """Two declarations at one line are one module under two names."""
    assert "imported under two names" in str(
        SequenceAlreadyRegistered("fulfil", "a.py:1", "a.py:1")
    )


def test_sequence_changed_says_how_to_go_on():
    """The message is the one of the design, word for word."""
    error = SequenceChanged(
        "01a20c5d-57ad-7000-830f-e72d0b8d90ba", "fulfil_order", 2, "book_courier"
    )

    assert str(error) == (
        "job 0b8d90ba was started with fulfil_order v2, whose task 'book_courier' no longer exists."
        ' Keep it as an alias (TaskSpec(aliases=["book_courier"])),'
        " or run: tasks_seq cancel 0b8d90ba"
    )


def test_sequence_changed_knows_a_vanished_sequence():
    """When the whole sequence is gone no task is named."""
    assert "a sequence that no longer exists" in str(SequenceChanged("0b8d90ba", "old", 1))


def test_a_store_says_what_it_cannot_do():
    """A hint replaces the standard remedy."""
    assert str(StoreNotSupported("DictStore", "claim jobs", "Use another.")) == (
        "DictStore cannot claim jobs. Use another."
    )


def test_a_timeout_without_figure_still_reads_well():
    """The limit is named when it is known."""
    assert str(TaskTimeout(2.5)) == "The task ran longer than 2.5 s."
    assert str(TaskTimeout()) == TaskTimeout.__doc__


class PaymentError(Exception):
    pass


class CardDeclined(PaymentError):
    pass


def failed(**facts):
    here = __name__
    defaults: dict[str, Any] = {
        "task_id": "charge",
        "attempt": 2,
        "exception_class": f"{here}.CardDeclined",
        "message": "no funds",
        "exception_bases": [f"{here}.PaymentError", "builtins.Exception"],
    }
    return TaskFailed(**(defaults | facts))


def test_a_failure_reads_as_people_write_it():
    """Summary and text need only class name and message."""
    assert failed().summary == "CardDeclined: no funds"
    assert str(failed(message="")) == "Task 'charge' failed: CardDeclined"


@pytest.mark.parametrize(
    ("cls", "expected"),
    [
        (CardDeclined, True),
        (PaymentError, True),
        (Exception, True),
        (ValueError, False),
        ("gone.module.Error", False),
        (f"{__name__}.PaymentError", True),
    ],
)
def test_is_a_compares_names_of_the_class_and_its_bases(cls, expected):
    """Subclasses count, as with `except`, and nothing is imported."""
    assert failed().is_a(cls) is expected


def test_orders_of_a_task_are_plain_exceptions():
    """`DontRetry` and `RetryLater` are caught by `except Exception`, and say what they want."""
    later = RetryLater(30, "HTTP 429")

    assert (later.seconds, later.reason, str(later)) == (30, "HTTP 429", "HTTP 429")
    assert str(RetryLater(30)) == "again in 30 s"
    assert isinstance(DontRetry(), Exception)
    assert not isinstance(DontRetry(), TasksSeqError)


@pytest.mark.parametrize("error", [StopTask("drain"), ClaimLost("0b8d90ba")])
def test_control_flow_passes_a_tasks_except_exception(error):
    """What the engine throws through a task is no Exception."""
    assert not isinstance(error, Exception)
    assert str(error)


def test_all_names_are_exported_by_name():
    """`__all__` lists every class of the module."""
    classes = {
        name
        for name, value in vars(exceptions).items()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__ == exceptions.__name__
    }

    assert classes == set(exceptions.__all__)
