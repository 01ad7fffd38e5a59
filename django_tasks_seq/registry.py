"""Names of sequences and what they mean: only this leads from the name in a row to code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from django.utils.module_loading import autodiscover_modules

from .exceptions import SequenceAlreadyRegistered, SequenceDeclarationError, UnknownSequence
from .sequences import TaskSequence

__all__ = [
    "autodiscover",
    "find_sequence",
    "get_sequence",
    "isolated",
    "register_sequence",
    "sequences",
]

MODULE: Final = "tasks_sequences"

_sequences: dict[str, TaskSequence] = {}
_lock: Final = threading.Lock()


def register_sequence(sequence: TaskSequence) -> TaskSequence:
    """Make `sequence` known by its name, and return it.

    Raises `SequenceAlreadyRegistered`, with file and line of both, when the name is taken by
    another; registering the same object again is fine.

    Example: `fulfil_order = register_sequence(TaskSequence("fulfil_order", tasks=[…]))`
    """
    if not isinstance(sequence, TaskSequence):
        raise SequenceDeclarationError(
            f"register_sequence() takes a TaskSequence, not {sequence!r}."
        )
    with _lock:
        first = _sequences.setdefault(sequence.name, sequence)
    if first is not sequence:
        raise SequenceAlreadyRegistered(sequence.name, first.declared_at, sequence.declared_at)
    return sequence


def get_sequence(sequence: str | TaskSequence) -> TaskSequence:
    """The registered sequence of this name; a registered sequence itself is returned as it is.

    Raises `UnknownSequence`, which suggests the name that was probably meant.

    Example: `get_sequence("fulfil_order").plan`
    """
    if isinstance(sequence, str):
        found = _sequences.get(sequence)
    else:
        is_registered = sequence in _sequences.values()
        found = sequence if is_registered else None
    if found is None:
        raise _unknown(sequence)
    return found


def find_sequence(name: str) -> TaskSequence | None:
    """The registered sequence of this name, or None."""
    return _sequences.get(name)


def sequences() -> tuple[TaskSequence, ...]:
    """All registered sequences, in the order of their names."""
    return tuple(_sequences[name] for name in sorted(_sequences.copy()))


def autodiscover() -> None:
    """Import the `tasks_sequences` module of every installed app that has one."""
    autodiscover_modules(MODULE)


@contextmanager
def isolated(*, empty: bool = False) -> Iterator[None]:
    """For tests: what is registered inside is forgotten at the end; `empty` begins with nothing.

    Example: `with isolated(): register_sequence(TaskSequence("probe", [("only", print)]))`
    """
    before = _sequences.copy()
    if empty:
        _sequences.clear()
    try:
        yield
    finally:
        _sequences.clear()
        _sequences.update(before)


def _unknown(sequence: object) -> UnknownSequence:
    known = tuple(sorted(_sequences.copy()))
    if isinstance(sequence, str):
        return UnknownSequence(sequence, known)
    if not isinstance(sequence, TaskSequence):
        return UnknownSequence(repr(sequence), known)
    return UnknownSequence(
        sequence.name,
        known,
        f"The sequence {sequence.name!r} declared at {sequence.declared_at} is not registered, so"
        " no worker could find it. Declare it with register_sequence(TaskSequence(…)).",
    )
