"""The group commit is a nested loop over primary keys, whatever the planner has been told."""

import pytest
from django.db import connection as default
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.plans import verbs
from tests.plans.reading import sent, steps
from tests.plans.statistics import SMALL, states

SIZES = [1, 8, 128, 512]
MODES = ["", "force_generic_plan", "force_custom_plan"]


def commit(number: int) -> dict[str, verbs.Verb]:
    """Outcomes of so many jobs, half of which end by them."""
    writes = verbs.checkpoints(verbs.claimed(number))
    return {"commit": verbs.Verb(lambda: verbs.STORE.apply(writes, "worker"), number)}


@pytest.mark.parametrize("number", SIZES)
def test_a_group_commit_reads_its_jobs_by_primary_key(
    connection: BaseDatabaseWrapper, number: int
) -> None:
    """Each job once for the fence, and again if it ends; no task row is looked for but in the insert."""
    verb = commit(number)["commit"]
    assert sent(connection, verb.call)

    assert verbs.faults(connection, {"commit": verb}) == {}


@pytest.mark.sqlite
@pytest.mark.parametrize("number", SIZES)
def test_a_group_commit_takes_few_steps(connection: BaseDatabaseWrapper, number: int) -> None:
    """So many instructions of SQLite's machine for each job."""
    verb = commit(number)["commit"]

    assert steps(connection, verb.call) < verb.steps


@pytest.mark.parametrize("number", SIZES)
def test_a_group_commit_is_planned_alike_whatever_the_statistics_say(
    connection: BaseDatabaseWrapper, number: int
) -> None:
    """No statistics, those of an empty table, of other days, and mere lies; prepared or not."""
    modes = MODES if default.vendor == "postgresql" else [""]
    given = states(default.vendor)

    assert verbs.faults(connection, commit(number), given, modes, run=False) == {}


@pytest.mark.postgresql
@pytest.mark.parametrize("number", SIZES)
def test_a_group_commit_does_not_scan_small_tables(
    connection: BaseDatabaseWrapper, number: int
) -> None:
    """A plain join with the jobs would read all of them for each commit while they are thousands."""
    given = [SMALL]

    assert verbs.faults(connection, commit(number), given, MODES, run=False) == {}
