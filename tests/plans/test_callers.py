"""What web processes and pruning ask of large tables goes through an index."""

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.plans import verbs
from tests.plans.history import JOB
from tests.plans.reading import explain, sent, steps

NAMES = [
    "start with a key",
    "starts with keys",
    "wait",
    "results",
    "failure",
    "cancel",
    "consumer's claim",
    "prune",
]


def named(name: str) -> verbs.Verb:
    return {**verbs.callers(), **verbs.pruning()}[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_caller_reads_the_jobs_that_it_names(connection: BaseDatabaseWrapper, name: str) -> None:
    """Starting with a key that is there, waiting, reading, repairing and pruning scan no table."""
    verb = named(name)
    plans = [explain(connection, statement) for statement in sent(connection, verb.call)]

    assert set(verb.indexes) <= {index for plan in plans for index in plan.indexes(JOB)}
    assert verbs.faults(connection, {name: verb}) == {}


@pytest.mark.sqlite
@pytest.mark.parametrize("name", NAMES)
def test_a_caller_takes_few_steps(connection: BaseDatabaseWrapper, name: str) -> None:
    """SQLite's machine runs as many instructions as there are jobs in question."""
    verb = named(name)

    assert steps(connection, verb.call) < verb.steps
