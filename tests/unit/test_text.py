"""Words for people: suggestions, lists, one-line text."""

import pytest

from django_tasks_seq.text import article, closest, listing, one_line, suggest


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("fulfil_ordr", "Did you mean 'fulfil_order'?"),
        ("FULFIL_ORDER", "Did you mean 'fulfil_order'?"),
        ("something_else", ""),
    ],
)
def test_suggest_names_the_word_that_was_meant(word, expected):
    """A near miss, also by case, gets a suggestion; anything else gets none."""
    assert suggest(word, ["fulfil_order", "import_products_csv"]) == expected


def test_closest_finds_nothing_among_nothing():
    """Without candidates there is no closest word."""
    assert closest("x", []) is None


def test_listing_is_capped():
    """A long list names its beginning and the number of the others."""
    assert listing("abc") == "a, b, c"
    assert listing("abcd", limit=2) == "a, b and 2 more"


@pytest.mark.parametrize(
    "character", ["\n", "\r", "\x1b", "\0", "\x9b", "\u2028", "\u202e", "\x7f", "\ud800"]
)
def test_one_line_text_cannot_forge_a_line(character):
    """Line ends, escapes and direction marks are replaced."""
    assert one_line(f"paid{character}ERROR root: hacked") == "paid ERROR root: hacked"


def test_one_line_text_is_cut():
    """A long text ends with an ellipsis at the limit."""
    assert one_line("x" * 20, limit=5) == "xxxx…"


def test_articles_follow_the_sound():
    """`an Order`, `a FieldFile`."""
    assert [article("Order"), article("FieldFile")] == ["an Order", "a FieldFile"]
