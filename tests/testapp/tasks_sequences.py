"""Sequences of the test app: one that counts, one that moves money."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db.models import F

from django_tasks_seq import TaskSequence, TaskSpec, register_sequence
from tests.testapp import chaos, hard_sequences, hostile  # noqa: F401 (declare more of them)
from tests.testapp.models import Account, Effect

if TYPE_CHECKING:
    from django_tasks_seq import TaskContext


def add_one(payload: dict[str, Any], context: TaskContext) -> dict[str, Any]:
    """Note the call and return the payload with `n` counted up."""
    Effect.objects.create(
        job_id=context.job_id,
        task_id=context.task_id,
        attempt=context.attempt,
        value=str(payload["n"]),
    )
    return {**payload, "n": payload["n"] + 1}


def withdraw(payload: dict[str, Any]) -> dict[str, Any]:
    """Take `amount` from the account `source`."""
    Account.objects.filter(pk=payload["source"]).update(balance=F("balance") - payload["amount"])
    return payload


def deposit(payload: dict[str, Any]) -> dict[str, Any]:
    """Give `amount` to the account `target`."""
    Account.objects.filter(pk=payload["target"]).update(balance=F("balance") + payload["amount"])
    return payload


count_up = register_sequence(
    TaskSequence(
        name="count_up",
        tasks=[("first", add_one), ("second", add_one), ("third", add_one)],
    )
)

transfer = register_sequence(
    TaskSequence(
        name="transfer",
        tasks=[
            TaskSpec("withdraw", withdraw, atomic=True),
            TaskSpec("deposit", deposit, atomic=True),
        ],
    )
)
