"""Workers that follow one another under one name: host and pid say nothing about who holds a job."""

from typing import Any

from django_tasks_seq import executor
from django_tasks_seq.engine.options import EngineOptions
from django_tasks_seq.models import JobEvent, Worker
from django_tasks_seq.testing import advance
from tests.engines import STORE, declare, engine
from tests.helpers import wait_until

NAME = "shop-1:1"  # a container's only process has the same pid after each restart


def same(payload: Any) -> Any:
    return payload


def test_a_worker_does_not_keep_the_jobs_of_a_dead_one_of_its_name() -> None:
    """The new one renews nothing that it has not claimed itself, and rescues what the dead one held."""
    declare("plain", ("only", same))
    held = executor.start_sequence("plain", 1)
    dead = STORE.enter(EngineOptions(name=NAME).introduction())
    (claim,) = STORE.claim((), 1, 60.0, dead)
    assert claim.job_id == held.pk

    with engine(name=NAME) as worker:
        other = executor.start_sequence("plain", 2)
        wait_until(lambda: other.refresh().is_settled, what="a job of its own")
        assert held.refresh().status == "RUNNING"
        advance(61)
        wait_until(lambda: held.refresh().is_settled, what="the rescue")
        assert worker.engine.claiming.worker_id != dead

    assert held.status == "SUCCESSFUL"
    assert JobEvent.objects.get().kind == "lost"
    assert Worker.objects.filter(name=NAME).count() == 2
