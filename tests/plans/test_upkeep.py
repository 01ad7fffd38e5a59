"""What a worker asks each second reads what is due, whatever has ended and whatever waits."""

import pytest
from django.db import connection as default
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.plans import verbs
from tests.plans.history import JOB
from tests.plans.reading import explain, sent, steps
from tests.plans.statistics import states

UPKEEP = verbs.upkeep()
PREPARED = ["force_generic_plan"]
# Asked only by `--until-empty`, when nothing else is due.
SELDOM = {"next due", "next due of queues"}


@pytest.mark.parametrize("name", UPKEEP)
def test_upkeep_names_its_indexes(connection: BaseDatabaseWrapper, name: str) -> None:
    """With 100,000 jobs that have ended and 300,000 due later each look has its own index."""
    verb = UPKEEP[name]
    plans = [explain(connection, statement) for statement in sent(connection, verb.call)]

    assert set(verb.indexes) <= {index for plan in plans for index in plan.indexes(JOB)}
    assert verbs.faults(connection, {name: verb}) == {}


@pytest.mark.sqlite
@pytest.mark.parametrize("name", UPKEEP)
def test_upkeep_takes_few_steps(connection: BaseDatabaseWrapper, name: str) -> None:
    """SQLite's machine runs as many instructions as there are jobs to do something about."""
    assert steps(connection, UPKEEP[name].call) < UPKEEP[name].steps


def test_upkeep_reads_what_is_due_whatever_the_statistics_say(
    connection: BaseDatabaseWrapper,
) -> None:
    """Neither what has ended nor what waits is read, be the statistics old, none or of other days."""
    often = {name: verb for name, verb in UPKEEP.items() if name not in SELDOM}

    assert verbs.faults(connection, often, states(default.vendor)) == {}


@pytest.mark.postgresql
def test_prepared_upkeep_reads_what_is_due(connection: BaseDatabaseWrapper) -> None:
    """With parameters that the planner does not see."""
    bound = {name: verb for name, verb in UPKEEP.items() if name != "look" and name not in SELDOM}
    some = ["as it is", "never analyzed", "all had ended"]

    assert verbs.faults(connection, bound, some, PREPARED) == {}


def test_what_is_asked_about_512_jobs_in_hand_reads_these_jobs(
    connection: BaseDatabaseWrapper,
) -> None:
    """Ticks, renewals, RUNNING rows, releases: by primary key, each row once or twice."""
    assert verbs.faults(connection, verbs.in_hand()) == {}


@pytest.mark.sqlite
def test_what_is_asked_about_512_jobs_in_hand_takes_few_steps(
    connection: BaseDatabaseWrapper,
) -> None:
    """A tick on SQLite does not read the table to find the jobs in hand."""
    in_hand = verbs.in_hand()
    taken = {name: steps(connection, verb.call) for name, verb in in_hand.items()}

    assert {name: taken[name] for name, verb in in_hand.items() if taken[name] > verb.steps} == {}


def test_jobs_in_hand_are_looked_up_by_key_whatever_the_statistics_say(
    connection: BaseDatabaseWrapper,
) -> None:
    """A worker with hundreds of jobs renews their leases at the same cost in a new database."""
    in_hand, vendor = verbs.in_hand(), default.vendor
    modes = ["", *PREPARED] if vendor == "postgresql" else [""]

    assert verbs.faults(connection, in_hand, states(vendor), modes, run=False) == {}
