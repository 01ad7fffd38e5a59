"""What a notification says is nothing to a worker: it wakes, and looks into the tables."""

from typing import Any

import pytest
from django.db import connection

from django_tasks_seq import executor
from django_tasks_seq.cache.model.notifying import CHANNEL
from tests.engines import declare, engine
from tests.helpers import wait_until

pytestmark = pytest.mark.postgresql

STRANGE = ["", "{", "'; DROP TABLE x; --", "\u2028\x1b[2J", "y" * 7999]


def same(payload: Any) -> Any:
    return payload


def run_one() -> None:
    """Start a job, which nobody would look for by himself, and wait for its end."""
    job = executor.start_sequence("plain", 1)
    wait_until(lambda: job.refresh().is_settled, what="a job that is heard of")


def test_a_strange_notification_is_a_wake_up_like_any() -> None:
    """Whoever may connect may send anything: the listener goes on, and starts are heard behind it."""
    declare("plain", ("only", same))
    with engine(poll=600.0) as worker:
        wait_until(lambda: worker.engine.listener and worker.engine.listener._raw, what="LISTEN")
        run_one()
        for said in STRANGE:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, said])
            run_one()
