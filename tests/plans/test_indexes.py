"""Each index is there for a look that would read the whole table without it: these tests see that."""

import pytest
from django.db.backends.base.base import BaseDatabaseWrapper

from tests.plans import verbs
from tests.plans.reading import explain, sent

NEEDED = {
    verbs.CLAIM: ("one queue", "several queues", "all queues"),
    verbs.WAITING: ("look", "promote"),
    verbs.LEASE: ("look", "rescue"),
    verbs.HANDLER: ("look", "handlers"),
    verbs.RESEND: ("look", "sweep"),
    verbs.ENDED: ("prune",),
}


@pytest.mark.parametrize("index", NEEDED)
def test_without_its_index_a_look_is_found_out(connection: BaseDatabaseWrapper, index: str) -> None:
    """An index that is dropped, or not entered any more, fails the tests of what goes through it."""
    every = {**verbs.claims(), **verbs.upkeep(), **verbs.pruning()}
    some = {name: every[name] for name in NEEDED[index]}
    assert verbs.faults(connection, some) == {}

    with connection.cursor() as cursor:
        cursor.execute(f"DROP INDEX {index}")

    assert {name.partition(",")[0] for name in verbs.faults(connection, some, run=False)} == set(
        some
    )
    named = {
        name: [explain(connection, one) for one in sent(connection, some[name].call)]
        for name in some
    }
    assert not [plan for plans in named.values() for plan in plans if index in plan.text]
