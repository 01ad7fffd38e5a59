"""Times and statuses as people read them; every word goes through gettext."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from django.utils import timezone
from django.utils.formats import number_format
from django.utils.functional import Promise
from django.utils.translation import gettext as _, ngettext, pgettext_lazy

from ..choices import JobStatus, TaskState

MINUTE, HOUR, DAY = 60, 3600, 86400

# U+FE0E keeps phones from drawing an emoji in its place.
ICONS: Final = {
    JobStatus.READY: "○",
    JobStatus.WAITING: "↻",
    JobStatus.RUNNING: "▶\ufe0e",
    JobStatus.PAUSED: "‖",
    JobStatus.SUCCESSFUL: "✓",
    JobStatus.FAILED: "✗",
    JobStatus.CANCELLED: "⊘",
    TaskState.SKIPPED: "↷",
    "": "○",
}
NOT_BEGUN: Final = pgettext_lazy("Task", "Not begun")
WAITS_TO_RETRY: Final = pgettext_lazy("Job", "Waiting to retry")


def icon(status: str) -> str:
    """The sign of a job's or a task's status; never the only thing that tells it."""
    return ICONS.get(status, "?")


def task_word(status: str) -> str | Promise:
    """The word for a task's status; "" is a task that has not begun."""
    return TaskState(status).label if status else NOT_BEGUN


def duration(seconds: float) -> str:
    """`800 ms`, `3.8 s`, `1 min 7 s`, `2 h 5 min`, `3 d 4 h`; below zero counts as zero."""
    seconds = max(seconds, 0)
    if seconds < 0.9995:
        return _("%(n)s ms") % {"n": round(seconds * 1000)}
    if seconds < 59.95:
        return _("%(n)s s") % {"n": number_format(round(seconds, 1), 1)}
    whole = round(seconds)
    if whole < HOUR:
        return _("%(min)s min %(s)s s") % {"min": whole // MINUTE, "s": whole % MINUTE}
    if whole < DAY:
        return _("%(h)s h %(min)s min") % {"h": whole // HOUR, "min": whole % HOUR // MINUTE}
    return _("%(d)s d %(h)s h") % {"d": whole // DAY, "h": whole % DAY // HOUR}


def between(start: datetime | None, end: datetime | None) -> str:
    """The time between two moments as `duration`, or a dash when one is unknown."""
    return duration((end - start).total_seconds()) if start and end else "—"


def ago(moment: datetime, now: datetime) -> str:
    """`13 s ago`, `2 minutes ago`, `3 hours ago`, `4 days ago`; the future is `now`."""
    seconds = int((now - moment).total_seconds())
    if seconds < 1:
        return _("now")
    if seconds < MINUTE:
        return _("%(n)s s ago") % {"n": seconds}
    if seconds < HOUR:
        n = seconds // MINUTE
        return ngettext("%(n)s minute ago", "%(n)s minutes ago", n) % {"n": n}
    if seconds < DAY:
        n = seconds // HOUR
        return ngettext("%(n)s hour ago", "%(n)s hours ago", n) % {"n": n}
    n = seconds // DAY
    return ngettext("%(n)s day ago", "%(n)s days ago", n) % {"n": n}


def size(count: int) -> str:
    """`812 bytes`, `12 KB`, `1.0 MB`."""
    if count < 1024:
        return ngettext("%(n)s byte", "%(n)s bytes", count) % {"n": count}
    if count < 1024 * 1024:
        return _("%(n)s KB") % {"n": count // 1024}
    return _("%(n)s MB") % {"n": number_format(round(count / 1024 / 1024, 1), 1)}


def exact(moment: datetime) -> str:
    """A moment to the second, in the current time zone: `2026-11-23 21:12:35`."""
    return f"{moment.astimezone(timezone.get_current_timezone()):%Y-%m-%d %H:%M:%S}"


def precise(moment: datetime) -> str:
    """A moment to the millisecond, with its zone: `2026-11-23 21:12:35.114 UTC`."""
    local = moment.astimezone(timezone.get_current_timezone())
    return f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03d} {local:%Z}"


def tick_label(seconds: float) -> str:
    """A round time below an axis: `500 ms`, `2 s`, `15 min`, `6 h`, `7 d`."""
    if 0 < seconds < 1:
        return _("%(n)s ms") % {"n": f"{seconds * 1000:g}"}
    for unit, text in ((DAY, _("%(n)s d")), (HOUR, _("%(n)s h")), (MINUTE, _("%(n)s min"))):
        if seconds >= unit and seconds % unit == 0:
            return text % {"n": f"{seconds / unit:g}"}
    return _("%(n)s s") % {"n": f"{seconds:g}"}
