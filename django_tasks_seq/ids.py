"""Job ids: UUIDv7 (RFC 9562), made in Python so that an id is known before the commit."""

from __future__ import annotations

import os
import threading
from uuid import UUID

from . import clock

_lock = threading.Lock()
_last_ms = 0
_counter = 0


def short_id(job_id: UUID | str) -> str:
    """The last eight digits of a job's id; the first are the same for all jobs of a minute.

    >>> short_id("01a20c5d-3370-7000-830f-e72de635d053")
    'e635d053'
    """
    return str(job_id)[-8:]


def uuid7() -> UUID:
    """A UUIDv7 that sorts after every other made by this process.

    The 12 bits after the version are a counter within the millisecond (RFC 9562 method 1); when they
    run out the millisecond is counted up, as the RFC allows.

    >>> uuid7() < uuid7()
    True
    """
    global _last_ms, _counter  # noqa: PLW0603
    with _lock:
        ms = clock.unix_milliseconds()
        if ms > _last_ms:
            _last_ms, _counter = ms, 0
        else:
            _counter += 1
            if _counter > 0xFFF:
                _last_ms, _counter = _last_ms + 1, 0
        head = (_last_ms << 16) | 0x7000 | _counter
    tail = (int.from_bytes(os.urandom(8), "big") & 0x3FFFFFFFFFFFFFFF) | 0x8000000000000000
    return UUID(int=(head << 64) | tail)
