"""The work: five tasks that do nothing and return about 120 bytes."""

from typing import Any, Final

from django_tasks_seq import TaskSequence, register_sequence

SEQUENCE: Final = "noop"
TASKS: Final = 5
FILLER: Final = "x" * 96


def noop(payload: dict[str, Any]) -> dict[str, Any]:
    """Count on, so that the last result proves that each task got what the one before returned."""
    return {"text": FILLER, "count": payload["count"] + 1}


register_sequence(TaskSequence(SEQUENCE, tasks=[(f"task_{n}", noop) for n in range(TASKS)]))
