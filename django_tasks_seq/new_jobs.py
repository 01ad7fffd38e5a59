"""From what a view says to a row that can be added; all that is wrong is refused before any SQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import models

from .cache.changes import NOW, Moment, NewJob
from .conf import get_config
from .exceptions import IdempotencyConflict
from .handlers import start_handler_for
from .ids import uuid7
from .payload_types import check_payload_type
from .payloads import decode, encode
from .sequences import TaskSequence

NOTHING = "Nothing was started."
PRIORITY_LIMIT = 100
LATEST = 100 * 365 * 86_400.0
EARLIEST_YEAR = 1000
TEXT_LIMIT = 200
QUEUE_LIMIT = 100


def new_job(
    sequence: TaskSequence,
    payload: Any,
    *,
    queue: str | None,
    priority: int,
    run_after: datetime | timedelta | None,
    idempotency_key: str | None,
    subject: models.Model | None,
    created_by: Any,
    name: str = "payload",
) -> NewJob:
    """A checked `NewJob`; raises InvalidPayload, TypeError or ValueError and says what is wrong."""
    if sequence.payload_type is not None:
        payload = check_payload_type(sequence, payload)
    text = encode(payload, name=name, ending=NOTHING)
    subject_type, subject_id, subject_label = _subject(subject)
    carried = start_handler_for(sequence).carried
    return NewJob(
        id=uuid7(),
        sequence=sequence.name,
        version=sequence.version,
        plan=_plan(sequence.plan),
        queue=_text("queue", queue or get_config().default_queue, QUEUE_LIMIT),
        priority=_priority(priority),
        payload=text,
        carried=carried,
        due=_due(run_after),
        idempotency_key=_key(idempotency_key),
        subject_type=subject_type,
        subject_id=subject_id,
        subject_label=subject_label,
        created_by=_clip(str(created_by)) if created_by else "",
        resend_after=get_config().resend_seconds if carried else None,
    )


def refuse_conflicts(jobs: Sequence[Any], new: Sequence[NewJob]) -> None:
    """Raise IdempotencyConflict where a key had started a job with another payload."""
    for job, wanted in zip(jobs, new, strict=True):
        if not job.was_started and _sorted(job.payload) != _sorted(decode(wanted.payload)):
            raise IdempotencyConflict(wanted.sequence, wanted.idempotency_key or "", job.id)


def _sorted(payload: Any) -> str:
    """As text, in which `1` is not `True`; the order of keys does not matter."""
    return json.dumps(payload, sort_keys=True)


@lru_cache(maxsize=1024)
def _plan(plan: tuple[str, ...]) -> str:
    return json.dumps(plan, ensure_ascii=False)


def _due(run_after: Any) -> Any:
    if run_after is None:
        return NOW
    if isinstance(run_after, timedelta):
        if run_after.total_seconds() > LATEST:
            raise ValueError(f"run_after is {run_after}: give at most a hundred years. {NOTHING}")
        return Moment(max(0.0, run_after.total_seconds()))
    if isinstance(run_after, datetime) and run_after.tzinfo is not None:
        return _in_range(run_after)
    what = "a datetime without a time zone" if isinstance(run_after, datetime) else repr(run_after)
    raise ValueError(
        f"run_after is {what}: give an aware datetime (timezone.make_aware(...)) or a timedelta."
        f" {NOTHING}"
    )


def _in_range(run_after: datetime) -> datetime:
    try:
        found = run_after.astimezone(UTC)
    except OverflowError:
        found = datetime.min.replace(tzinfo=UTC)
    # SQLite compares text, which needs four digits.
    if found.year < EARLIEST_YEAR:
        raise ValueError(f"run_after is {run_after!r}, which is out of range. {NOTHING}")
    return found


def _priority(priority: Any) -> int:
    if type(priority) is not int or not -PRIORITY_LIMIT <= priority <= PRIORITY_LIMIT:
        raise ValueError(
            f"priority is {priority!r}: give a whole number from -100 to 100. {NOTHING}"
        )
    return priority


def _key(key: str | None) -> str | None:
    return None if key is None else _text("idempotency_key", str(key), TEXT_LIMIT)


def _text(name: str, value: Any, limit: int) -> str:
    if not isinstance(value, str) or not 1 <= len(value) <= limit:
        raise ValueError(
            f"{name} is {value!r:.80}: give a text of 1 to {limit} characters. {NOTHING}"
        )
    if value != storable(value):
        raise ValueError(f"{name} {value!r:.80} has characters that cannot be stored. {NOTHING}")
    return value


def _subject(subject: Any) -> tuple[str, str, str]:
    if subject is None:
        return "", "", ""
    if not isinstance(subject, models.Model) or subject.pk is None:
        raise ValueError(f"subject is {subject!r:.80}: give a saved model instance. {NOTHING}")
    return subject._meta.label_lower, _clip(str(subject.pk)), _clip(str(subject))


def _clip(text: str) -> str:
    return storable(text)[:TEXT_LIMIT]


def storable(text: str) -> str:
    """*text* without what no column takes: NUL, and lone surrogates."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
