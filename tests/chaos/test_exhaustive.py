"""R16: all states of two workers and one job of two tasks, and bugs that must be found there."""

import pytest

from django_tasks_seq.transitions import JOB
from tests.chaos.exploration import ATTEMPT_AS_TOKEN, NO_RECHECK, NO_TOKEN, Found, explore
from tests.chaos.report import recorded

# Verbs that the model leaves out: a handler runs when the job is final, under a claim like any other.
HANDLERS = {"finish_handler", "retry_handler", "change_outcome"}


@pytest.fixture(scope="module")
def all_states() -> Found:
    return explore()


def test_no_order_of_events_breaks_a_promise(all_states: Found) -> None:
    """In every state that can be reached, all that must hold does, and the job can still end."""
    with recorded("R16 all states") as run:
        run.faults = "crashes, ended leases and people in every order"
        run.jobs, run.figures["states"] = 1, all_states.states
        print(f"{all_states.states:,} states")
        assert all_states.problem == "", "\n".join(all_states.trace)
        assert all_states.stuck == (), "it can never end any more"
        assert 1_000 < all_states.states < 1_000_000


def test_every_transition_of_the_table_happens_in_the_model(all_states: Found) -> None:
    """The model makes each move of transitions.py, from and to each status, and knows no other verb."""
    made = {verb for verb, _, _ in all_states.verbs}
    assert made == set(JOB) - HANDLERS

    for verb in made:
        sources = {old for name, old, _ in all_states.verbs if name == verb}
        targets = {new for name, _, new in all_states.verbs if name == verb}
        assert (verb, sources, targets) == (verb, set(JOB[verb].sources), set(JOB[verb].targets))


@pytest.mark.parametrize(
    ("bug", "problem"),
    [
        (NO_TOKEN, "is accepted, whose claim is lost"),
        (ATTEMPT_AS_TOKEN, "is accepted, whose claim is lost"),
        (NO_RECHECK, "rescue: "),
    ],
)
def test_a_seeded_bug_is_found(bug: str, problem: str) -> None:
    """A fence without the token, an attempt in its place, a rescuer that does not look again: each shows."""
    with recorded(f"R16 {bug}") as run:
        found = explore(bug)
        trace = [f"{number:3}. {label}" for number, label in enumerate(found.trace, 1)]
        print("\n".join([f"{bug}: {found.problem}", *trace]))
        run.faults, run.jobs = f"the bug is found in {len(trace)} steps", 1
        run.figures = {"problem": found.problem, "trace": list(found.trace)}
        assert problem in found.problem
        assert found.trace
