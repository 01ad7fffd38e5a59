"""A claim enters the claim's index and reads its batch, whatever the history and the backlog."""

import pytest
from django.db import connection as default
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.plans import verbs
from tests.plans.history import JOB, TASK
from tests.plans.reading import PRIMARY, explain, sent, steps
from tests.plans.statistics import UNHEARD, states

CLAIMS = verbs.claims()
# Asked for what is not there, it finds that out by the same index and writes nothing.
FULL = {name: verb for name, verb in CLAIMS.items() if verb.batch}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_names_its_index(connection: BaseDatabaseWrapper, name: str) -> None:
    """With 100,000 jobs that have ended and 300,000 due later, for one queue, several and all."""
    plans = [explain(connection, statement) for statement in sent(connection, CLAIMS[name].call)]

    assert {index for plan in plans for index in plan.indexes(JOB)} == {verbs.CLAIM, PRIMARY}
    assert {index for plan in plans for index in plan.indexes(TASK)} == {PRIMARY}


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_reads_twice_its_batch(connection: BaseDatabaseWrapper, name: str) -> None:
    """Each job that it takes is read in the index and again to be written, and no other is read."""
    assert verbs.faults(connection, {name: CLAIMS[name]}) == {}


@pytest.mark.postgresql
@pytest.mark.parametrize("name", FULL)
def test_a_claim_reads_few_pages(connection: BaseDatabaseWrapper, name: str) -> None:
    """Entries of the index that lead to nothing would show as pages, if not as rows."""
    verb = FULL[name]
    plans = [explain(connection, statement) for statement in sent(connection, verb.call)]

    assert max(read.pages for plan in plans for read in plan.reads) < 10 + 6 * verb.batch


@pytest.mark.sqlite
@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_takes_few_steps(connection: BaseDatabaseWrapper, name: str) -> None:
    """SQLite tells no rows; its machine's instructions are so many for each job that is taken."""
    assert steps(connection, CLAIMS[name].call) < CLAIMS[name].steps


def test_a_claim_reads_the_same_whatever_the_statistics_say(
    connection: BaseDatabaseWrapper,
) -> None:
    """Before the first ANALYZE, after one of an empty table, after one when no job was READY."""
    some = {name: FULL[name] for name in ("one queue", "one job", "all queues")}

    assert verbs.faults(connection, some, states(default.vendor)) == {}


@pytest.mark.postgresql
def test_a_claim_reads_its_batch_in_order_from_a_backlog_that_is_news(
    connection: BaseDatabaseWrapper,
) -> None:
    """READY jobs that no ANALYZE has seen are not collected and sorted for each claim."""
    one = {"one queue": FULL["one queue"]}

    assert verbs.faults(connection, one, UNHEARD, rows=one["one queue"].rows) == {}


@pytest.mark.postgresql
@pytest.mark.parametrize("mode", ["force_generic_plan", "force_custom_plan"])
def test_a_prepared_claim_reads_its_batch(connection: BaseDatabaseWrapper, mode: str) -> None:
    """With parameters bound by the server, known to the planner or not."""
    some = ["as it is", "never analyzed", "all had ended"]

    assert verbs.faults(connection, FULL, some, [mode]) == {}
