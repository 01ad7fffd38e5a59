"""A mistake of ours ends an engine: what it knows of is given back, and not left to its leases."""

from typing import Any

import pytest

from django_tasks_seq import executor
from django_tasks_seq.cache.model import group_commit
from django_tasks_seq.models import JobEvent, TaskStatus
from tests.engines import EngineThread, declare


def same(payload: Any) -> Any:
    return payload


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_job_whose_outcome_was_at_hand_is_given_back(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its outcome is committed, and then it is released: another worker goes on at once."""
    declare("lines", ("a", same), ("b", same))
    job = executor.start_sequence("lines", {})
    commit, calls = group_commit.commit, []

    def breaks(*args: Any) -> Any:
        calls.append(args)
        if len(calls) > 1:
            return commit(*args)
        if when == "after":
            commit(*args)
        raise RuntimeError("a mistake of ours")

    monkeypatch.setattr(group_commit, "commit", breaks)
    with pytest.raises(RuntimeError, match="a mistake of ours"):
        EngineThread(name="one:1").thread.result()

    assert job.refresh().status == "READY"
    assert list(TaskStatus.objects.values_list("task_id", "status")) == [("a", "SUCCESSFUL")]
    assert not JobEvent.objects.exists()
