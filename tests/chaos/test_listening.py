"""R5: the session that listens is ended, or half-open, or deaf: wake-ups come back, polls go on."""

import time
from typing import Any

import pytest
from django.db import connection

from django_tasks_seq import executor, registry
from django_tasks_seq.cache.model.notifying import CHANNEL
from django_tasks_seq.models import Job
from tests.chaos.proxy import Proxy
from tests.chaos.report import recorded
from tests.chaos.sizes import sizes
from tests.chaos.test_database_faults import end_sessions, reached_by
from tests.engines import EngineThread, declare
from tests.helpers import DEADLINE, wait_until

pytestmark = [
    pytest.mark.postgresql,
    pytest.mark.django_db(transaction=True, databases="__all__"),
]

# Seconds. Each second a worker says or asks something, so that it meets a session that is gone.
LEASE, POLL = 2.0, 1.0
PROMPT, BACK, LATE = 0.25, 5.0, 0.2
SLACK = sizes().pick(cut=3.0, full=1.0)
MEGABYTE = 1024 * 1024 - 200


def same(payload: Any) -> Any:
    return None


def seconds_to_run(payload: Any = None) -> float:
    """From the commit of a start until its job has ended, on an idle worker."""
    job = executor.start_sequence("heard", payload)
    begun = time.monotonic()
    wait_until(lambda: job.refresh().status == "SUCCESSFUL", what="the end of a job")
    return time.monotonic() - begun


def until_prompt() -> float:
    """Seconds until three starts in a row wake the worker at once."""
    begun, in_a_row = time.monotonic(), 0
    while in_a_row < 3:
        assert time.monotonic() - begun < DEADLINE, "wake-ups do not come back"
        in_a_row = in_a_row + 1 if seconds_to_run() < PROMPT else 0
    return time.monotonic() - begun


def test_wake_ups_come_back_whatever_happens_to_the_session(seed: int) -> None:
    """Ended and half-open sessions in turn: each time starts wake the worker again within 5 s."""
    server = connection.settings_dict
    rounds = sizes().pick(cut=1, full=10)
    back: list[float] = []
    with (
        registry.isolated(),
        Proxy(server["HOST"], int(server["PORT"])) as proxy,
        recorded("R5", seed=seed) as run,
    ):
        declare("heard", ("only", same))
        with reached_by(HOST="127.0.0.1", PORT=proxy.port):
            one = EngineThread(name="heard:1", lease=LEASE, poll=POLL)
            try:
                wait_until(lambda: one.engine.listener and one.engine.listener._raw, what="LISTEN")
                until_prompt()
                for _ in range(rounds):
                    assert end_sessions()
                    back.append(until_prompt())
                    # The engine's, and no task's: its task asks the database nothing.
                    assert proxy.swallow()
                    back.append(until_prompt())
                prompt = sorted(seconds_to_run({"x": "y" * MEGABYTE}) for _ in range(5))
            finally:
                code = one.stop()
        run.jobs, run.recovery_p99 = Job.objects.count(), max(back)
        run.faults = {"sessions ended": rounds, "half-open": proxy.faults["half-open"]}
        run.figures["wake-up of 1 MB, median"] = round(prompt[2], 3)
        assert code == 0
        assert proxy.faults["half-open"] >= rounds
        assert max(back) < BACK + SLACK


def test_any_notification_wakes_and_none_breaks() -> None:
    """A payload of anybody's, as long as it may be, and starts in bulk: the worker listens on."""
    with registry.isolated():
        declare("heard", ("only", same))
        one = EngineThread(name="heard:1", poll=600.0)
        try:
            wait_until(lambda: one.engine.listener and one.engine.listener._raw, what="LISTEN")
            for payload in ("", "{not JSON", "'; DROP TABLE x; --", "x" * 7999):
                with connection.cursor() as cursor:
                    cursor.execute("SELECT pg_notify(%s, %s)", [CHANNEL, payload])
            executor.start_many("heard", [{"x": "y" * 1000}] * 500)
            left = Job.objects.exclude(status="SUCCESSFUL")
            wait_until(lambda: not left.exists(), what="the end of all, without a poll")
            assert seconds_to_run() < DEADLINE
        finally:
            assert one.stop() == 0


def test_who_hears_nothing_polls() -> None:
    """Notifications are dropped, as behind a pooler: every job runs at the next poll at the latest."""
    server = connection.settings_dict
    with registry.isolated(), Proxy(server["HOST"], int(server["PORT"])) as proxy:
        declare("heard", ("only", same))
        proxy.is_deaf = True
        with reached_by(HOST="127.0.0.1", PORT=proxy.port), recorded("R5 deaf") as run:
            one = EngineThread(name="deaf:1", lease=LEASE, poll=POLL)
            try:
                wait_until(lambda: one.engine.listener and one.engine.listener._raw, what="LISTEN")
                waited = [seconds_to_run() for _ in range(sizes().pick(cut=3, full=10))]
            finally:
                one.stop()
            run.jobs, run.recovery_p99 = len(waited), max(waited)
            run.faults = dict(proxy.faults)
            assert proxy.faults["notifications dropped"]
            assert max(waited) < POLL + LATE + SLACK
