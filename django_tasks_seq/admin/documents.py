"""Payloads and results as they may be shown: masked, indented, cut."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from django.db.models import Case, F, When
from django.db.models.functions import Length

from ..conf import get_config
from ..fields import JSONTextField
from ..models import Job, TaskStatus
from ..payloads import preview, redact
from .words import size

RESULT_LENGTH: Final = 8 * 1024
PAYLOAD_LENGTH: Final = 64 * 1024
CELL_LENGTH: Final = 80
NAMES: Final = ("payload", "result", "error_result")


@dataclass(frozen=True, slots=True)
class Document:
    """JSON as it may be shown: in short, and in full; *omitted* says how large it is when cut."""

    short: str = ""
    text: str = ""
    omitted: str = ""
    is_cut: bool = False


def results_of(job: Job) -> dict[str, Document]:
    """Results by task; one that is too long is not even read."""
    is_short = When(result_length__lte=RESULT_LENGTH, then=F("result"))
    rows = (
        TaskStatus.objects.filter(job=job, result__isnull=False)
        .annotate(result_length=Length("result"))
        .annotate(short=Case(is_short, default=None, output_field=JSONTextField(null=True)))
        .values_list("task_id", "short", "result_length")
    )
    return {
        task_id: document(value) if length <= RESULT_LENGTH else Document(omitted=size(length))
        for task_id, value, length in rows
    }


def documents_of(job: Job) -> dict[str, Document]:
    """Payload, result and error result of a job, those that it has."""
    values = Job.objects.filter(pk=job.pk).values(*NAMES)[0]
    return {
        name: document(value, PAYLOAD_LENGTH) for name, value in values.items() if value is not None
    }


def document(value: Any, limit: int = RESULT_LENGTH) -> Document:
    """*value* with its `REDACT_KEYS` masked, as at most *limit* characters of indented JSON."""
    masked = redact(value, get_config().redact_keys)
    text = _shown(json.dumps(masked, ensure_ascii=False, indent=2))
    short = _shown(preview(masked, CELL_LENGTH))
    if len(text) > limit:
        return Document(short, f"{text[:limit]}…", size(len(text)), is_cut=True)
    return Document(short, text, is_cut=short.endswith("…"))


def _shown(text: str) -> str:
    """Without lone surrogates, which no page can hold: another writer's rows may have some."""
    return text.encode("utf-8", "replace").decode()
