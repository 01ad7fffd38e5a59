from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, strategies as st

from django_tasks_seq.admin.timeline import NARROWEST, Span, ticks, timeline

BEGIN = datetime(2026, 11, 24, 21, 10, tzinfo=UTC)


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def span(start: float, end: float, kind: str = "successful") -> Span:
    return Span(at(start), at(end), kind, f"{start} to {end}")


def test_bars_are_percents_of_the_time_of_the_job():
    """The axis reaches from the first beginning to the last end, and bars are percents of it."""
    first, second = timeline([[span(0, 2)], [span(2, 8)]]).tracks

    assert [(bar.x, bar.width) for bar in first.bars] == [(0.0, 25.0)]
    assert [(bar.x, bar.width) for bar in second.bars] == [(25.0, 75.0)]
    assert second.seconds == 6.0


def test_each_attempt_is_a_bar_and_waiting_is_a_gap_between_them():
    """A task with three attempts has three bars and two gaps, in the order of time."""
    tries = [span(6, 8, "failed"), span(0, 1, "failed"), span(2, 3, "failed")]
    (track,) = timeline([tries]).tracks

    assert [bar.x for bar in track.bars] == [0.0, 25.0, 75.0]
    assert [(gap.x, gap.width) for gap in track.gaps] == [(12.5, 12.5), (37.5, 37.5)]
    assert track.seconds == 8.0


def test_a_task_that_has_not_begun_has_an_empty_track():
    """A task without attempts has no bar, no gap and no time, and does not move the others."""
    layout = timeline([[span(0, 1)], []])

    assert layout.tracks[1].bars == layout.tracks[1].gaps == ()
    assert layout.tracks[1].seconds is None


def test_a_job_that_has_not_begun_has_no_axis():
    """Without any attempt there are tracks but no ticks."""
    layout = timeline([[], []])

    assert len(layout.tracks) == 2
    assert layout.ticks == ()


def test_a_job_that_waits_is_drawn_until_now():
    """The task of the last attempt waits until now, and the axis goes on to there."""
    first, second = timeline([[span(0, 1)], [span(1, 2, "failed")]], waits_until=at(10)).tracks

    assert first.gaps == ()
    assert [(gap.x, gap.width) for gap in second.gaps] == [(20.0, 80.0)]


def test_an_attempt_of_no_length_is_still_seen():
    """An attempt that took no measurable time has a bar of the least width, inside the picture."""
    layout = timeline([[span(0, 3600)], [span(3600, 3600)]])

    (bar,) = layout.tracks[1].bars
    assert bar.width == NARROWEST
    assert bar.x + bar.width <= 100


def test_a_clock_that_went_back_draws_nothing_negative():
    """An attempt that ended before it began is drawn as one of no length."""
    (track,) = timeline([[span(5, 3), span(0, 1)]]).tracks

    assert all(bar.width > 0 and 0 <= bar.x <= 100 for bar in track.bars)


@pytest.mark.parametrize(
    ("seconds", "moments"),
    [
        (0.004, [0, 0.001, 0.002, 0.003, 0.004]),
        (3.8, [0, 1, 2, 3]),
        (60, [0, 15, 30, 45, 60]),
        (5400, [0, 1800, 3600, 5400]),
        (86400 * 3000, [0, 51840000, 103680000, 155520000, 207360000, 259200000]),
    ],
)
def test_ticks_stand_at_round_times(seconds, moments):
    """Ticks stand at round times, whatever the scale."""
    assert [tick.seconds for tick in ticks(seconds)] == moments


@given(st.floats(0.001, 1e9))
def test_there_are_never_more_than_six_ticks(seconds):
    """Any length of axis gets one to six ticks, all within the picture."""
    found = ticks(seconds)

    assert 1 <= len(found) <= 6
    assert all(0 <= tick.x <= 100.001 for tick in found)


moments = st.floats(0, 1e7)


@given(
    st.lists(st.lists(st.builds(span, moments, moments), max_size=5), max_size=8),
    st.none() | moments.map(at),
)
def test_nothing_is_ever_drawn_outside(tasks, waits_until):
    """Whatever the attempts, each task has its track and all bars and gaps lie within 0 and 100."""
    layout = timeline(tasks, waits_until)

    assert len(layout.tracks) == len(tasks)
    for track, spans in zip(layout.tracks, tasks, strict=True):
        assert len(track.bars) == len(spans)
        for bar in (*track.bars, *track.gaps):
            assert bar.x >= 0
            assert bar.width >= NARROWEST
            assert bar.x + bar.width <= 100.001
