"""The transitions table: what the engine and people may write, and the page that says so."""

import re
from pathlib import Path

import pytest

from django_tasks_seq import TasksSeqError, TaskStatusManager
from django_tasks_seq.cache.changes import Claim
from django_tasks_seq.choices import FINAL, JobStatus, TaskState
from django_tasks_seq.ids import uuid7
from django_tasks_seq.transitions import JOB, TASK, Transition

PAGE = Path(__file__).resolve().parent.parent.parent / "docs" / "reference" / "statuses.md"


def table(heading: str) -> dict[str, tuple[set[str], set[str]]]:
    """Verb → (from, to) of the table under *heading* of the page."""
    section = PAGE.read_text().split(f"## {heading}\n")[1].split("\n## ")[0]
    found = {}
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("| `"):
            found[cells[0].strip("`")] = (words(cells[1]), words(cells[2]))
    return found


def words(cell: str) -> set[str]:
    return set(re.findall(r"[A-Z]{4,}", cell))


@pytest.mark.parametrize(("heading", "transitions"), [("Jobs", JOB), ("Tasks", TASK)])
def test_the_page_is_the_table(heading: str, transitions: dict[str, Transition]) -> None:
    """docs/reference/statuses.md names every verb with exactly its statuses."""
    wanted = {verb: (set(t.sources), set(t.targets)) for verb, t in transitions.items()}

    assert table(heading) == wanted


def test_every_status_is_explained_on_the_page() -> None:
    """The page has a line for each status of a job and of a task."""
    text = PAGE.read_text()

    for status in [*JobStatus.values, *TaskState.values]:
        assert f"\n| {status} |" in text


def test_a_final_job_is_left_by_people_and_error_handlers_alone() -> None:
    """Nothing but retry, skip and an error handler's verdict leads out of a final status."""
    leaving = {
        verb
        for verb, transition in JOB.items()
        if set(transition.sources) & set(FINAL) and set(transition.targets) - set(FINAL)
    }

    assert leaving == {"retry", "retry_from", "skip", "change_outcome"}


def test_every_status_can_be_reached_and_left() -> None:
    """No status of a job is a dead end, and each but READY is some verb's target."""
    sources = {status for transition in JOB.values() for status in transition.sources}
    targets = {status for transition in JOB.values() for status in transition.targets}

    assert sources == targets == set(JobStatus.values)


def test_the_manager_refuses_what_its_table_does_not_have() -> None:
    """A verb that would lead to a status the table does not give it raises, whatever called it."""
    claim = Claim(uuid7(), 1, "probe", 1, ("t1",), "default", None, None)

    with pytest.raises(TasksSeqError, match=r"release of job .* cannot lead to SUCCESSFUL"):
        TaskStatusManager()._under(claim, "release", {"status": JobStatus.SUCCESSFUL})
