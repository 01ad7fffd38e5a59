"""What an exception says, as text that can be stored: guarded, bounded, free of NUL.

The exception comes from other people's code. Its `__str__` may raise, its message may be 30 MB,
its causes may run in a circle: none of that may cost more than the text.
"""

from __future__ import annotations

import textwrap
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from json import dumps  # bound here: a task may put something else in the module
from typing import Final

from .text import MASK

MESSAGE_BYTES: Final = 4 * 1024
TRACEBACK_BYTES: Final = 64 * 1024
CAUSE_DEPTH: Final = 5
FRAMES: Final = 200
GROUP_MEMBERS: Final = 3
GROUP_DEPTH: Final = 3
PATH_LENGTH: Final = 255
BASES: Final = 30

_BECAUSE: Final = "The above exception was the direct cause of the following exception:"
_DURING: Final = "During handling of the above exception, another exception occurred:"
_CUT: Final = "\n    … cut here, {} bytes left out …\n"


@dataclass(frozen=True, slots=True)
class ExceptionText:
    """An exception as text: dotted paths of its class and bases, message, traceback."""

    exception_class: str
    bases: tuple[str, ...]
    message: str
    traceback: str

    @property
    def summary(self) -> str:
        """Class name and message, as people read it: `WarehouseUnavailable: HTTP 503`."""
        name = self.exception_class.rpartition(".")[2]
        return f"{name}: {self.message}" if self.message else name


def describe_exception(exc: BaseException, secrets: Sequence[str] = ()) -> ExceptionText:
    """`exc` as text of at most 64 KB (message 4 KB, five causes); never raises.

    Where a message repeats one of *secrets*, as it is or as `repr` and JSON write it, a mask stands.

    Example: `describe_exception(ValueError("no")).summary` is `"ValueError: no"`
    """
    kind = type(exc)
    mask = _Mask.of(secrets)
    return ExceptionText(
        exception_class=class_path(kind),
        bases=tuple(class_path(base) for base in kind.__mro__[1 : BASES + 1] if base is not object),
        message=_message(exc, mask),
        traceback=_traceback(exc, mask),
    )


def class_path(cls: type) -> str:
    """The dotted path of a class, at most 255 characters long."""
    try:
        path = f"{cls.__module__}.{cls.__qualname__}"
    except Exception:  # noqa: BLE001 (a metaclass may make its names)
        path = f"builtins.{type.__dict__['__name__'].__get__(cls)}"
    return _storable(path, PATH_LENGTH)


@dataclass(frozen=True, slots=True)
class _Mask:
    """Texts that no message may hold, the longest first."""

    texts: tuple[str, ...] = ()
    longest: int = field(default=0)

    @classmethod
    def of(cls, secrets: Sequence[str]) -> _Mask:
        if not secrets:
            return cls()
        texts = {form for secret in secrets for form in _spellings(secret)}
        ordered = tuple(sorted(texts, key=len, reverse=True))
        return cls(ordered, len(ordered[0]))

    def applied(self, text: str, limit: int) -> str:
        """At least the first *limit* characters of *text*, masked: no secret is cut into two."""
        if not self.texts:
            return str.__getitem__(text, slice(limit + 1))
        window = str.__getitem__(text, slice(limit + 1 + self.longest))
        is_cut = len(window) < str.__len__(text)
        for secret in self.texts:
            window = window.replace(secret, MASK)
        # What stands at the end of the window may be the beginning of a secret.
        return window[: -self.longest] + "…" if is_cut else window


def _spellings(secret: str) -> Iterator[str]:
    quoted = repr(secret)[1:-1]
    yield from (secret, quoted, repr(quoted)[1:-1])
    yield from (dumps(secret, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False))


def _message(exc: BaseException, mask: _Mask) -> str:
    try:
        text = str(exc)
    except BaseException as error:  # noqa: BLE001 (a message may not even end the process)
        text = f"<the text of this exception could not be made: {type(error).__name__}>"
    return _storable(mask.applied(text, MESSAGE_BYTES), MESSAGE_BYTES)


def _traceback(exc: BaseException, mask: _Mask) -> str:
    try:
        text = "\n".join(_sections(exc, mask))
    except Exception as error:  # noqa: BLE001 (source files and frames may be hostile, too)
        text = f"<the traceback could not be made: {type(error).__name__}>\n"
    return _storable_middle_out(text)


def _sections(exc: BaseException, mask: _Mask) -> Iterator[str]:
    """The causes first, as Python prints them, each with the sentence that links it."""
    chain = _chain(exc)
    for place, (link, error) in enumerate(reversed(chain)):
        yield _block(error, mask)
        if place < len(chain) - 1:
            yield f"\n{link if place else chain[-1][0]}\n"


def _chain(exc: BaseException) -> list[tuple[str, BaseException]]:
    found = [("", exc)]
    while len(found) <= CAUSE_DEPTH:
        link, cause = _cause(found[-1][1])
        if cause is None or any(cause is error for _, error in found):
            break
        found.append((link, cause))
    return found


def _cause(exc: BaseException) -> tuple[str, BaseException | None]:
    if exc.__cause__ is not None:
        return _BECAUSE, exc.__cause__
    return _DURING, None if exc.__suppress_context__ else exc.__context__


def _block(exc: BaseException, mask: _Mask, depth: int = 0) -> str:
    frames = traceback.StackSummary.extract(traceback.walk_tb(exc.__traceback__), limit=-FRAMES)
    head = "Traceback (most recent call last):\n" if exc.__traceback__ else ""
    path = class_path(type(exc)).removeprefix("builtins.")
    message = _message(exc, mask)
    last = f"{path}: {message}" if message else path
    return head + "".join(frames.format()) + last + "".join(_members(exc, mask, depth))


def _members(exc: BaseException, mask: _Mask, depth: int) -> Iterator[str]:
    """Of an exception group the first members, three levels down: groups may nest without end."""
    if not isinstance(exc, BaseExceptionGroup) or depth == GROUP_DEPTH:
        return
    for member in exc.exceptions[:GROUP_MEMBERS]:
        yield "\n" + textwrap.indent(_block(member, mask, depth + 1), "  | ")
    if len(exc.exceptions) > GROUP_MEMBERS:
        yield f"\n  | and {len(exc.exceptions) - GROUP_MEMBERS} more"


def _storable(text: str, limit: int) -> str:
    """At most `limit` bytes of UTF-8, without NUL and lone surrogates, which no column takes."""
    raw = str.__getitem__(text, slice(limit)).encode("utf-8", "replace").replace(b"\0", b"?")
    if len(raw) <= limit and len(text) <= limit:
        return raw.decode()
    return raw[: limit - 3].decode("utf-8", "ignore") + "…"


def _storable_middle_out(text: str) -> str:
    """Cut in the middle: the first frames tell where it began, the last what went wrong."""
    raw = text.encode("utf-8", "replace").replace(b"\0", b"?")
    left_out = len(raw) - TRACEBACK_BYTES
    if left_out <= 0:
        return raw.decode()
    half = TRACEBACK_BYTES // 2 - len(_CUT)
    return (
        raw[:half].decode("utf-8", "ignore")
        + _CUT.format(left_out)
        + raw[-half:].decode("utf-8", "ignore")
    )
