"""Small helpers for the words that people read: suggestions, lists, one-line text."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Final

# What stands in the place of a secret.
MASK: Final = "••••••"

_CONTROL: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]+"
)


def closest(word: str, words: Iterable[str]) -> str | None:
    """The one of `words` that was probably meant by `word`, or None."""
    by_lower = {candidate.lower(): candidate for candidate in words}
    found = get_close_matches(word.lower(), by_lower, n=1, cutoff=0.6)
    return by_lower[found[0]] if found else None


def suggest(word: str, words: Iterable[str]) -> str:
    """`Did you mean 'x'?` for the closest of `words`, or an empty text.

    Example: `suggest("fulfil_ordr", ["fulfil_order"])` is `"Did you mean 'fulfil_order'?"`
    """
    found = closest(word, words)
    return f"Did you mean {found!r}?" if found else ""


def listing(words: Iterable[str], limit: int = 20) -> str:
    """The words, separated by commas; only the first `limit`, with a count of the others."""
    every = list(words)
    more = f" and {len(every) - limit} more" if len(every) > limit else ""
    return ", ".join(every[:limit]) + more


def one_line(text: str, limit: int = 1000) -> str:
    """`text` as one line, of at most `limit` characters: no controls, no lone surrogates."""
    cut = text if len(text) <= limit else f"{text[: limit - 1]}…"
    return _CONTROL.sub(" ", cut)


def article(noun: str) -> str:
    """`a FieldFile`, `an Order`."""
    return f"{'an' if noun[:1].lower() in 'aeiou' else 'a'} {noun}"
