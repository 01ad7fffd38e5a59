"""The geometry of a job's timeline as plain data: places and widths are percents of the job's time.

Pure functions: no row, no query, no HTML. A template draws one SVG a task from it, whose `<rect>`s
take percents, so that the picture fits a phone and the text beside it stays readable.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import Final

# A bar of an attempt of a millisecond in a job of an hour must still be seen.
NARROWEST: Final = 0.4
TICKS: Final = 5
SECOND, MINUTE, HOUR, DAY = 1.0, 60.0, 3600.0, 86400.0
INTERVALS: Final = (
    *(value * scale for scale in (0.001, 0.01, 0.1) for value in (1, 2, 5)),
    *(value * SECOND for value in (1, 2, 5, 10, 15, 30)),
    *(value * MINUTE for value in (1, 2, 5, 10, 15, 30)),
    *(value * HOUR for value in (1, 2, 3, 6, 12)),
    *(value * DAY for value in (1, 2, 7, 14, 30, 90, 365)),
)


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt, from *start* to *end*; *kind* is what it ended as, *title* its tooltip."""

    start: datetime
    end: datetime
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar, or a gap between two: *x* and *width* in percents."""

    x: float
    width: float
    kind: str
    title: str


@dataclass(frozen=True, slots=True)
class Track:
    """The bars of one task, and the gaps in which it waited for its next attempt."""

    bars: tuple[Bar, ...]
    gaps: tuple[Bar, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Tick:
    """A vertical line at *x* percent, *seconds* after the beginning."""

    x: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Timeline:
    """A track for each task, and the ticks of the axis; no ticks when nothing has begun."""

    tracks: tuple[Track, ...]
    ticks: tuple[Tick, ...]
    seconds: float


def timeline(tasks: Sequence[Sequence[Span]], waits_until: datetime | None = None) -> Timeline:
    """Lay out the attempts of each task, from the first beginning to the last end.

    With *waits_until* the axis goes on to that moment, and the task of the last attempt waits.
    """
    spans = [span for task in tasks for span in task]
    if not spans:
        return Timeline(tuple(Track((), (), None) for _ in tasks), (), 0.0)
    begin = min(span.start for span in spans)
    ends = [max(span.start, span.end) for span in spans]
    last = max(ends)
    end = max(last, waits_until or last)
    axis = _Axis(begin, max((end - begin).total_seconds(), 0.001))
    waiting = spans[ends.index(last)] if waits_until and waits_until > last else None
    tracks = tuple(_track(axis, task, end if waiting in task else None) for task in tasks)
    return Timeline(tracks, ticks(axis.seconds), axis.seconds)


@dataclass(frozen=True, slots=True)
class _Axis:
    begin: datetime
    seconds: float

    def place(self, moment: datetime) -> float:
        percent = (moment - self.begin).total_seconds() / self.seconds * 100
        return round(min(max(percent, 0.0), 100.0), 3)

    def bar(self, start: datetime, end: datetime, kind: str, title: str) -> Bar:
        x = self.place(start)
        width = max(self.place(max(start, end)) - x, NARROWEST)
        return Bar(min(x, round(100 - width, 3)), round(width, 3), kind, title)


def _track(axis: _Axis, spans: Sequence[Span], waits_until: datetime | None) -> Track:
    if not spans:
        return Track((), (), None)
    ordered = sorted(spans, key=lambda span: span.start)
    bars = tuple(axis.bar(s.start, s.end, s.kind, s.title) for s in ordered)
    breaks = [(one.end, following.start) for one, following in pairwise(ordered)]
    last = max(span.end for span in ordered)
    if waits_until:
        breaks.append((last, waits_until))
    gaps = tuple(axis.bar(start, end, "gap", "") for start, end in breaks if end > start)
    seconds = (max(last, ordered[0].start) - ordered[0].start).total_seconds()
    return Track(bars, gaps, seconds)


def ticks(seconds: float) -> tuple[Tick, ...]:
    """At most six ticks at round times over an axis of this many seconds.

    >>> [tick.seconds for tick in ticks(3.8)]
    [0.0, 1.0, 2.0, 3.0]
    """
    interval = next((one for one in INTERVALS if seconds / one <= TICKS), seconds / TICKS)
    count = int(seconds / interval + 1e-9)
    moments = [n * interval for n in range(count + 1)]
    return tuple(Tick(round(m / seconds * 100, 3), round(m, 6)) for m in moments)
