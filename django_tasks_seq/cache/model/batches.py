"""Rows in batches: what one statement may carry is limited by their number and their weight."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

T = TypeVar("T")


def batches(
    items: Sequence[T], most: int, characters: int, weigh: Callable[[T], int]
) -> Iterator[list[T]]:
    """*items* in order, *most* at a time; fewer where they come to more than so many characters."""
    batch: list[T] = []
    weight = 0
    for item in items:
        weight += weigh(item)
        if batch and (len(batch) >= most or weight > characters):
            yield batch
            batch, weight = [], weigh(item)
        batch.append(item)
    if batch:
        yield batch
