"""Durations, numbers and lists as commands read and write them."""

from argparse import ArgumentTypeError

import pytest

from django_tasks_seq.management.words import (
    counted,
    duration,
    grouped,
    joined,
    names,
    some_of,
    spoken,
)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30d", 2592000),
        ("12h", 43200),
        ("90m", 5400),
        ("45s", 45),
        ("2w", 1209600),
        ("1.5h", 5400),
        (" 3 D ", 259200),
        ("0s", 0),
        ("36500d", 3153600000),
    ],
)
def test_durations_have_a_unit(text: str, seconds: float) -> None:
    """Days, hours, minutes, seconds and weeks, also parts of them."""
    assert duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("30", "'30' has no unit: write 30d, 12h, 90m or 45s"),
        ("", "'' is no duration"),
        ("d", "'d' is no duration"),
        ("-1d", "'-1d' is no duration"),
        ("1e9d", "'1e9d' is no duration"),
        ("1d12h", "'1d12h' is no duration"),
        ("3 months", "'3 months' is no duration"),
        ("٣d", "is no duration"),
        ("nan", "'nan' is no duration"),
        ("40000d", "'40000d' is more than a hundred years"),
        ("9" * 400 + "d", "is more than a hundred years"),
    ],
)
def test_what_is_no_duration_is_refused(text: str, words: str) -> None:
    """With the text itself, and how to write one."""
    with pytest.raises(ArgumentTypeError, match=words):
        duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (2592000, "30 days"),
        (86400, "1 day"),
        (43200, "12 hours"),
        (5400, "90 minutes"),
        (45, "45 seconds"),
        (1, "1 second"),
        (0.5, "0.5 seconds"),
        (172800000, "2 000 days"),
    ],
)
def test_durations_are_said_in_the_largest_unit(seconds: float, text: str) -> None:
    """The largest that needs no fraction."""
    assert spoken(seconds) == text


def test_numbers_and_nouns() -> None:
    """Thousands are set apart; one is one."""
    assert grouped(12403) == "12 403"
    assert counted(1, "job") == "1 job"
    assert counted(1_234_567, "job") == "1 234 567 jobs"
    assert counted(0, "batch", "batches") == "0 batches"
    assert joined(["a", "b", "c"]) == "a, b and c"
    assert joined(["a"]) == "a"


def test_lists_of_names() -> None:
    """Spaces and doubled names do not matter; no name at all does."""
    assert names("b, a,,b") == ("b", "a")
    for nothing in ("", " , "):
        with pytest.raises(ArgumentTypeError, match="no name is given"):
            names(nothing)


def test_lists_of_choices() -> None:
    """Each must be one, in upper or lower case; a slip gets a suggestion."""
    parse = some_of(["FAILED", "CANCELLED"], "final status")

    assert parse("failed,Cancelled") == ("FAILED", "CANCELLED")
    with pytest.raises(
        ArgumentTypeError, match=r"'faild' is no final status. Did you mean 'failed'"
    ):
        parse("faild")
    with pytest.raises(ArgumentTypeError, match="There are: failed, cancelled"):
        parse("x")
