"""Finding a job by what people have of its id: the beginning (logs) or the end (the list)."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from django.db.models import Q

_DIGITS: Final = re.compile("[0-9a-f]{4,32}")
LAST_DIGITS: Final = 8


def id_lookups(term: str) -> Q | None:
    """A condition on `id`, or None when *term* cannot be a part of one.

    The beginning is looked for as a range, so that the primary key serves on every database.
    """
    digits = term.lower().replace("-", "")
    if not _DIGITS.fullmatch(digits):
        return None
    first, last = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    begins = Q(id__gte=first, id__lte=last)
    return begins | Q(id__iendswith=digits) if len(digits) == LAST_DIGITS else begins
