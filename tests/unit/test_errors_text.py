"""What an exception says, as text that can be stored, however hostile it is."""

import pytest

from django_tasks_seq.errors_text import (
    MESSAGE_BYTES,
    TRACEBACK_BYTES,
    class_path,
    describe_exception,
)


def raised(error):
    try:
        raise error
    except BaseException as caught:
        return caught


class WarehouseUnavailable(ConnectionError):
    pass


def test_an_exception_is_described_by_names_message_and_traceback():
    """Dotted paths of class and bases, the message, and the traceback as Python prints it."""
    text = describe_exception(raised(WarehouseUnavailable("HTTP 503")))

    assert text.exception_class == f"{__name__}.WarehouseUnavailable"
    assert text.bases == (
        "builtins.ConnectionError",
        "builtins.OSError",
        "builtins.Exception",
        "builtins.BaseException",
    )
    assert text.message == "HTTP 503"
    assert text.summary == "WarehouseUnavailable: HTTP 503"
    assert text.traceback.startswith("Traceback (most recent call last):\n")
    assert "in raised\n    raise error\n" in text.traceback
    assert text.traceback.endswith("WarehouseUnavailable: HTTP 503")


def test_an_exception_without_message_is_its_class():
    """The summary of a bare exception is the name of its class."""
    text = describe_exception(ValueError())

    assert (text.summary, text.traceback) == ("ValueError", "ValueError")


@pytest.mark.parametrize("kind", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_message_that_raises_is_replaced(kind):
    """An exception whose `__str__` raises, whatever it raises, is described all the same."""

    class Hostile(Exception):
        def __str__(self):
            raise kind("in __str__")

    text = describe_exception(raised(Hostile()))

    assert text.message == f"<the text of this exception could not be made: {kind.__name__}>"
    assert "Hostile" in text.traceback


def test_a_message_that_is_no_plain_str_is_made_one():
    """A subclass of str with methods of its own cannot get in the way."""

    class Sly(str):
        __slots__ = ()

        def encode(self, *args, **kwargs):
            raise RuntimeError

        def __getitem__(self, item):
            return Sly("sly")

    class Hostile(Exception):
        def __str__(self):
            return Sly("plain")

    text = describe_exception(Hostile())

    assert text.message == "plain"
    assert type(text.message) is str


@pytest.mark.parametrize("character", ["x", "ä", "🐢"])
def test_a_message_of_30_mb_is_cut_to_whole_characters(character):
    """A huge message costs at most its limit, and is cut between characters."""
    text = describe_exception(raised(ValueError(character * 30_000_000)))

    assert len(text.message.encode()) <= MESSAGE_BYTES
    assert text.message.endswith(f"{character}…")
    assert len(text.traceback.encode()) <= TRACEBACK_BYTES


def test_what_no_column_takes_is_replaced():
    """NUL and lone surrogates become question marks, in message and traceback."""
    text = describe_exception(raised(ValueError("a\0b\ud800c")))

    assert text.message == "a?b?c"
    assert text.traceback.endswith("ValueError: a?b?c")


def test_causes_stand_before_what_they_caused():
    """Cause and context are shown in Python's order with Python's sentences."""
    try:
        try:
            try:
                raise KeyError("first")
            except KeyError as error:
                raise ValueError("second") from error
        except ValueError:
            raise TypeError("third")  # noqa: B904 (the context is what is tested)
    except TypeError as error:
        text = describe_exception(error).traceback

    order = [
        "KeyError: 'first'",
        "The above exception was the direct cause",
        "ValueError: second",
        "During handling of the above exception",
        "TypeError: third",
    ]
    assert [part for part in order if part in text] == order
    assert sorted(order, key=text.index) == order


def test_a_suppressed_context_is_not_shown():
    """`raise … from None` hides what went before, as Python does."""
    try:
        try:
            raise KeyError("hidden")
        except KeyError:
            raise ValueError("shown") from None
    except ValueError as error:
        text = describe_exception(error).traceback

    assert "hidden" not in text


def test_a_chain_is_followed_five_causes_deep():
    """A long chain ends after five causes."""
    error = ValueError("0")
    for number in range(1, 10):
        following = ValueError(str(number))
        following.__cause__ = error
        error = following

    text = describe_exception(error).traceback

    assert [f"ValueError: {number}" in text for number in range(10)] == [False] * 4 + [True] * 6


def test_a_circle_of_causes_ends():
    """Exceptions that cause each other are shown once each."""
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first

    assert describe_exception(first).traceback.count("ValueError: first") == 1


def test_endless_recursion_is_told_in_few_lines():
    """A RecursionError repeats its frame in words, not in lines."""

    def endless():
        return endless()

    with pytest.raises(RecursionError) as caught:
        endless()

    text = describe_exception(caught.value).traceback

    assert "more times" in text
    assert len(text) < 5000


def test_a_long_traceback_is_cut_in_the_middle(monkeypatch):
    """First and last frames remain, since they tell where it began and what went wrong."""
    monkeypatch.setattr("django_tasks_seq.errors_text.TRACEBACK_BYTES", 600)

    text = describe_exception(raised(ValueError("x" * 2000))).traceback

    assert text.startswith("Traceback (most recent call last):")
    assert "bytes left out" in text
    assert text.rstrip("…").endswith("x" * 50)
    assert len(text.encode()) <= 600


def test_members_of_a_group_are_shown_to_a_limit():
    """An exception group shows three members, each with its traceback, and counts the others."""
    group = ExceptionGroup("many", [raised(ValueError(str(number))) for number in range(5)])

    text = describe_exception(raised(group)).traceback

    assert [f"  | ValueError: {number}" in text for number in range(5)] == [True] * 3 + [False] * 2
    assert "  | and 2 more" in text


def test_nested_groups_end():
    """Groups within groups are shown three levels down."""
    group: ExceptionGroup = ExceptionGroup("0", [ValueError("inside")])
    for number in range(1, 6):
        group = ExceptionGroup(str(number), [group] * 4)

    text = describe_exception(group).traceback

    assert "ExceptionGroup: 2 (4 sub-exceptions)" in text
    assert "inside" not in text


def test_a_traceback_that_cannot_be_made_is_replaced(monkeypatch):
    """Whatever fails while the traceback is made, the message remains."""

    def fail(*args, **kwargs):
        raise OSError

    monkeypatch.setattr("traceback.StackSummary.extract", fail)

    text = describe_exception(ValueError("no"))

    assert text.traceback == "<the traceback could not be made: OSError>\n"
    assert text.message == "no"


def test_the_name_of_a_class_is_bounded():
    """A class with an absurd name does not overflow the column of names."""
    assert len(class_path(type("X" * 1000, (), {}))) <= 255
