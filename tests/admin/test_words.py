from datetime import UTC, datetime, timedelta

import pytest
from django.utils import timezone, translation

from django_tasks_seq.admin import words
from django_tasks_seq.choices import JobStatus, TaskState

NOW = datetime(2026, 11, 24, 21, 10, 20, 114_000, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0 ms"),
        (0.0004, "0 ms"),
        (0.8, "800 ms"),
        (0.9994, "999 ms"),
        (0.9996, "1.0 s"),
        (3.84, "3.8 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (67, "1 min 7 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
        (86400 * 3 + 4 * 3600, "3 d 4 h"),
    ],
)
def test_a_duration_uses_the_two_units_that_matter(seconds, text):
    """A duration is told in milliseconds, seconds, or its two largest units."""
    assert words.duration(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-5, "now"),
        (0.5, "now"),
        (13, "13 s ago"),
        (60, "1 minute ago"),
        (150, "2 minutes ago"),
        (3600, "1 hour ago"),
        (86399, "23 hours ago"),
        (86400, "1 day ago"),
        (86400 * 9, "9 days ago"),
    ],
)
def test_an_age_is_told_in_one_unit(seconds, text):
    """An age is told in its largest unit; what lies in the future is now."""
    assert words.ago(NOW - timedelta(seconds=seconds), NOW) == text


def test_an_unknown_duration_is_a_dash():
    """Between two moments of which one is unknown there is a dash."""
    assert words.between(None, NOW) == "—"
    assert words.between(NOW, None) == "—"
    assert words.between(NOW, NOW + timedelta(seconds=2)) == "2.0 s"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.5, "500 ms"),
        (2, "2 s"),
        (90, "90 s"),
        (120, "2 min"),
        (7200, "2 h"),
        (86400 * 7, "7 d"),
    ],
)
def test_a_tick_is_labelled_in_its_own_unit(seconds, text):
    """A tick's label has one unit and no fraction it does not need."""
    assert words.tick_label(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(1, "1 byte"), (812, "812 bytes"), (12_300, "12 KB"), (1 << 20, "1.0 MB")]
)
def test_sizes_are_rounded_for_people(count, text):
    """A size is told in bytes, KB or MB."""
    assert words.size(count) == text


def test_moments_are_shown_in_the_current_time_zone():
    """Exact moments follow the active time zone and name it."""
    with timezone.override("Europe/Berlin"):
        assert words.exact(NOW) == "2026-11-24 22:10:20"
        assert words.precise(NOW) == "2026-11-24 22:10:20.114 CET"


def test_decimals_follow_the_language():
    """A language with a decimal comma gets one."""
    with translation.override("de"):
        assert words.duration(3.8) == "3,8 s"


@pytest.mark.parametrize("status", [*JobStatus.values, *TaskState.values, ""])
def test_each_status_has_a_sign(status):
    """No status is told by colour alone: each has a sign of its own."""
    assert words.icon(status) != "?"
    assert len({words.icon(one) for one in JobStatus.values}) == len(JobStatus.values)
